"""From head maps to boxes: filter by objectness first, and compute the rest for survivors only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from runtime.errors import UserError
from runtime.manifest import PARTS, Facts, Thresholds

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
_NOWHERE = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Tensor:
    """One output: array (1, channels, ny, nx), whose real value is (array - zero_point) * scale."""

    array: np.ndarray
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes above the score threshold, before suppression, in the order of the head maps.

    xyxy: float32 (n, 4) in input pixels, finite, not clipped; score: float32 (n,); class_id: int64
    (n,).
    """

    xyxy: np.ndarray
    score: np.ndarray
    class_id: np.ndarray


@dataclass(frozen=True, eq=False)
class _Part:
    """What is known of one of a head's tensors before any picture is seen; k is the channels that
    it has of each anchor."""

    shape: tuple[int, int, int, int]
    planes: tuple[int, int, int]  # na, k, ny * nx
    channels: np.ndarray  # int64 (k, 1), from a place's first element to each of its channels
    first: np.ndarray | None  # int64 (places,), its first element; None where it is the place


@dataclass(frozen=True, eq=False)
class _Head:
    """The same of a head, whose parts together have all channels. A place is anchor-major, then
    row, then column."""

    parts: tuple[_Part, ...]
    objectness: tuple[int, int]  # in which part, and there in which plane of an anchor
    box: np.ndarray  # float32 (5, places), see _xyxy


class Decoder:
    """Decodes the outputs of one model under one set of thresholds; holds no state of a picture.

    For stride s, anchor (aw, ah), cell (cx, cy) and q = sigmoid(logits): centre x is
    (2 qx - 0.5 + cx) s, y likewise, width is (2 qw)^2 aw, height (2 qh)^2 ah, score is objectness
    times class score (YOLOv5, Detect.forward). A candidate's objectness, and then its score, are
    strictly above the threshold, as in YOLOv5's non_max_suppression.

    With best class only (multi_label off) a box's best class, by its logit, is chosen among all
    classes; where that one is not on the allow-list or is below its own threshold, the box is
    dropped. What has no finite score, or a box that is not finite, is no candidate.

    Raises UserError for thresholds that name classes the model does not have.
    """

    def __init__(self, facts: Facts, thresholds: Thresholds):
        self._logits = facts.activation == "none"
        self._multi_label = thresholds.multi_label
        self._class_score = _class_thresholds(facts, thresholds)
        self._objectness = _raw(float(self._class_score.min()), self._logits)
        self._heads = [_head(facts, i) for i in range(len(facts.heads))]

    def __call__(self, tensors: Sequence[Tensor]) -> Candidates:
        """Candidates of one picture. tensors: the facts' outputs, in their order, of their
        shapes."""
        values, boxes = [], []
        for head, own in zip(self._heads, self._by_head(tensors), strict=True):
            place = self._above_objectness(head, own)
            if len(place):
                values.append(_gather(head, own, place))
                boxes.append(head.box.take(place, axis=1))
        if not values:
            return Candidates(
                np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64)
            )
        value, box = np.concatenate(values, axis=1), np.concatenate(boxes, axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # of a broken map
            which, score, class_id = self._classify(value[4:])
            xyxy = _xyxy(self._activate(value[:4, which]), box[:, which])
        if not (np.isfinite(xyxy).all() and np.isfinite(score).all()):
            finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(score)
            xyxy, score, class_id = xyxy[finite], score[finite], class_id[finite]
        return Candidates(xyxy, score, class_id)

    def _by_head(self, tensors: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        expected = [part.shape for head in self._heads for part in head.parts]
        for shape, tensor in zip(expected, tensors, strict=True):
            if tensor.array.shape != shape:
                raise ValueError(f"a head map has shape {tensor.array.shape}, expected {shape}")
        each = len(expected) // len(self._heads)
        return [tensors[i : i + each] for i in range(0, len(tensors), each)]

    def _above_objectness(self, head: _Head, tensors: Sequence[Tensor]) -> np.ndarray:
        """Places whose objectness passes, compared as it stands in its tensor."""
        part, plane = head.objectness
        tensor, threshold = tensors[part], self._objectness
        values = tensor.array.reshape(head.parts[part].planes)[:, plane]
        if values.dtype in _BYTES:
            first = _first_above(values.dtype, tensor.scale, tensor.zero_point, threshold)
            return _NOWHERE if first is None else np.flatnonzero(values >= values.dtype.type(first))
        if tensor.scale != 1.0 or tensor.zero_point:
            threshold = threshold / tensor.scale + tensor.zero_point
        # an array, since numpy below 2 would round a scalar to the values' type
        return np.flatnonzero(values > np.array([threshold], np.float32))

    def _classify(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(index, score, class) of what passes; value: (1 + nc, n), objectness first."""
        if self._multi_label:
            value = self._activate(value)
            every = (value[1:] * value[0]).T
            which, class_id = np.nonzero(every > self._class_score)
            return which, every[which, class_id], class_id
        # the activation is monotonic, so the best class can be chosen before it
        class_id = value[1:].argmax(axis=0)
        best = value[class_id + 1, np.arange(value.shape[1])]
        score = self._activate(best) * self._activate(value[0])
        which = np.flatnonzero(score > self._class_score.take(class_id))
        return which, score[which], class_id[which]

    def _activate(self, value: np.ndarray) -> np.ndarray:
        return _sigmoid(value) if self._logits else value


def _gather(head: _Head, tensors: Sequence[Tensor], place: np.ndarray) -> np.ndarray:
    """float32 (5 + nc, n), all channels of the places, dequantized."""
    if len(tensors) == 1:
        return _real(head.parts[0], tensors[0], place)
    return np.concatenate([_real(*both, place) for both in zip(head.parts, tensors, strict=True)])


def _real(part: _Part, tensor: Tensor, place: np.ndarray) -> np.ndarray:
    """float32 (k, n), a part's channels of the places. Plane after plane, so that neighbouring
    places share cache lines."""
    index = place[None] if part.first is None else part.channels + part.first.take(place)
    return _dequantized(tensor.array.take(index), tensor.scale, tensor.zero_point)


@lru_cache(maxsize=256)
def _first_above(dtype: np.dtype, scale: float, zero_point: int, threshold: float) -> int | None:
    """The least byte whose real value is above a threshold, as it would be in float32, None where
    there is none; a higher byte has a higher real value. Remembered: a model's scales stay."""
    bounds = np.iinfo(dtype)
    codes = np.arange(bounds.min, bounds.max + 1).astype(dtype)
    real = _dequantized(codes, scale, zero_point)
    passing = codes[real > np.float32(threshold)]
    return int(passing[0]) if len(passing) else None


def _dequantized(value: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """Values of a tensor as float32."""
    if scale != 1.0 or zero_point:
        return (value - np.float32(zero_point)) * np.float32(scale)
    return value.astype(np.float32, copy=False)


def _xyxy(q: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Corners float32 (n, 4) from q (4, n), the activated x, y, w, h, and box (5, n):
    x and y of q = 0, twice the stride, twice the anchor's width and height."""
    centre = q[:2] * box[2] + box[:2]
    half = q[2:] ** 2 * box[3:]
    return np.concatenate((centre - half, centre + half)).T


def _sigmoid(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp overflows to inf, and 1 / inf is the right 0
        return 1 / (1 + np.exp(-value))


def _raw(probability: float, logits: bool) -> float:
    """The logit of a probability, minus or plus infinity at 0 and 1, or the probability itself."""
    if not logits:
        return probability
    with np.errstate(divide="ignore"):
        return float(np.log(np.float64(probability)) - np.log1p(np.float64(-probability)))


def _head(facts: Facts, index: int) -> _Head:
    tensors, head = facts.tensors_of(index), facts.anchors.heads[index]
    (ny, nx), na = facts.head_shape(index)[2:], len(head.wh_px)
    anchor, row, column = (axis.ravel() for axis in np.indices((na, ny, nx)))
    box = np.empty((5, anchor.size), np.float32)
    box[0], box[1] = (column - 0.5) * head.stride, (row - 0.5) * head.stride
    box[2] = 2 * head.stride
    box[3:] = 2 * head.wh_px[anchor].T
    return _Head(
        parts=tuple(_part(shape, na, anchor, row * nx + column) for _, shape in tensors),
        objectness=(0, PARTS["objectness"].start) if len(tensors) == 1 else (1, 0),
        box=box,
    )


def _part(shape: tuple[int, int, int, int], na: int, anchor: np.ndarray, cell: np.ndarray) -> _Part:
    """A tensor of a head; anchor and cell are those of each place."""
    k, cells = shape[1] // na, shape[2] * shape[3]
    return _Part(
        shape=shape,
        planes=(na, k, cells),
        channels=np.arange(k)[:, None] * cells,
        first=anchor * (k * cells) + cell if k > 1 else None,
    )


def _class_thresholds(facts: Facts, thresholds: Thresholds) -> np.ndarray:
    """float32 (nc,): each class's score threshold, 1 (never exceeded) for those not wanted."""
    unknown = {*thresholds.class_score, *(thresholds.classes or ())} - set(facts.class_names)
    if unknown:
        raise UserError(
            f"no class is called {', '.join(sorted(unknown))}: "
            f"the model's classes are {', '.join(facts.class_names)}"
        )
    wanted = facts.class_names if thresholds.classes is None else thresholds.classes
    return np.array(
        [
            thresholds.class_score.get(name, thresholds.score) if name in wanted else 1
            for name in facts.class_names
        ],
        np.float32,
    )
