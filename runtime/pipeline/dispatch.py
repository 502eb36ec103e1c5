"""Hands frames to free contexts: sources in turn, and the least busy core first."""

import threading
from dataclasses import dataclass, field

from runtime.pipeline.lane import Job, Lane

_LOOK_AROUND_S = 0.5
"""How long a wait lasts at most before it looks whether it should end."""


@dataclass(eq=False)
class Seat:
    """One context's place at the dispatcher. core: contexts of one core share it; None where there
    are no cores to choose from."""

    core: int | None
    busy: bool = False
    leaving: bool = False
    handed: Job | None = None
    wake: threading.Condition = field(init=False)


class Dispatcher:
    """Frames wait here, one a source: of a live source the newest, of another source its next,
    until that one is taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._lanes: list[Lane] = []
        self._seats: list[Seat] = []
        self._idle: list[Seat] = []

    def add_lane(self, lane: Lane) -> None:
        with self._lock:
            self._lanes.append(lane)

    def remove_lane(self, lane: Lane) -> None:
        """No frame comes to this lane any more; the one that waits is still taken."""
        with self._lock:
            lane.closed = True
            if lane.waiting is None:
                self._lanes.remove(lane)

    def add_seat(self, core: int | None) -> Seat:
        seat = Seat(core)
        with self._lock:
            seat.wake = threading.Condition(self._lock)
            self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Let a context's next take give None."""
        with self._lock:
            seat.leaving = True
            seat.wake.notify()

    def offer(self, job: Job) -> Job | None:
        """Hand a live source's frame on, or let it wait in place of the one that is given back."""
        with self._lock:
            if self._hand(job):
                return None
            old, job.lane.waiting = job.lane.waiting, job
            return old

    def put(self, job: Job, stop: threading.Event) -> bool:
        """Hand a frame on, or wait until there is room for it; False where stop came first."""
        with self._room:
            while job.lane.waiting is not None:
                if stop.is_set():
                    return False
                self._room.wait(_LOOK_AROUND_S)
            if not self._hand(job):
                job.lane.waiting = job
            return True

    def take(self, seat: Seat) -> Job | None:
        """The next frame for this context, done with its last one; None once it should leave."""
        with self._lock:
            seat.busy = False
            job = None if seat.leaving else self._next()
            if job is None and not seat.leaving:
                self._idle.append(seat)
                while seat.handed is None and not seat.leaving:
                    seat.wake.wait(_LOOK_AROUND_S)
                if seat.handed is None:
                    self._idle.remove(seat)
                job, seat.handed = seat.handed, None
            if job is None:
                self._seats.remove(seat)
            else:
                seat.busy = True
            return job

    def _hand(self, job: Job) -> bool:
        """Give a frame to the idle context whose core has the least to do, if one is idle."""
        if not self._idle:
            return False
        best = min(self._idle, key=lambda seat: self._load(seat.core))
        self._idle.remove(best)
        best.busy, best.handed = True, self._taken(job)
        best.wake.notify()
        return True

    def _load(self, core: int | None) -> int:
        return sum(seat.busy for seat in self._seats if seat.core == core)

    def _next(self) -> Job | None:
        """The frame whose turn it is; its lane goes to the end of the line."""
        for place, lane in enumerate(self._lanes):
            if lane.waiting is not None:
                del self._lanes[place]
                if not lane.closed:
                    self._lanes.append(lane)
                job, lane.waiting = lane.waiting, None
                self._room.notify_all()
                return self._taken(job)
        return None

    @staticmethod
    def _taken(job: Job) -> Job:
        job.sequence = job.lane.taken
        job.lane.taken += 1
        return job
