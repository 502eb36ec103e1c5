"""The anchor sets that YOLOv5's own model files name, in pixels at the default input size."""

import numpy as np

from anchors.anchors import Anchors


def _preset(strides: tuple[int, ...], *heads: tuple[int, ...]) -> Anchors:
    return Anchors.from_pairs(strides, [np.reshape(head, (-1, 2)) for head in heads])


PRESETS: dict[str, Anchors] = {
    "coco-p5": _preset(
        (8, 16, 32),
        (10, 13, 16, 30, 33, 23),
        (30, 61, 62, 45, 59, 119),
        (116, 90, 156, 198, 373, 326),
    ),
    "coco-p6": _preset(
        (8, 16, 32, 64),
        (19, 27, 44, 40, 38, 94),
        (96, 68, 86, 152, 180, 137),
        (140, 301, 303, 264, 238, 542),
        (436, 615, 739, 380, 925, 792),
    ),
}


def preset_of(anchors: Anchors) -> str | None:
    """The name of the preset these anchors are, up to half-precision rounding, or None."""
    return next((name for name, preset in PRESETS.items() if anchors.is_close(preset)), None)
