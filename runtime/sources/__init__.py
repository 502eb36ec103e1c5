"""Where pictures come from: one file each, in a table by the type a configuration names."""

from collections.abc import Iterator
from threading import Event
from typing import Any, Protocol

from runtime.errors import UserError
from runtime.model import explained_imports, load_entry
from runtime.pipeline.frames import Capture
from runtime.sources.options import SourceOptions


class SourceLostError(Exception):
    """A source does not give pictures now, but may again: one line that says why, with no secret
    in it."""


class Source(Protocol):
    """A source, used by one thread.

    live: pictures come when they come, so the newest counts and the end means that it was lost;
    else none may be dropped, and the end is the end.
    """

    live: bool

    def captures(self, stop: Event) -> Iterator[Capture | None]:
        """Connect, and give pictures until stop is set or there are no more; None says that it is
        connected and has nothing yet. May be called again
        after it ended; whatever it opened is closed when the iterator is. No wait in it is longer
        than the source's own timeouts, and none goes on for more than a second after stop was set,
        where that can be helped.

        Raises SourceLostError where there is nothing to connect to, or a live source is lost;
        UserError where trying again is of no use.
        """


SOURCES = {
    "files": "runtime.sources.files:FilesSource",
    "camera": "runtime.sources.camera:CameraSource",
    "rtsp": "runtime.sources.rtsp:RtspSource",
    "command": "runtime.sources.command:CommandSource",
    "mqtt": "runtime.sources.mqtt:MqttSource",
}
"""Each is a class that takes its options and the board's name."""


def open_source(options: SourceOptions, board: str) -> Source:
    """The source of that type; it connects when its captures are asked for. Raises UserError."""
    kind: Any = options
    if kind.type not in SOURCES:
        raise UserError(f"no source is of type {kind.type}: choose {', '.join(SOURCES)}")
    with explained_imports(f"a source of type {kind.type} needs"):
        return load_entry(SOURCES[kind.type])(options, board)
