"""A model's anchors as SVG, each head to its own scale, over those of a preset."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from anchors import PRESETS, AnchorHead, Anchors, preset_of
from convert.report.svg import drawing

_SIDE, _MARGIN = 220, 12
SHADES = 5
"""Colours there are for the anchors of a head; then they come again."""


@dataclass(frozen=True)
class AnchorPlot:
    """One head: its stride, the drawing, sizes as text with their shade, the preset's sizes."""

    stride: int
    svg: Markup
    sizes: tuple[tuple[int, str], ...]
    preset: tuple[str, ...]


def closest_preset(anchors: Anchors) -> tuple[str, bool]:
    """The preset that shares most strides, and whether the anchors are that preset's."""
    same = preset_of(anchors)
    if same:
        return same, True
    shared = max(PRESETS.items(), key=lambda item: len({*item[1].strides} & {*anchors.strides}))
    return shared[0], False


def plots(anchors: Anchors, preset: str) -> list[AnchorPlot]:
    """A plot a head; the preset's head is the one of the same stride."""
    others = {head.stride: head for head in PRESETS[preset].heads}
    return [_plot(head, others.get(head.stride), preset) for head in anchors.heads]


def _plot(head: AnchorHead, other: AnchorHead | None, preset: str) -> AnchorPlot:
    theirs = other.wh_px if other else np.empty((0, 2))
    largest = float(max(head.wh_px.max(), theirs.max(initial=0)))
    scale = (_SIDE - 2 * _MARGIN) / largest
    parts = [_box(wh * scale, "preset") for wh in theirs]
    order = np.argsort(-head.wh_px.prod(axis=1))
    parts += [_box(head.wh_px[i] * scale, f"anchor shade{i % SHADES}") for i in order]
    ten = float(10 ** np.floor(np.log10(largest / 2)))
    ruler = Markup(
        '<line class="ruler" x1="4" x2="{:.1f}" y1="{}" y2="{}"/><text x="4" y="{}">{:g} px</text>'
    )
    parts.append(ruler.format(4 + ten * scale, _SIDE - 3, _SIDE - 3, _SIDE - 8, ten))
    return AnchorPlot(
        head.stride,
        drawing(_SIDE, _SIDE, f"Anchors of stride {head.stride} over those of {preset}", parts),
        tuple((i % SHADES, _size(wh)) for i, wh in enumerate(head.wh_px)),
        tuple(_size(wh) for wh in theirs),
    )


def _box(wh: np.ndarray, kind: str) -> Markup:
    w, h = wh.tolist()
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        kind, (_SIDE - w) / 2, (_SIDE - h) / 2, w, h
    )


def _size(wh: np.ndarray) -> str:
    return f"{wh[0]:.4g} \u00d7 {wh[1]:.4g}"
