"""How the values of head maps are spread, float beside built, in memory that does not grow."""

from collections.abc import Sequence

import numpy as np

from runtime.manifest import PARTS, Facts

GROUPS = {
    "box xy": slice(0, 2),
    "box wh": slice(2, 4),
    "objectness": slice(4, 5),
    "classes": slice(5, None),
}
"""Channels of an anchor, as finely as they are looked at."""
PART_OF = {"box xy": "box", "box wh": "box", "objectness": "objectness", "classes": "class"}
"""The manifest's part that holds a group."""
BINS = 1024


class Histogram:
    """Counts of values in BINS equal bins between -bound and bound. bound is a power of two, at
    least 1, and doubles where a value is beyond it. What is not finite is left out."""

    def __init__(self) -> None:
        self.bound = 1.0
        self.counts = np.zeros(BINS, np.int64)
        self.least, self.greatest = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """values float (n,)."""
        if not len(values):
            return
        least, greatest = float(values.min()), float(values.max())
        if not np.isfinite((least, greatest)).all():
            self.add(values[np.isfinite(values)])
            return
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        self.widen(max(-self.least, self.greatest))
        # a power of two: exact, so that what is next to an edge stays on its side of it
        places = np.floor(values.astype(np.float64) * (BINS // 2 / self.bound))
        places = places.astype(np.int64) + BINS // 2
        self.counts += np.bincount(places, minlength=BINS + 1)[:BINS]
        self.counts[-1] += np.count_nonzero(places == BINS)  # the bound itself

    def widen(self, bound: float) -> None:
        """Make room for values up to this, by joining bins two by two."""
        while self.bound < bound:
            self.bound *= 2
            wider = np.zeros_like(self.counts)
            wider[BINS // 4 : BINS - BINS // 4] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = wider

    def edges(self) -> np.ndarray:
        """float64 (BINS + 1,)."""
        return np.linspace(-self.bound, self.bound, BINS + 1)

    def beyond(self, low: float, high: float) -> float:
        """The share of values outside a range, to a bin."""
        edges = self.edges()
        outside = (edges[1:] <= low) | (edges[:-1] >= high)
        return float(self.counts[outside].sum() / max(1, self.counts.sum()))


class HeadHistograms:
    """Of each head and group a pair of histograms, float and built."""

    def __init__(self, facts: Facts):
        self._each = 5 + facts.classes
        self.pairs = [{group: (Histogram(), Histogram()) for group in GROUPS} for _ in facts.heads]

    def add(self, reference: Sequence[np.ndarray], built: Sequence[np.ndarray]) -> None:
        """One picture's head maps, (1, na * (5 + nc), ny, nx) each."""
        for pairs, *maps in zip(self.pairs, reference, built, strict=True):
            for i, array in enumerate(maps):
                planes = array.reshape(-1, self._each, array.shape[2] * array.shape[3])
                for group, channels in GROUPS.items():
                    pairs[group][i].add(planes[:, channels].ravel())


def tensor_of(facts: Facts, head: int, group: str) -> str:
    """The output tensor that holds a head's group."""
    names = [name for name, _ in facts.tensors_of(head)]
    return names[0] if len(names) == 1 else names[list(PARTS).index(PART_OF[group])]
