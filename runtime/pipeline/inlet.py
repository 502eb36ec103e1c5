"""A source in a thread of its own: connected, read, and connected again."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from runtime.errors import UserError
from runtime.pipeline.backoff import Backoff
from runtime.pipeline.frames import Capture, Frame
from runtime.sources import Source, SourceLostError
from runtime.sources.options import SourceOptions

log = logging.getLogger(__name__)

_LONGEST_BACKOFF_S = 3.0
_EARLY = 0.25
"""How much of the time between two frames one may come early and still count as in time."""


class Inlet:
    """Reads a source and sends its frames on until it ends, fails for good, or is stopped.

    States: connecting -> running -> waiting (lost; after a pause, connecting again) ... -> ended,
    failed or stopped.

    send: takes a frame, for sources of files when there is room; False where none will be.
    after: the inlet this one takes over from; the source is opened when that one's is closed.
    """

    def __init__(
        self,
        options: SourceOptions,
        source: Source,
        send: Callable[[Frame, threading.Event], bool],
        after: "Inlet | None" = None,
    ):
        self.options = options
        self._source = source
        self._send = send
        self._after = after
        self._stop = threading.Event()
        self._backoff = Backoff(_LONGEST_BACKOFF_S)
        self._state, self._detail = "connecting", None
        self._connections = self._frames = self._skipped = 0
        self._due = 0.0
        self._last: Capture | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"source {options.name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send no more frames. Returns at once: join waits."""
        self._stop.set()

    def join(self, within_s: float) -> bool:
        """Whether the source was closed in that time."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, within_s))
        return not self._thread.is_alive()

    @property
    def stopping(self) -> threading.Event:
        return self._stop

    @property
    def finished(self) -> bool:
        """Whether no more frames will come."""
        return self._thread.ident is not None and not self._thread.is_alive()

    @property
    def failed(self) -> str | None:
        """Why it will not be tried again."""
        return self._detail if self._state == "failed" else None

    def _run(self) -> None:
        if self._after is not None:
            self._after.join(60)
            self._after = None
        while not self._stop.is_set():
            self._show("connecting")
            self._connections += 1
            lost = self._read()
            if lost is None:
                break
            self._show("waiting", lost)
            self._stop.wait(self._backoff.next_s())
        if self._state not in ("ended", "failed"):
            self._show("stopped")

    def _read(self) -> str | None:
        """Read until the source is lost, and give the reason; None where it is over."""
        try:
            with closing(self._source.captures(self._stop)) as captures:
                for capture in captures:
                    self._connected()
                    if capture is not None and not self._take(capture):
                        return None
                    if self._stop.is_set():
                        return None
            if self._stop.is_set():
                return None
            if self._source.live:
                return "it ended"
            self._show("ended")
            return None
        except SourceLostError as error:
            return str(error)
        except UserError as error:
            self._show("failed", str(error))
            return None
        except Exception as error:
            log.exception("source %s has an error of its own", self.options.name)
            return f"an error of its own, see the log: {type(error).__name__}"

    def _connected(self) -> None:
        if self._state != "running":
            self._show("running")
            self._backoff.reset()

    def _take(self, capture: Capture) -> bool:
        """Number a capture and send it on, if the rate allows; False where none is taken now."""
        index = self._frames
        self._frames += 1
        self._last = capture
        if not self._in_time():
            self._skipped += 1
            return True
        return self._send(Frame(self.options.name, index, capture), self._stop)

    def _in_time(self) -> bool:
        """Whether the rate limit lets this frame through. A file waits for its time instead."""
        if self.options.rate is None:
            return True
        now, period = time.monotonic(), 1 / self.options.rate
        if self._source.live and now < self._due - _EARLY * period:
            return False
        if not self._source.live:
            self._stop.wait(max(0.0, self._due - now))
        self._due = max(self._due + period, now)
        return True

    def _show(self, state: str, detail: str | None = None) -> None:
        if state in ("waiting", "failed") and detail != self._detail:
            log.warning("source %s: %s", self.options.name, detail)
        elif state != self._state and state not in ("connecting", "waiting"):
            log.info("source %s: %s", self.options.name, state)
        if state == "connecting":  # the reason of the last loss stays until it runs again
            detail = self._detail
        self._state, self._detail = state, detail

    def state(self) -> dict[str, Any]:
        last = self._last
        return {
            "state": self._state,
            "detail": self._detail,
            "live": self._source.live,
            "connections": self._connections,
            "frames": self._frames,
            "skipped": self._skipped,
            "last_frame_at": round(last.captured_at, 3) if last else None,
            "size_wh": [last.bgr.shape[1], last.bgr.shape[0]] if last else None,
        }
