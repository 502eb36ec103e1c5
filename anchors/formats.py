"""Anchors as files: yaml, the vendor's RK_anchors text, and a C header for the vendor's C demo."""

import re

import numpy as np
import yaml

from anchors.anchors import Anchors
from anchors.plain_yaml import load_plain


def to_yaml(anchors: Anchors) -> str:
    """Anchors as yaml: a list of heads, each its stride and its (width, height) pairs in pixels.
    The shortest decimals that are those float32 numbers and no others."""
    heads = [
        {"stride": head.stride, "anchors_px": [[float(str(n)) for n in wh] for wh in head.wh_px]}
        for head in anchors.heads
    ]
    return yaml.safe_dump({"heads": heads}, sort_keys=False, default_flow_style=None)


def from_yaml(text: str, strides: tuple[int, ...]) -> Anchors:
    """Anchors from to_yaml's text, or from a YOLOv5 model's yaml, whose key anchors holds one flat
    row a head, the finest grid first, and no strides.

    Raises ValueError for anything else.
    """
    plain = load_plain(text)
    plain = plain if isinstance(plain, dict) else {}
    try:
        if "heads" in plain:
            heads = plain["heads"]
            strides = [head["stride"] for head in heads]
            rows = [head["anchors_px"] for head in heads]
        else:
            rows = plain["anchors"]
        if isinstance(rows, int):
            raise ValueError("it only says how many anchors AutoAnchor should find")
        if not all(type(stride) is int for stride in strides):
            raise ValueError(f"its strides {strides} are not all whole numbers")
        if len(rows) != len(strides):
            raise ValueError(f"it holds anchors of {len(rows)} heads, not of {len(strides)}")
        return Anchors.from_pairs(strides, [_pairs(row) for row in rows])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError("it holds no anchors") from error


def _pairs(row: list) -> np.ndarray:
    """float64 (na, 2) of a flat row of numbers, or of a list of pairs."""
    numbers = [n for item in row for n in (item if isinstance(item, list) else [item])]
    if len(numbers) % 2 or not all(type(n) in (int, float) for n in numbers):
        raise ValueError("a row of it is no list of widths and heights")
    return np.array(numbers, np.float64).reshape(-1, 2)


def to_rk_text(anchors: Anchors) -> str:
    """RK_anchors.txt as the vendor's Python demo reads it: a number a line, width then height, the
    finest grid first. Floats, since rounded anchors make wrong boxes."""
    numbers = (n for head in anchors.heads for n in head.wh_px.ravel())
    return "".join(f"{n!s}\n" for n in numbers)


def from_rk_text(text: str, strides: tuple[int, ...]) -> Anchors:
    """Anchors from RK_anchors.txt, as many for each head. Raises ValueError for anything else."""
    words = re.split(r"[\s,;\[\]]+", text.strip(" \t\r\n,;[]"))
    numbers = np.array([float(word) for word in words])
    heads = len(strides)
    if len(numbers) % (2 * heads):
        raise ValueError(f"it holds {len(numbers)} numbers, which {heads} heads do not divide")
    return Anchors.from_pairs(strides, numbers.reshape(heads, -1, 2))


def rounding_loss(anchors: Anchors) -> float:
    """The largest relative change of a width or height when rounded to whole pixels."""
    wh_px = np.concatenate([head.wh_px.ravel() for head in anchors.heads])
    return float((np.abs(_rounded(wh_px) - wh_px) / wh_px).max())


def to_c_header(anchors: Anchors) -> str:
    """A header with the table of the vendor's C demo, which takes whole pixels."""
    sizes = {len(head.wh_px) for head in anchors.heads}
    if len(sizes) != 1:
        raise ValueError("the vendor's C demo needs as many anchors on every head")
    rows = ",\n".join(
        "    {" + ", ".join(str(int(n)) for n in _rounded(head.wh_px.ravel())) + "}"
        for head in anchors.heads
    )
    return (
        f"/* Anchors in pixels, a row for each stride of {', '.join(map(str, anchors.strides))}."
        f"\n   The demo takes integers: rounding changes sizes by up to"
        f" {100 * rounding_loss(anchors):.1f} %. */\n"
        "#ifndef RKYOLO_ANCHORS_H\n#define RKYOLO_ANCHORS_H\n\n"
        f"static const int anchor[{len(anchors.heads)}][{2 * sizes.pop()}] = {{\n{rows}}};\n\n"
        "#endif\n"
    )


def _rounded(numbers: np.ndarray) -> np.ndarray:
    return np.maximum(np.rint(numbers), 1)
