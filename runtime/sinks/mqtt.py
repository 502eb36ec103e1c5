"""Detections to an MQTT broker, by way of an outbox on disk."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.mqtt.broker import new_client
from runtime.mqtt.home_assistant import announcement
from runtime.mqtt.outbox import Outbox
from runtime.mqtt.publisher import Publisher
from runtime.pipeline.frames import Result, event
from runtime.sinks import SinkLostError
from runtime.sinks.lost import cannot_write
from runtime.sinks.options import MqttSinkOptions


class MqttSink:
    """Events under PREFIX/BOARD/SOURCE/detections, and under PREFIX/BOARD/state whether the board
    is there.

    A result is written when it is in the outbox. For Home Assistant a source's first frame without
    detections after one with some is written too, so that its count goes back to 0.
    """

    def __init__(self, options: MqttSinkOptions, board: str):
        self._options = options
        self._board = board
        self._root = f"{options.prefix}/{board}"
        self._seen: dict[str, bool] = {}  # of each source, whether the last frame had something
        new_client(options.broker, "")  # what cannot work is said at once
        with _explained(options.outbox):
            self._outbox = Outbox(
                options.outbox, options.outbox_limit, round(options.outbox_mb * 1e6)
            )
        self._publisher = Publisher(
            options.broker, self._outbox, f"{self._root}/state", options.window
        )
        for source in options.sources or ():
            self._announce(source)

    def write(self, result: Result) -> None:
        source, found = result.frame.source, len(result.detections) > 0
        if source not in self._seen:
            self._announce(source)
        ends = self._seen[source] and self._options.home_assistant is not None
        if found or ends or self._options.empty:
            with _explained(self._options.outbox):
                self._outbox.add(self._topic(source), {"board": self._board, **event(result)})
            self._publisher.wake()
        self._seen[source] = found

    def _announce(self, source: str) -> None:
        self._seen[source] = False
        if self._options.home_assistant is not None:
            prefix, topic = self._options.home_assistant, self._topic(source)
            state_topic = f"{self._root}/state"
            self._publisher.keep(announcement(prefix, self._board, source, topic, state_topic))

    def _topic(self, source: str) -> str:
        return f"{self._root}/{source}/detections"

    def close(self) -> None:
        self._publisher.close()
        self._outbox.close()

    def state(self) -> dict[str, Any]:
        return self._publisher.state()


@contextmanager
def _explained(outbox: Path) -> Iterator[None]:
    """Errors of the outbox's file as the sink's."""
    try:
        yield
    except OSError as error:
        raise cannot_write(outbox, error) from error
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            problem = "another process has it: give each sink an outbox of its own"
        else:
            problem = f"{error}; make room there, or choose another place"
        raise SinkLostError(f"the outbox {outbox} cannot be used: {problem}") from error
