"""How far a built model is the float one: its head maps, and what is found in pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from convert.histograms import HeadHistograms
from runtime.detections import Detections
from runtime.manifest import PARTS, Agreement, Facts, HeadAgreement

MATCH_IOU = 0.5


@dataclass(frozen=True, eq=False)
class Match:
    """Which detections of one picture are the same: pairs (m, 2) of indices into reference and
    built, and the IoU (m,) of each pair."""

    pairs: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True, eq=False)
class PictureComparison:
    """One picture's detections by the float and by the built model, and which match."""

    index: int
    reference: Detections
    built: Detections
    match: Match

    @property
    def f1(self) -> float:
        """Agreement of this picture alone; 1 where neither found anything."""
        return _f1(len(self.match.iou), len(self.reference), len(self.built), nothing=1.0)


def match(a: Detections, b: Detections, iou: float = MATCH_IOU) -> Match:
    """Pair detections of the same class whose IoU is at least iou, the best pairs first, each
    detection at most once."""
    overlaps = iou_matrix(a.xyxy, b.xyxy)
    overlaps[a.class_id[:, None] != b.class_id] = 0
    rows, columns = np.nonzero(overlaps >= iou)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    used_a, used_b, pairs = set(), set(), []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_a and column not in used_b:
            used_a.add(row)
            used_b.add(column)
            pairs.append((row, column))
    chosen = np.array(pairs, int).reshape(-1, 2)
    return Match(chosen, overlaps[chosen[:, 0], chosen[:, 1]])


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64 (n, m) IoU of boxes a (n, 4) and b (m, 4), x1 y1 x2 y2; 0 where both are empty."""
    a, b = a[:, None].astype(np.float64), b[None].astype(np.float64)
    inside = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = inside.clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@dataclass(eq=False)
class Comparison:
    """Collects pictures, then sums them up."""

    facts: Facts
    pictures: list[PictureComparison] = field(default_factory=list)

    def __post_init__(self) -> None:
        # per head and group: sums of reference * built, reference^2, built^2
        self._sums = np.zeros((len(self.facts.heads), len(PARTS), 3))
        self.histograms = HeadHistograms(self.facts)

    def add_maps(self, reference: Sequence[np.ndarray], built: Sequence[np.ndarray]) -> None:
        """One picture's head maps, as the decode takes them."""
        self.histograms.add(reference, built)
        for i, (a, b) in enumerate(zip(reference, built, strict=True)):
            each = 5 + self.facts.classes
            a, b = (x.reshape(-1, each, x.shape[2] * x.shape[3]) for x in (a, b))
            for j, channels in enumerate(PARTS.values()):
                x, y = a[:, channels].ravel(), b[:, channels].ravel()
                self._sums[i, j] += np.dot(x, y), np.dot(x, x), np.dot(y, y)

    def add_detections(self, index: int, reference: Detections, built: Detections) -> None:
        self.pictures.append(PictureComparison(index, reference, built, match(reference, built)))

    def worst_pictures(self, count: int) -> list[PictureComparison]:
        """Those that agree least: by F1, then by the mean IoU of what matches; none where neither
        model found anything."""
        found = [p for p in self.pictures if len(p.reference) or len(p.built)]
        found.sort(key=lambda p: (p.f1, p.match.iou.mean() if len(p.match.iou) else 1.0))
        return found[:count]

    def agreement(self) -> Agreement:
        """Over all pictures together."""
        found = sum(len(p.reference) for p in self.pictures)
        built = sum(len(p.built) for p in self.pictures)
        ious = np.concatenate([p.match.iou for p in self.pictures] or [np.empty(0)])
        shifts = [
            p.built.score[p.match.pairs[:, 1]] - p.reference.score[p.match.pairs[:, 0]]
            for p in self.pictures
        ]
        matched = len(ious)
        return Agreement(
            pictures=len(self.pictures),
            float_detections=found,
            built_detections=built,
            matched=matched,
            f1=round(_f1(matched, found, built, nothing=0.0), 6),
            mean_iou=round(float(ious.mean()), 6) if matched else None,
            score_shift=round(float(np.concatenate(shifts).mean()), 6) if matched else None,
            heads=tuple(self._head(i) for i in range(len(self.facts.heads))),
        )

    def _head(self, index: int) -> HeadAgreement:
        each = _cosine(self._sums[index])
        worst = int(np.argmin(each))
        return HeadAgreement(
            output=self.facts.heads[index].output,
            cosine=round(float(_cosine(self._sums[index].sum(axis=0))), 6),
            worst_group=list(PARTS)[worst],
            worst_cosine=round(float(each[worst]), 6),
        )


def _cosine(sums: np.ndarray) -> np.ndarray:
    """Cosine similarity from (..., 3) sums; 1 for two zero vectors, 0 for one."""
    product, a, b = sums[..., 0], sums[..., 1], sums[..., 2]
    norm = np.sqrt(a * b)
    both_zero = (a == 0) & (b == 0)
    return np.where(
        both_zero, 1.0, np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)
    )


def _f1(matched: int, found: int, built: int, nothing: float) -> float:
    return 2 * matched / (found + built) if found + built else nothing
