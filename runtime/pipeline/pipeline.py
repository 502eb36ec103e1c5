"""Frames from sources through contexts to sinks; all three can be exchanged while it runs."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from runtime.pipeline.dispatch import Dispatcher
from runtime.pipeline.frames import Frame, Result
from runtime.pipeline.inlet import Inlet
from runtime.pipeline.lane import Job, Lane
from runtime.pipeline.outlet import Outlet
from runtime.pipeline.pool import Pool
from runtime.sinks import open_sink
from runtime.sinks.options import SinkOptions
from runtime.sources import Source, open_source
from runtime.sources.options import SourceOptions

log = logging.getLogger(__name__)

_RECIPE_ONLY = {"region", "thresholds"}
"""What of a source's options concerns its results only, so that its connection can stay."""


@dataclass(frozen=True, eq=False)
class _Way:
    """A source, its lane, and the names of the sinks its results go to."""

    inlet: Inlet
    lane: Lane


class Pipeline:
    """Owns frames: threads for sources, contexts and sinks, and what is between them. Knows no
    signals, no configuration file and no vendor.

    board: the name under which sinks publish.
    """

    def __init__(self, board: str):
        self.board = board
        self._dispatcher = Dispatcher()
        self._pool: Pool | None = None
        self._ways: dict[str, _Way] = {}
        self._outlets: dict[str, tuple[SinkOptions, Outlet]] = {}
        self._routes: dict[str, tuple[Outlet, ...]] = {}
        self._watchers: tuple[Callable[[Result], None], ...] = ()
        self._watchers_lock = threading.Lock()

    # set up, and exchange

    def use_pool(self, pool: Pool, within_s: float) -> None:
        """Let another pool take the frames from now on; the old one ends after those it has."""
        old, self._pool = self._pool, pool
        pool.start(self._dispatcher)
        if old is not None:
            old.close(within_s)

    @property
    def pool(self) -> Pool | None:
        return self._pool

    def use(
        self, sources: Mapping[str, SourceOptions], sinks: Mapping[str, SinkOptions], drain_s: float
    ) -> None:
        """Have these sources and sinks from now on. Those whose options are as before go on
        undisturbed, the others end, and new ones begin.

        Raises UserError, before anything was changed, where a source's package is missing.
        """
        new = {
            name: open_source(options, self.board)
            for name, options in sources.items()
            if name not in self._ways or not _same_source(options, self._ways[name].inlet.options)
        }
        outlets = self._new_outlets(sinks)
        routes = {
            name: tuple(
                outlet for sink, outlet in outlets.values() if name in (sink.sources or sources)
            )
            for name in sources
        }
        gone = [
            outlet for name, (_, outlet) in self._outlets.items() if _gone(name, outlets, outlet)
        ]
        self._outlets, self._routes = outlets, routes
        for outlet in gone:
            outlet.close(drain_s)
        self._exchange_sources(sources, new)

    def _new_outlets(
        self, sinks: Mapping[str, SinkOptions]
    ) -> dict[str, tuple[SinkOptions, Outlet]]:
        outlets = {}
        for name, options in sinks.items():
            before = self._outlets.get(name)
            if before is not None and before[0] == options:
                outlets[name] = before
                continue
            after = before[1] if before is not None else None
            make = partial(open_sink, options, self.board)
            outlet = Outlet(name, make, options.queue, options.deadline_s, after)
            outlets[name] = (options, outlet)
        return outlets

    def _exchange_sources(
        self, sources: Mapping[str, SourceOptions], new: Mapping[str, Source]
    ) -> None:
        ways = {}
        for name, way in self._ways.items():
            if name not in sources or name in new:
                way.inlet.stop()
                self._dispatcher.remove_lane(way.lane)
        for name, options in sources.items():
            if name not in new:
                ways[name] = self._ways[name]
                continue
            lane = Lane(name, new[name].live, self._emit)
            before = self._ways.get(name)
            after = before.inlet if before else None
            send = self._sender(lane)
            ways[name] = _Way(Inlet(options, new[name], send, after), lane)
            self._dispatcher.add_lane(lane)
        self._ways = ways
        for name in new:
            ways[name].inlet.start()

    def _sender(self, lane: Lane) -> Callable[[Frame, threading.Event], bool]:
        return self._offer_to(lane) if lane.live else self._put_to(lane)

    def _offer_to(self, lane: Lane) -> Callable[[Frame, threading.Event], bool]:
        """Sends a live source's frames: the newest wins."""

        def send(frame: Frame, _: threading.Event) -> bool:
            dropped = self._dispatcher.offer(Job(lane, frame, None))
            if dropped is not None:
                lane.count_dropped()
            return True

        return send

    def _put_to(self, lane: Lane) -> Callable[[Frame, threading.Event], bool]:
        """Sends the frames of files and requests: each waits until every sink has room for its
        result, and a context is free."""

        def send(frame: Frame, stop: threading.Event) -> bool:
            routes = self._routes.get(lane.name, ())
            job = Job(lane, frame, tuple(outlet for outlet in routes if outlet.reserve(stop)))
            if self._dispatcher.put(job, stop):
                return True
            self._abandon(job)
            return False

        return send

    # results

    def _emit(self, job: Job, result: Result | None) -> None:
        """Pass a result on, in its turn; called by one context at a time for each lane."""
        if result is None:
            self._abandon(job)
            return
        if job.reserved is None:
            for outlet in self._routes.get(job.lane.name, ()):
                outlet.put(result, reserved=False)
        else:
            for outlet in job.reserved:
                outlet.put(result, reserved=True)
        _answer(job, result)
        for watcher in self._watchers:
            watcher(result)

    def _abandon(self, job: Job) -> None:
        for outlet in job.reserved or ():
            outlet.release()
        _answer(job, None)

    def subscribe(self, watcher: Callable[[Result], None]) -> Callable[[], None]:
        """Call watcher with every result, from a context's thread; it must return at once. Gives a
        function that ends this."""
        with self._watchers_lock:
            self._watchers = (*self._watchers, watcher)

        def unsubscribe() -> None:
            with self._watchers_lock:
                self._watchers = tuple(each for each in self._watchers if each is not watcher)

        return unsubscribe

    def latest(self, source: str) -> Result | None:
        way = self._ways.get(source)
        return way.lane.latest if way else None

    # looking, and ending

    @property
    def finished(self) -> bool:
        """Whether no source will give more frames, and all results are where they can get."""
        if not all(way.inlet.finished for way in self._ways.values()) or self._under_way():
            return False
        return all(outlet.settled() for _, outlet in self._outlets.values())

    def _under_way(self) -> int:
        return sum(way.lane.under_way for way in self._ways.values())

    def failures(self) -> dict[str, str]:
        """Of the sources that will not be tried again: by name, why."""
        reasons = {name: way.inlet.failed for name, way in self._ways.items()}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def incomplete(self) -> list[str]:
        """Names of the sinks that did not get all results."""
        return [name for name, (_, outlet) in self._outlets.items() if not outlet.complete]

    def state(self) -> dict[str, Any]:
        """Plain data about sources, sinks and contexts."""
        return {
            "sources": {
                name: {"type": way.inlet.options.type, "from": way.inlet.options.shown}
                | way.inlet.state()
                | way.lane.state()
                for name, way in self._ways.items()
            },
            "sinks": {
                name: {"type": options.type, "to": options.shown} | outlet.state()
                for name, (options, outlet) in self._outlets.items()
            },
            "contexts": self._pool.state() if self._pool else [],
        }

    def close(self, within_s: float) -> None:
        """Stop the sources, let what is under way arrive, and close everything, in that time; what
        does not end by then is left."""
        until = time.monotonic() + within_s
        for way in self._ways.values():
            way.inlet.stop()
        while self._under_way() and time.monotonic() < until:
            time.sleep(0.01)
        if self._pool is not None:
            self._pool.close(until - time.monotonic())
        for _, outlet in self._outlets.values():
            outlet.close(max(0.0, until - time.monotonic()))
        for name, way in self._ways.items():
            if not way.inlet.join(until - time.monotonic()):
                log.warning("source %s did not end in time", name)
        for name, (_, outlet) in self._outlets.items():
            if not outlet.join(until - time.monotonic() + 1):
                log.warning("sink %s did not end in time", name)


def _same_source(one: SourceOptions, other: SourceOptions) -> bool:
    kept = type(one) is type(other)
    return kept and one.model_dump(exclude=_RECIPE_ONLY) == other.model_dump(exclude=_RECIPE_ONLY)


def _gone(name: str, outlets: Mapping[str, tuple[SinkOptions, Outlet]], outlet: Outlet) -> bool:
    return name not in outlets or outlets[name][1] is not outlet


def _answer(job: Job, result: Result | None) -> None:
    answer = job.frame.capture.answer
    if answer is None:
        return
    try:
        answer(result)
    except Exception:
        log.exception("a request of %s cannot be answered", job.lane.name)
