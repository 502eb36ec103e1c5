"""How long the stages take, and how many frames come, over the last while."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from runtime.pipeline.frames import STAGES

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_KEPT = 300
_RATE_OVER_S = 5.0


class StageTimes:
    """Seconds of each stage, for its median, its 95th percentile and a histogram. Not locked."""

    def __init__(self) -> None:
        self._recent = {stage: deque[float](maxlen=_KEPT) for stage in STAGES}
        self._sum = dict.fromkeys(STAGES, 0.0)
        self._counts = {stage: [0] * (len(BUCKETS_S) + 1) for stage in STAGES}

    def add(self, seconds: Mapping[str, float]) -> None:
        for stage, value in seconds.items():
            self._recent[stage].append(value)
            self._sum[stage] += value
            self._counts[stage][bisect_left(BUCKETS_S, value)] += 1

    def state(self) -> dict[str, dict[str, Any]]:
        """Of each stage, plain data; buckets are [upper bound in s, number up to it]."""
        return {stage: self._stage(stage) for stage in STAGES}

    def _stage(self, stage: str) -> dict[str, Any]:
        recent, counts = sorted(self._recent[stage]), self._counts[stage]
        buckets, total = [], 0
        for bound, count in zip(BUCKETS_S, counts, strict=False):
            total += count
            buckets.append([bound, total])
        return {
            "median_ms": round(median(recent) * 1e3, 3) if recent else None,
            "p95_ms": round(recent[int(len(recent) * 0.95)] * 1e3, 3) if recent else None,
            "count": total + counts[-1],
            "seconds": round(self._sum[stage], 6),
            "buckets": buckets,
        }


class Rate:
    """Events a second, over the last five. Not locked."""

    def __init__(self) -> None:
        self._times = deque[float](maxlen=1000)

    def add(self) -> None:
        self._times.append(time.monotonic())

    def value(self) -> float:
        now = time.monotonic()
        recent = [at for at in self._times if at > now - _RATE_OVER_S]
        if len(recent) < 2:
            return 0.0
        # up to now, so that the rate falls when nothing comes any more
        return round((len(recent) - 1) / max(now - recent[0], 1e-6), 2)
