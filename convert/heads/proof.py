"""Proof that a cut graph with rkyolo's decode is the original graph, on one picture."""

from collections.abc import Sequence

import numpy as np

from convert.heads.probe import Block, as_map
from convert.heads.run import one_process, run_graph
from convert.heads.source import OnnxSource
from convert.network.split import whole_maps
from runtime.backends import planar
from runtime.decode import Decoder, Tensor
from runtime.errors import UserError
from runtime.feed import unfold
from runtime.manifest import Facts, Proof, Thresholds

MOST_PX = 1e-2
MOST_SCORE = 1e-4
_MOST_LOGIT = 1e-3
_CLOSE = {"rtol": 1e-3, "atol": 1e-6}


def prove(source: OnnxSource, facts: Facts, graph: bytes, picture: np.ndarray) -> Proof:
    """Run the user's own graph, and the cut graph with the runtime's decode under these facts, on a
    picture uint8 (1, h, w, c) as the facts' stem takes it, and require the same.

    Where the original decodes, every box and score is compared, which proves anchors, strides,
    activation and output order; where it does not, its outputs are compared with the head maps,
    which proves all but the anchors. Raises UserError where they differ.
    """
    whole = picture if facts.input.stem == "none" else unfold(picture[0])[None]
    with one_process():
        original = run_graph(source.model, {source.input_name: planar(whole)}, source.path)
        cut = run_graph(graph, {"images": planar(picture)}, f"the graph cut from {source.path}")
    for name, value in original.items():
        blocks = [block for block in source.blocks if block.output == name]
        if value.size != sum(np.prod(source.heads[block.head].shape) for block in blocks):
            _refuse(source, f"outputs of one size, and on another picture {value.shape}")
    arrays = [cut[name] for name, _ in facts.tensors]
    if [array.shape for array in arrays] != [shape for _, shape in facts.tensors]:
        _refuse(source, "heads of other shapes")
    compare = _compare_boxes if source.decodes else _compare_maps
    with np.errstate(over="ignore", invalid="ignore"):  # what is not a number fails the proof
        return compare(source, facts, original, arrays)


def _compare_boxes(
    source: OnnxSource, facts: Facts, original: dict[str, np.ndarray], arrays: Sequence[np.ndarray]
) -> Proof:
    """Every row of the original decode against the product's own decode, nothing filtered."""
    rows = np.concatenate([_rows(source, i, original) for i in range(len(source.heads))])
    if rows.shape[1] != 5 + facts.classes:
        _refuse(source, f"{facts.classes} classes instead of {rows.shape[1] - 5}")
    found = Decoder(facts, Thresholds(score=0))([Tensor(array) for array in arrays])
    score = rows[:, 4:5] * rows[:, 5:]
    # a score of 0 is no candidate; ONNX Runtime's sigmoid and ours come to 0 at different logits
    kept = _best_scores(facts, whole_maps(facts, arrays)) > 0
    if len(kept) != len(rows) or not 0 < kept.sum() == len(found.score):
        _refuse(source, f"{len(found.score)} boxes instead of {len(rows)}")
    none, rows, score = score[~kept], rows[kept], score[kept]
    half = rows[:, 2:4] / 2
    xyxy = np.concatenate((rows[:, :2] - half, rows[:, :2] + half), axis=1)
    px = _largest(xyxy - found.xyxy)
    best, chosen = score.max(axis=1), score[np.arange(len(score)), found.class_id]
    off = _largest(none, chosen - found.score, best - found.score)
    # of a picture without objects all scores are small, and must be the same all the same
    same = all(np.allclose(s, found.score, **_CLOSE) for s in (best, chosen))
    if not (same and px <= MOST_PX and off <= MOST_SCORE):
        _refuse(source, f"boxes are off by up to {px:.3g} pixels and scores by up to {off:.3g}")
    return Proof(compared="boxes", count=len(rows), largest_px=px, largest_value=off)


def _best_scores(facts: Facts, maps: Sequence[np.ndarray]) -> np.ndarray:
    """The score of every place's best class, float32 (places,), anchor-major."""
    scores = []
    for head, array in zip(facts.heads, maps, strict=True):
        planes = array.reshape(len(head.anchors_px), 5 + facts.classes, -1)
        best = np.stack((planes[:, 4], planes[:, 5:].max(axis=1)))
        best = _sigmoid(best) if facts.activation == "none" else best
        scores.append((best[1] * best[0]).ravel())
    return np.concatenate(scores)


def _largest(*differences: np.ndarray) -> float:
    """The largest absolute value, not a number where one of them is none."""
    return float(np.max([np.abs(values).max(initial=0) for values in differences]))


def _compare_maps(
    source: OnnxSource, facts: Facts, original: dict[str, np.ndarray], arrays: Sequence[np.ndarray]
) -> Proof:
    """The original outputs against the head maps; logits are compared as sigmoids where one side
    has those."""
    differences, maps = [], whole_maps(facts, arrays)
    for block in source.blocks:
        ours = maps[block.head]
        theirs = _block_map(source, block, original)
        if facts.activation == "sigmoid" and block.form == "logits":
            theirs = _sigmoid(theirs)
        elif facts.activation == "none" and block.form == "sigmoid":
            ours = _sigmoid(ours)
        differences.append(ours - theirs)
    largest = _largest(*differences)
    if not largest <= _MOST_LOGIT:
        _refuse(source, f"head maps are off by up to {largest:.3g}")
    count = sum(values.size for values in differences)
    return Proof(compared="head maps", count=count, largest_px=None, largest_value=largest)


def _rows(source: OnnxSource, head: int, original: dict[str, np.ndarray]) -> np.ndarray:
    """The original's decoded rows (n, 5 + nc) of one head."""
    block = next(b for b in source.blocks if b.head == head and b.form == "decoded")
    return _slice(source, block, original)


def _slice(source: OnnxSource, block: Block, original: dict[str, np.ndarray]) -> np.ndarray:
    _, channels, ny, nx = source.heads[block.head].shape
    value = original[block.output]
    count = channels // block.each * ny * nx
    return value.reshape(-1, block.each)[block.start : block.start + count]


def _block_map(source: OnnxSource, block: Block, original: dict[str, np.ndarray]) -> np.ndarray:
    """A block in the shape of its head's map."""
    shape = source.heads[block.head].shape
    if block.start is None:
        return as_map(original[block.output], shape, block.channels_last)
    rows = _slice(source, block, original).reshape(-1, shape[2] * shape[3], block.each)
    return rows.transpose(0, 2, 1).reshape(shape)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def _refuse(source: OnnxSource, difference: str) -> None:
    raise UserError(
        f"the proof fails for {source.path}: cut and decoded by rkyolo it gives {difference}, so"
        " its anchors, strides, activation or output order are not what was found; please report it"
    )
