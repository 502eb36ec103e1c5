"""What a graph does behind its heads, found by feeding the heads and looking at the outputs.

The operations of the decode differ from release to release and from exporter to exporter; what
they compute does not. Random logits go in at the heads, and every output must turn out to be some
head's logits, their sigmoids, or YOLOv5's decode of them, row by row. Anchors and strides follow
from the decoded rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from convert.heads.find import cut_graph
from convert.heads.run import run_graph
from runtime.errors import UserError

Form = Literal["logits", "sigmoid", "decoded"]

_CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@dataclass(frozen=True, eq=False)
class HeadMap:
    """A head tensor: its name, its shape (1, channels, ny, nx), and input pixels a cell covers."""

    name: str
    shape: tuple[int, int, int, int]
    stride: int


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of an output that are one head: all of it where start is None, as a map.

    each: 5 + nc, None for a map, which does not tell. wh_px: anchors (na, 2) of decoded rows.
    channels_last: the map is (1, ny, nx, channels).
    """

    head: int
    output: str
    form: Form
    start: int | None
    each: int | None
    wh_px: np.ndarray | None = None
    channels_last: bool = False


def as_map(value: np.ndarray, shape: tuple[int, ...], channels_last: bool) -> np.ndarray | None:
    """An output as a head map of that shape, None where it has another size. Exporters differ in
    how they part the axes: (1, na, 5 + nc, ny, nx) and (1, channels, ny * nx) are the same."""
    if not channels_last:
        return value.reshape(shape) if value.size == np.prod(shape) else None
    _, channels, ny, nx = shape
    return value.transpose(0, 3, 1, 2) if value.shape == (1, ny, nx, channels) else None


def probe_outputs(
    model: onnx.ModelProto, heads: Sequence[HeadMap], feeds: dict[str, np.ndarray], origin: object
) -> list[Block]:
    """What every output consists of. feeds: a picture, for graphs that take sizes from it.

    Raises UserError where an output is something else than YOLOv5's, saying what it looks like.
    """
    rng = np.random.default_rng(0)
    logits = [rng.normal(0, 1.5, head.shape).astype(np.float32) for head in heads]
    names = [value.name for value in model.graph.output]
    tail = cut_graph(
        model, [(name, None) for name in names], [(head.name, head.shape) for head in heads]
    )
    given = {head.name: values for head, values in zip(heads, logits, strict=True)}
    values = run_graph(tail, feeds | given, origin)
    blocks = [
        block for name in names for block in _explain(name, values[name], heads, logits, origin)
    ]
    missing = [head.name for i, head in enumerate(heads) if i not in {b.head for b in blocks}]
    if missing:
        raise UserError(
            f"{origin}: no output shows what becomes of {', '.join(map(repr, missing))}"
        )
    return blocks


def _explain(
    name: str,
    value: np.ndarray,
    heads: Sequence[HeadMap],
    logits: Sequence[np.ndarray],
    origin: object,
) -> list[Block]:
    for i, given in enumerate(logits):
        for channels_last in (False, True):
            found = as_map(value, given.shape, channels_last)
            for form, expected in (("logits", given), ("sigmoid", _sigmoid(given))):
                if found is not None and np.allclose(found, expected, **_CLOSE):
                    return [Block(i, name, form, None, None, channels_last=channels_last)]
    rows = value.ndim == 2 or (value.ndim > 2 and value.shape[0] == 1)
    if not rows or not value.size or value.dtype != np.float32:
        raise UserError(
            f"{origin}: output {name!r} has shape {value.shape}, unlike YOLOv5's. {_HINT}"
        )
    if value.ndim == 4 and value.shape[1] not in {h.shape[1] // value.shape[3] for h in heads}:
        raise UserError(
            f"{origin}: output {name!r} {value.shape} is no head but a map beside them, as a"
            " segmentation model's prototypes are: rkyolo handles detection models only so far"
        )
    return _explain_rows(name, value.reshape(-1, value.shape[-1]), heads, logits, origin)


def _explain_rows(
    name: str,
    rows: np.ndarray,
    heads: Sequence[HeadMap],
    logits: Sequence[np.ndarray],
    origin: object,
) -> list[Block]:
    """Blocks of a flat output (N, 5 + nc), from its first row to its last."""
    each, start, blocks = rows.shape[1], 0, []
    if each < 6:
        raise UserError(
            f"{origin}: output {name!r} has {each} numbers a row, unlike YOLOv5's. {_HINT}"
        )
    while start < len(rows):
        for i, given in enumerate(logits):
            if i in {block.head for block in blocks} or given.shape[1] % each:
                continue
            block = _match(name, rows, start, i, heads[i], given, origin)
            if block:
                blocks.append(block)
                start += given.size // each
                break
        else:
            raise UserError(
                f"{origin}: row {start} on, output {name!r} is neither a head nor its decode by"
                f" YOLOv5's formula. {_HINT}"
            )
    return blocks


def _match(
    name: str,
    rows: np.ndarray,
    start: int,
    index: int,
    head: HeadMap,
    given: np.ndarray,
    origin: object,
) -> Block | None:
    """The rows from start on as this head's, None where they are not."""
    each = rows.shape[1]
    _, channels, ny, nx = head.shape
    na = channels // each
    block = rows[start : start + na * ny * nx]
    t = given.reshape(na, each, ny * nx).transpose(0, 2, 1).reshape(-1, each)
    if len(block) < len(t):
        return None
    if np.allclose(block, t, **_CLOSE):
        return Block(index, name, "logits", start, each)
    q = _sigmoid(t)
    if not np.allclose(block[:, 4], q[:, 4], **_CLOSE):
        return None
    unlike = np.flatnonzero(~np.isclose(block[:, 4:], q[:, 4:], **_CLOSE).all(axis=0)) + 4
    if len(unlike):
        tail = t[:, unlike[0] :]
        mask = np.allclose(block[:, unlike[0] :], tail, **_CLOSE)
        what = "a segmentation model's mask coefficients" if mask else "landmarks or other numbers"
        raise UserError(
            f"{origin}: of the {each} numbers a row of {name!r}, those from {unlike[0]} on are no"
            f" class scores but {what}: rkyolo handles plain box heads only"
        )
    if np.allclose(block[:, :4], q[:, :4], **_CLOSE):
        return Block(index, name, "sigmoid", start, each)
    wh_px = _anchors(block[:, :4], q[:, :4], head, na, name, origin)
    return Block(index, name, "decoded", start, each, wh_px)


def _anchors(
    box: np.ndarray, q: np.ndarray, head: HeadMap, na: int, name: str, origin: object
) -> np.ndarray:
    """float32 (na, 2) anchors of decoded rows; the decode must be YOLOv5's in every row."""
    _, _, ny, nx = head.shape
    _, row, column = np.indices((na, ny, nx)).reshape(3, -1)
    centre = (2 * q[:, :2] - 0.5 + np.stack((column, row), 1)) * head.stride
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        wh = (box[:, 2:] / (2 * q[:, 2:]) ** 2).reshape(na, -1, 2)
        wh_px = np.median(wh, axis=1)
    if not np.allclose(box[:, :2], centre, rtol=1e-4, atol=1e-2):
        raise UserError(
            f"{origin}: the centres in {name!r} are not YOLOv5's (2 sigmoid - 0.5 + cell) x"
            f" {head.stride}: another stride, or an older formula. {_HINT}"
        )
    known = np.isfinite(wh_px).all() and (wh_px > 0).all()
    if not (known and np.allclose(wh, wh_px[:, None], rtol=1e-3, atol=0)):
        raise UserError(
            f"{origin}: the sizes in {name!r} are not YOLOv5's (2 sigmoid)^2 x anchor. {_HINT}"
        )
    return wh_px.astype(np.float32)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


_HINT = (
    "Anchor-free models (YOLOv8 or later), landmark heads and models with a decode of their own are"
    " not supported; export a plain YOLOv5 with export.py"
)
