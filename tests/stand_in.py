"""Stand-ins for what a PC does not have: NPU cores that take their time, and sources on demand."""

import threading
import time
from collections.abc import Iterator
from typing import Literal

import numpy as np

from runtime.decode import Tensor
from runtime.options import Options
from runtime.pipeline.frames import Capture
from runtime.sources.options import SourceOptions


class Core:
    """An NPU core: jobs queue in its driver, and each holds it for a fixed time."""

    def __init__(self, hold_s: float):
        self._hold_s = hold_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def work(self) -> None:
        with self._lock:
            done = max(time.monotonic(), self._free_at) + self._hold_s
            self._free_at = done
        while (left := done - time.monotonic()) > 0:
            time.sleep(left)


class StandIn:
    """A backend on one core, whose outputs are always the same, copied at every call as the
    vendor's package does."""

    def __init__(self, core: Core, outputs: list[np.ndarray]):
        self._core = core
        self._outputs = outputs
        self._lock = threading.Lock()
        self.closed = False

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        assert not self.closed, "used after it was closed"
        assert self._lock.acquire(blocking=False), "two threads on one context"
        try:
            self._core.work()
            return [Tensor(output.copy()) for output in self._outputs]
        finally:
            self._lock.release()

    def close(self) -> None:
        self.closed = True


class FramesOptions(SourceOptions):
    """count frames, at a rate or as fast as they are taken."""

    type: Literal["frames"] = "frames"
    count: int
    every_s: float = 0.0
    live: bool = False
    wh: tuple[int, int] = (1280, 720)

    @property
    def shown(self) -> str:
        return "memory"


class FramesSource:
    """Gives one picture again and again; each frame's number is its capture's."""

    def __init__(self, options: FramesOptions, board: str):
        self._options = options
        self.live = options.live
        width, height = options.wh
        self._bgr = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)

    def captures(self, stop: threading.Event) -> Iterator[Capture]:
        due = time.monotonic()
        for number in range(self._options.count):
            if self._options.every_s:
                due += self._options.every_s
                time.sleep(max(0.0, due - time.monotonic()))
            yield Capture(self._bgr, time.time(), frame=number)
        if self.live:  # the end of a live source is a loss; wait to be told
            stop.wait()


class CollectOptions(Options):
    """Options of a sink that keeps what it gets."""

    type: Literal["collect"] = "collect"
    sources: tuple[str, ...] | None = None
    queue: int = 64
    deadline_s: float = 30
    each_s: float = 0.0

    @property
    def shown(self) -> str:
        return "memory"


class CollectSink:
    """Keeps the source and number of each result, in the list of its class."""

    got: list[tuple[str, int]]

    def __init__(self, options: CollectOptions, board: str):
        self._each_s = options.each_s

    def write(self, result) -> None:
        time.sleep(self._each_s)
        self.got.append((result.frame.source, result.frame.capture.frame))

    def close(self) -> None:
        pass

    def state(self) -> dict:
        return {}
