"""The Detect head of a checkpoint: what it says, and why other heads are refused."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from anchors import AnchorHead, Anchors
from convert.checkpoint.tree import Module
from runtime.errors import UserError

_OTHER_TASKS = {
    "segmentation": "rkyolo handles detection models only so far",
    "classification": "rkyolo handles detection models only",
    "keypoint or landmark": "rkyolo handles plain box heads only",
    "anchor-free (YOLOv8 or later)": "rkyolo handles anchor-based YOLOv5 heads only; the vendor's "
    "model zoo has a converter for these",
    "YOLOv7": "its head has implicit layers that rkyolo does not build",
}


@dataclass(frozen=True, eq=False)
class DetectHead:
    """The head in output order, finest grid first.

    layers: for each output the layer number its input comes from. convs: the 1x1 convolutions.
    """

    anchors: Anchors
    classes: int
    layers: tuple[int, ...]
    convs: tuple[Module, ...]


def read_head(head: Module, layers: tuple[int, ...], origin: str) -> DetectHead:
    """The facts of a head module whose inputs are these layers.

    Anchors are the pixel buffer anchor_grid where the head has one (releases up to v5.0 decode with
    it), else the buffer anchors times stride. Raises UserError for any head that is not na * (5 +
    nc) plain channels a scale, naming what it is.
    """
    _refuse_other_tasks(head, origin)
    convs = _convs(head, origin)
    strides = _strides(head, origin)
    wh_px = _anchors_px(head, strides, origin)
    if not len(convs) == len(layers) == len(strides) == len(wh_px):
        raise UserError(
            f"{origin}: the head has {len(convs)} convolutions, {len(layers)} inputs,"
            f" {len(strides)} strides and {len(wh_px)} rows of anchors, which should be one number"
        )
    if not 1 <= len(convs) <= 5:
        raise UserError(f"{origin} has {len(convs)} heads; one to five are supported")
    classes = _classes(head, convs, wh_px.shape[1], origin)
    order = np.argsort(strides, kind="stable")
    try:
        anchors = Anchors(tuple(AnchorHead(strides[i], wh_px[i]) for i in order))
    except ValueError as error:
        raise UserError(f"{origin} has unusable anchors: {error}") from error
    return DetectHead(
        anchors, classes, tuple(layers[i] for i in order), tuple(convs[i] for i in order)
    )


def _refuse_other_tasks(head: Module, origin: str) -> None:
    task = _other_task(head)
    if task:
        raise UserError(f"{origin} has a {task} head ({head.class_name}): {_OTHER_TASKS[task]}")
    extra = [name for name in head.children if name != "m"]
    if extra:
        raise UserError(
            f"{origin}: the head {head.class_name} has parts besides its output convolutions"
            f" ({', '.join(extra)}), so its outputs mean something else than YOLOv5's"
        )
    if "m" not in head.children or "anchors" not in head.buffers:
        raise UserError(f"{origin} does not end in a YOLOv5 Detect head, but in {head.class_name}")


def _other_task(head: Module) -> str | None:
    names = head.children.keys() | head.attributes.keys()
    kind = head.kind.lower()
    if any("kpt" in name or "keypoint" in name or "landmark" in name for name in names | {kind}):
        return "keypoint or landmark"
    if names & {"dfl", "reg_max", "cv2", "one2one_cv2"}:
        return "anchor-free (YOLOv8 or later)"
    if names & {"proto", "nm"} or kind == "segment":
        return "segmentation"
    if "linear" in names or kind == "classify":
        return "classification"
    if names & {"ia", "im"}:
        return "YOLOv7"
    return None


def _convs(head: Module, origin: str) -> tuple[Module, ...]:
    convs = tuple(head.children["m"].children.values())
    for conv in convs:
        weight = conv.parameters.get("weight")
        plain = conv.kind == "Conv2d" and weight is not None and weight.ndim == 4
        if not plain or weight.shape[2:] != (1, 1) or conv.children:
            raise UserError(
                f"{origin}: an output of the head is {conv.class_name}, not one 1x1 convolution"
                " (a decoupled head?)"
            )
    return convs


def _strides(head: Module, origin: str) -> list[int]:
    stride = (head.plain_tensors | head.buffers | head.attributes).get("stride")
    with np.errstate(invalid="ignore"):  # what is not finite is refused below
        numbers = np.asarray(stride if _is_numeric(stride) else [], np.float64).ravel()
    if not len(numbers) or not all(n >= 1 and n == int(n) for n in numbers if np.isfinite(n)):
        raise UserError(f"{origin}: the head's strides are missing or no whole numbers")
    if not np.isfinite(numbers).all() or numbers.max() > 1024:
        raise UserError(f"{origin}: the head's strides {numbers.tolist()} are not usable")
    return [int(n) for n in numbers]


def _is_numeric(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiu"
    return isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)


def _anchors_px(head: Module, strides: list[int], origin: str) -> np.ndarray:
    """float32 (nl, na, 2) in pixels, in the head's own order."""
    grid = head.buffers.get("anchor_grid")
    source = head.buffers["anchors"] if grid is None else grid
    if source.size == 0 or source.ndim < 2 or source.shape[-1] != 2:
        raise UserError(f"{origin}: the head's anchors have shape {source.shape}, not (nl, na, 2)")
    pairs = source.reshape(source.shape[0], -1, 2).astype(np.float32)
    if grid is None and len(pairs) == len(strides):
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
            pairs = pairs * np.array(strides, np.float32)[:, None, None]
    return pairs


def _classes(head: Module, convs: tuple[Module, ...], na: int, origin: str) -> int:
    channels = {len(conv.parameters["weight"]) for conv in convs}
    each, rest = divmod(min(channels), na)
    classes = head.attributes.get("nc")
    if len(channels) == 1 and not rest and each > 5 and classes == each - 5:
        return each - 5
    raise UserError(
        f"{origin}: the head has {', '.join(map(str, sorted(channels)))} channels, and {na} anchors"
        f" with {classes} classes need {na} x (5 + {classes}): it is a landmark, rotated-box or"
        " otherwise changed head, which rkyolo does not decode"
    )
