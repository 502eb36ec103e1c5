"""A sink behind its queue, in a thread of its own."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from runtime.errors import UserError
from runtime.pipeline.backoff import Backoff
from runtime.pipeline.frames import Result
from runtime.sinks import Sink, SinkLostError

log = logging.getLogger(__name__)

_LOST = (SinkLostError, UserError, OSError)
_LONGEST_BACKOFF_S = 5.0
_LOOK_AROUND_S = 0.5


class Outlet:
    """Results wait here for a sink that may be slow or away; whoever puts them in never waits.

    A file source reserves a place before its frame enters the pipeline, and waits for that, so that
    nothing of it is dropped, until the sink has taken nothing for deadline_s: then it is dead, and
    stays so until it takes something again. A live source's result that finds no room takes the
    place of the oldest of its kind, which is counted as dropped.

    after: the outlet this one takes over from; its sink is opened when that one's is closed.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Sink],
        capacity: int,
        deadline_s: float,
        after: "Outlet | None" = None,
    ):
        self.name = name
        self._make = make
        self._capacity = capacity
        self._deadline_s = deadline_s
        self._after = after
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue = deque[tuple[Result, bool]]()  # and whether it may be dropped
        self._reserved = 0
        self._writing = False
        self._closing = threading.Event()
        self._give_up_at = math.inf
        self._sink: Sink | None = None
        self._state, self._detail = "starting", None
        self._dead = False
        self._lost_at_close = False
        self._progress_at = time.monotonic()
        self._counts = {"written": 0, "dropped": 0, "failed": 0}
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    # for those who bring results

    def reserve(self, stop: threading.Event) -> bool:
        """Keep a place for a result to come, waiting until there is one. False where the sink is
        dead or closing, or stop was set."""
        with self._changed:
            while len(self._queue) + self._reserved >= self._capacity and not self._dead:
                if self._closing.is_set() or stop.is_set():
                    return False
                self._changed.wait(_LOOK_AROUND_S)
                self._see_whether_dead()
            if self._dead or self._closing.is_set():
                self._counts["dropped"] += 1
                return False
            self._reserved += 1
            return True

    def release(self) -> None:
        """Give a reserved place back."""
        with self._changed:
            self._reserved -= 1
            self._changed.notify_all()

    def put(self, result: Result, reserved: bool) -> None:
        """Queue a result, in its reserved place or where there is room. Returns at once."""
        with self._changed:
            self._reserved -= reserved
            if self._dead or (self._closing.is_set() and not reserved):
                self._counts["dropped"] += 1
            elif reserved or self._make_room():
                if not self._queue and not self._writing:
                    self._progress_at = time.monotonic()
                self._queue.append((result, not reserved))
            else:
                self._counts["dropped"] += 1
            self._changed.notify_all()

    def _make_room(self) -> bool:
        """Room for a live result, for which the oldest live one may go."""
        if len(self._queue) + self._reserved < self._capacity:
            return True
        for place, (_, may_drop) in enumerate(self._queue):
            if may_drop:
                del self._queue[place]
                self._counts["dropped"] += 1
                return True
        return False

    def _see_whether_dead(self) -> None:
        idle = not self._queue and not self._writing
        if idle or time.monotonic() - self._progress_at < self._deadline_s:
            return
        self._dead = True
        self._counts["dropped"] += len(self._queue)
        self._queue.clear()
        log.warning("sink %s took nothing for %g s: it is dead", self.name, self._deadline_s)
        self._changed.notify_all()

    # its own thread

    def _run(self) -> None:
        if self._after is not None:
            self._after.join(self._deadline_s)
            self._after = None
        if self._insist(self._open):
            while (result := self._next()) is not None:
                self._done(self._insist(lambda result=result: self._sink.write(result)))
        self._close_sink()

    def _open(self) -> None:
        self._sink = self._make()

    def _insist(self, action: Callable[[], None]) -> bool:
        """Do it until it works, with waits between; False where the time to close is up, or where
        the action itself is at fault."""
        backoff = Backoff(_LONGEST_BACKOFF_S)
        while True:
            try:
                action()
            except _LOST as error:
                self._show("failing", _one_line(error))
                if not self._wait(backoff.next_s()):
                    return False
            except Exception:
                log.exception("sink %s has an error of its own", self.name)
                self._show("failing", "an error of its own, see the log")
                return False
            else:
                self._show("running")
                return True

    def _wait(self, seconds: float) -> bool:
        """Wait before the next try; False where there is no time for another one."""
        until = time.monotonic() + seconds
        if not self._closing.wait(seconds):
            return True
        left = min(until, self._give_up_at) - time.monotonic()
        time.sleep(max(0.0, left))
        return time.monotonic() < self._give_up_at

    def _next(self) -> Result | None:
        """The oldest result; None when closing and none is to come, or there is no time for it."""
        with self._changed:
            while not self._queue:
                if self._closing.is_set() and not self._reserved:
                    return None
                if time.monotonic() >= self._give_up_at:
                    return None
                self._changed.wait(_LOOK_AROUND_S)
            if time.monotonic() >= self._give_up_at:
                return None
            self._writing = True
            return self._queue.popleft()[0]

    def _done(self, written: bool) -> None:
        with self._changed:
            self._writing = False
            self._counts["written" if written else "failed"] += 1
            self._progress_at = time.monotonic()
            self._dead = False
            self._changed.notify_all()

    def _show(self, state: str, detail: str | None = None) -> None:
        """Keep the state for those who look; log a change, not each try."""
        if (state, detail) != (self._state, self._detail):
            if state == "failing":
                log.warning("sink %s: %s", self.name, detail)
            elif self._state != "stopped":
                log.info("sink %s: %s", self.name, state)
            self._state, self._detail = state, detail

    def _close_sink(self) -> None:
        with self._changed:
            self._counts["dropped"] += len(self._queue)
            self._queue.clear()
        try:
            if self._sink is not None:
                self._sink.close()
        except _LOST as error:
            self._lost_at_close = True
            self._show("failing", _one_line(error))
        except Exception:
            self._lost_at_close = True
            log.exception("sink %s cannot be closed", self.name)
        else:
            if self._closing.is_set():
                self._show("stopped")

    # for the pipeline

    def close(self, within_s: float) -> None:
        """Take no more live results, write what waits and what is reserved, and close the sink;
        what is not written in that time is dropped. Returns at once: join waits."""
        self._give_up_at = time.monotonic() + within_s
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    def join(self, within_s: float) -> bool:
        """Whether the sink was closed, or will not come to anything, in that time."""
        self._thread.join(max(0.0, within_s))
        return not self._thread.is_alive()

    def settled(self) -> bool:
        """Whether nothing waits for the sink, or the sink is dead."""
        with self._lock:
            self._see_whether_dead()
            return self._dead or not (self._queue or self._writing or self._reserved)

    @property
    def complete(self) -> bool:
        """Whether every result that was meant for it arrived."""
        with self._lock:
            lost = self._counts["dropped"] or self._counts["failed"] or self._lost_at_close
            return not (lost or self._queue or self._writing)

    def state(self) -> dict[str, Any]:
        with self._lock:
            state, sink = ("dead" if self._dead else self._state), self._sink
            plain = {"state": state, "detail": self._detail, **self._counts}
            plain |= {"queued": len(self._queue), "queue": self._capacity}
        return plain | {"more": sink.state() if sink is not None else {}}


def _one_line(error: Exception) -> str:
    """What happened, for those who look."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror.lower()}"
    return " ".join(str(error).split()) or type(error).__name__
