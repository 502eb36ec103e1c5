"""Results as lines of JSON, in a file that is rotated, or on standard output."""

import json
import os
import select
import sys
from pathlib import Path
from typing import Any, Protocol

from runtime.errors import UserError
from runtime.pipeline.frames import Result, event
from runtime.sinks import SinkLostError
from runtime.sinks.lost import cannot_write
from runtime.sinks.options import JsonlOptions
from runtime.sinks.rotated import RotatedFile

_CHUNK = 4096
_PATIENCE_S = 2.0


class JsonlSink:
    """A line a result, there for readers as soon as it is written."""

    def __init__(self, options: JsonlOptions, board: str):
        self._empty = options.empty
        self._lines = 0
        self._place: _Place
        if options.path == "-":
            self._place = _StandardOutput()
        else:
            path = Path(options.path)
            self._place = RotatedFile(path, round(options.rotate_mb * 1e6), options.keep)

    def write(self, result: Result) -> None:
        """Raises SinkLostError where the line, or the rest of it, has no room or no reader now."""
        if len(result.detections) or self._empty:
            self._place.write(json.dumps(event(result)).encode() + b"\n")
            self._lines += 1

    def close(self) -> None:
        self._place.close()

    def state(self) -> dict[str, Any]:
        return {"lines": self._lines}


class _Place(Protocol):
    def write(self, line: bytes) -> None:
        """Write a line; where that raises SinkLostError the same one comes again."""

    def close(self) -> None: ...


class _StandardOutput:
    """Past Python's own buffer, so that nothing is left in it for a reader that has gone, and never
    waiting long for one that does not read. Half a line stays: its rest is what is written next."""

    def __init__(self) -> None:
        if sys.stdout is None:
            raise UserError("there is no standard output to write lines to: give a file")
        self._number = sys.stdout.fileno()
        self._begun, self._rest = b"", b""

    def write(self, line: bytes) -> None:
        again = line == self._begun and self._rest
        self._finish()
        if not again:
            self._begun = self._rest = line
            self._finish()

    def _finish(self) -> None:
        try:
            while self._rest:
                self._await_reader()
                # no more than a pipe takes at once, or this would wait for its reader
                self._rest = self._rest[os.write(self._number, self._rest[:_CHUNK]) :]
        except BrokenPipeError as error:
            raise SinkLostError("nobody reads the standard output any more: start again") from error
        except OSError as error:
            raise cannot_write("standard output", error) from error

    def _await_reader(self) -> None:
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        if not poll.poll(_PATIENCE_S * 1000):
            raise SinkLostError("what reads the standard output has stopped reading")

    def close(self) -> None:
        """Leave it open: it is not ours."""
