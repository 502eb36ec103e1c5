"""A network camera for the tests: GStreamer's RTSP server, which loops the demo video."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import Server, free_port

TESTS = Path(__file__).resolve().parent
VIDEO = TESTS.parent / "models" / "demo" / "shapes.mp4"


@contextmanager
def rtsp_server(folder: Path, *options: str) -> Iterator[Server]:
    """A running server. options: of rtsp_server.py, such as --user and --password."""
    port = free_port()
    # the system's Python, for GStreamer's bindings come with the system
    command = ["/usr/bin/python3", str(TESTS / "rtsp_server.py"), str(port), str(VIDEO)]
    server = Server([*command, str(folder / "frames"), *options], port, folder / "rtsp.log")
    server.start()
    try:
        yield server
    finally:
        server.kill()
