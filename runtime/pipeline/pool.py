"""A pool of contexts: each holds the model once, and works in a thread of its own."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from runtime.backends import Backend
from runtime.decode import Decoder, Tensor
from runtime.detections import Detections
from runtime.detector import select
from runtime.feed import Feed
from runtime.manifest import Facts, Thresholds
from runtime.options import Region
from runtime.pipeline.dispatch import Dispatcher, Seat
from runtime.pipeline.frames import Result
from runtime.pipeline.lane import Job

log = logging.getLogger(__name__)

_MOST_ERRORS = 10
"""So many calls in a row that fail, over all contexts, and the backend counts as broken."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """What to look for in one source's frames, and where."""

    decoder: Decoder
    thresholds: Thresholds
    region: Region


class Pool:
    """Takes frames from a dispatcher, finds objects, and delivers the results to the frames' lanes.

    backends: each with the NPU core it runs on, None where it has none; the pool closes them.
    recipes: of each source, by name; may be replaced while frames flow.
    cpus: for the pool's threads; None for all.
    """

    def __init__(
        self,
        backends: list[tuple[int | None, Backend]],
        facts: Facts,
        recipes: Mapping[str, Recipe],
        cpus: tuple[int, ...] | None = None,
    ):
        self.facts = facts
        self.recipes = recipes
        self._errors_in_a_row = 0
        self.cpus = cpus
        self._contexts = [_Context(self, core, backend) for core, backend in backends]

    def start(self, dispatcher: Dispatcher) -> None:
        if len(self._contexts) > 1:  # these fill the CPUs; OpenCV's own threads only add switches
            cv2.setNumThreads(1)
        for context in self._contexts:
            context.start(dispatcher)

    def close(self, within_s: float) -> None:
        """End the contexts' threads after the frames they work on, and close the backends. One that
        does not return in that time is left."""
        until = time.monotonic() + within_s
        for context in self._contexts:
            context.stop()
        for context in self._contexts:
            context.join(until - time.monotonic())

    def count(self, error: Exception | None) -> None:
        """Note how a call of a backend went."""
        self._errors_in_a_row = self._errors_in_a_row + 1 if error else 0

    def trouble(self, deadline_s: float) -> str | None:
        """What only a new process cures: a call that takes longer than the deadline, or nothing but
        errors; None where all is well."""
        longest = max((context.call_s() for context in self._contexts), default=0.0)
        if longest > deadline_s:
            return f"a call of the model has not returned for {longest:.1f} s"
        if self._errors_in_a_row >= _MOST_ERRORS:
            return f"the last {self._errors_in_a_row} calls of the model failed"
        return None

    def state(self) -> list[dict[str, Any]]:
        """Of each context, plain data."""
        return [context.state() for context in self._contexts]


class _Context:
    """One backend, what makes its inputs, and the thread that uses them."""

    def __init__(self, pool: Pool, core: int | None, backend: Backend):
        self._pool = pool
        self._core = core
        self._backend = backend
        self._feed = Feed(pool.facts.input)
        self._call_since: float | None = None
        self._frames = self._errors = 0
        self._seat: Seat | None = None

    def start(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._seat = dispatcher.add_seat(self._core)
        name = "context" if self._core is None else f"context on core {self._core}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._seat is None:
            self._backend.close()
        else:
            self._dispatcher.leave(self._seat)

    def join(self, within_s: float) -> None:
        if self._seat is not None:
            self._thread.join(max(0.0, within_s))

    def call_s(self) -> float:
        """Seconds for which the present call of the backend has lasted; 0 where there is none."""
        since = self._call_since
        return 0.0 if since is None else time.monotonic() - since

    def state(self) -> dict[str, Any]:
        return {
            "core": self._core,
            "busy": self._seat is not None and self._seat.busy,
            "frames": self._frames,
            "errors": self._errors,
        }

    def _run(self) -> None:
        if self._pool.cpus:
            _pin(self._pool.cpus)
        try:
            while (job := self._dispatcher.take(self._seat)) is not None:
                job.lane.deliver(job, self._result(job))
        finally:
            self._backend.close()

    def _result(self, job: Job) -> Result | None:
        """What is found in a frame; None, and a line in the log, where that fails."""
        recipe = self._pool.recipes.get(job.frame.source)
        if recipe is None:  # its source was just taken out of the configuration
            return None
        try:
            return self._look(job, recipe)
        except Exception:
            self._errors += 1
            if self._errors & (self._errors - 1) == 0:  # 1, 2, 4, 8, ...: not one a frame
                log.exception("a frame of %s failed (%d so far)", job.frame.source, self._errors)
            return None

    def _look(self, job: Job, recipe: Recipe) -> Result:
        bgr = job.frame.capture.bgr
        begun = time.monotonic()
        x1, y1, x2, y2 = recipe.region.pixels((bgr.shape[1], bgr.shape[0]))
        picture, place = self._feed(bgr[y1:y2, x1:x2])
        prepared = time.monotonic()
        tensors = self._call(picture, prepared)
        inferred = time.monotonic()
        found = select(recipe.decoder(tensors), recipe.thresholds, place)
        if x1 or y1:
            shift = np.array([x1, y1, x1, y1], np.float32)
            found = Detections(found.xyxy + shift, found.score, found.class_id)
        self._frames += 1
        seconds = {
            "wait": begun - job.offered_at,
            "letterbox": prepared - begun,
            "infer": inferred - prepared,
            "decode": time.monotonic() - inferred,
        }
        return Result(job.frame, found, self._pool.facts.class_names, seconds)

    def _call(self, picture: np.ndarray, now: float) -> list[Tensor]:
        """The head maps of an input."""
        self._call_since = now
        try:
            tensors = self._backend.infer(picture)
        except Exception as error:
            self._pool.count(error)
            raise
        finally:
            self._call_since = None
        self._pool.count(None)
        return tensors


def _pin(cpus: tuple[int, ...]) -> None:
    """Keep this thread on these CPUs, those of them that there are."""
    there = set(cpus) & os.sched_getaffinity(0)
    if there:
        os.sched_setaffinity(0, there)
    else:
        log.warning("none of the CPUs %s is there: the threads run on any", list(cpus))


def open_contexts(
    opened: Callable[[int | None], Backend], cores: tuple[int | None, ...], per_core: int
) -> list[tuple[int | None, Backend]]:
    """per_core backends for each core, a round of the cores at a time. opened: makes one, and may
    raise UserError; then those already made are closed."""
    backends: list[tuple[int | None, Backend]] = []
    try:
        for core in cores * per_core:
            backends.append((core, opened(core)))
    except BaseException:
        for _, backend in backends:
            backend.close()
        raise
    return backends
