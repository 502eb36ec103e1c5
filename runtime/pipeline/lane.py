"""One source's way through the pipeline: the frame that waits, and the order of its results."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.pipeline.frames import Frame, Result
from runtime.pipeline.outlet import Outlet
from runtime.pipeline.stats import Rate, StageTimes


@dataclass(eq=False)
class Job:
    """A frame under way. reserved: the outlets that keep a place for its result; None of a live
    source, whose result goes where there is room. sequence: given when a context takes it."""

    lane: "Lane"
    frame: Frame
    reserved: tuple[Outlet, ...] | None
    offered_at: float = field(default_factory=time.monotonic)
    sequence: int = -1


class Lane:
    """Contexts finish frames in any order; a lane passes their results on in the order in which the
    frames were taken, and counts."""

    def __init__(self, name: str, live: bool, emit: Callable[[Job, Result | None], None]):
        self.name = name
        self.live = live
        self.waiting: Job | None = None  # these two belong to the dispatcher
        self.taken = 0
        self.closed = False
        self._emit = emit
        self._lock = threading.Lock()
        self._next = 0
        self._early: dict[int, tuple[Job, Result | None, float]] = {}
        self._stages = StageTimes()
        self._rate = Rate()
        self._counts: Counter[str] = Counter()
        self._per_class: Counter[str] = Counter()
        self.latest: Result | None = None

    def deliver(self, job: Job, result: Result | None) -> None:
        """Take a job's result, None where it failed, and pass on all whose turn has come."""
        with self._lock:
            self._early[job.sequence] = (job, result, time.monotonic())
            while self._next in self._early:
                job, result, since = self._early.pop(self._next)
                self._next += 1
                if result is None:
                    self._counts["failed"] += 1
                else:
                    result.seconds["order"] = time.monotonic() - since
                    self._count(result)
                self._emit(job, result)

    def _count(self, result: Result) -> None:
        self.latest = result
        self._rate.add()
        self._stages.add(result.seconds)
        self._counts["results"] += 1
        found = result.detections
        if len(found):
            self._counts["detections"] += len(found)
            self._per_class.update(result.names[i] for i in found.class_id.tolist())

    def count_dropped(self) -> None:
        with self._lock:
            self._counts["dropped"] += 1

    @property
    def under_way(self) -> int:
        """Frames that wait or that contexts work on."""
        with self._lock:
            return self.taken - self._next + (self.waiting is not None)

    def state(self) -> dict[str, Any]:
        with self._lock:
            counts = {key: self._counts[key] for key in ("dropped", "failed", "results")}
            return counts | {
                "detections": self._counts["detections"],
                "per_class": dict(self._per_class),
                "frames_per_second": self._rate.value(),
                "stages": self._stages.state(),
            }
