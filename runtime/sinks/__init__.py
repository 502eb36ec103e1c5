"""Where results go: one file each, in a table by the type a configuration names."""

from typing import Any, Protocol

from runtime.errors import UserError
from runtime.model import explained_imports, load_entry
from runtime.pipeline.frames import Result
from runtime.sinks.options import SinkOptions


class SinkLostError(Exception):
    """A sink cannot take results now, but may again: one line that says why, with no secret."""


class Sink(Protocol):
    """A sink, used by one thread; opened there too, by making it."""

    def write(self, result: Result) -> None:
        """Deliver one result. Where that fails nothing of it stays behind, since the same one comes
        again: after SinkLostError, UserError and OSError. Any other error is the result's own, and
        drops it."""

    def close(self) -> None:
        """Finish what is under way, within a few seconds. Calling it again does nothing."""

    def state(self) -> dict[str, Any]:
        """Plain data to show, such as an outbox's size; from any thread, at once."""


SINKS = {
    "jsonl": "runtime.sinks.jsonl:JsonlSink",
    "video": "runtime.sinks.video:VideoSink",
    "snapshots": "runtime.sinks.snapshots:SnapshotSink",
    "mqtt": "runtime.sinks.mqtt:MqttSink",
    "webhook": "runtime.sinks.webhook:WebhookSink",
}
"""Each is a class that takes its options and the board's name. Making one raises SinkLostError,
UserError or OSError where the place cannot be used now; it is tried again."""


def open_sink(options: SinkOptions, board: str) -> Sink:
    """The sink of that type, ready to write."""
    kind: Any = options
    if kind.type not in SINKS:
        raise UserError(f"no sink is of type {kind.type}: choose {', '.join(SINKS)}")
    with explained_imports(f"a sink of type {kind.type} needs"):
        return load_entry(SINKS[kind.type])(options, board)
