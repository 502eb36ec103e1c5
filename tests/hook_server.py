"""A real HTTP server that takes webhooks, or does what else servers do."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hook:
    """A server that keeps what it got: (path, headers, body). plan: what it does with the requests,
    one after the other, the last one for all that follow: a status, or a function of the handler;
    connections: how many were made."""

    def __init__(self, *plan: Any, tls: ssl.SSLContext | None = None):
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.connections = 0
        hook, left = self, list(plan or [200])

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                hook.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook.got.append((self.path, headers, json.loads(body)))
                step = left.pop(0) if len(left) > 1 else left[0]
                if callable(step):
                    step(self)
                else:
                    answer(self, step)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Clients hang up: nothing to print."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def indices(self) -> list[int]:
        return [body["index"] for _, _, body in self.got]


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"ok", **headers) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def hook(*plan: Any, **options: Any) -> Iterator[Hook]:
    made = Hook(*plan, **options)
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        made.thread.join(10)
