"""A picture of a model's anchors, head by head and to scale, beside a preset's."""

from pathlib import Path

import cv2
import numpy as np

from anchors import PRESETS, AnchorHead, Anchors
from runtime.encode import write_picture
from runtime.errors import UserError

_PANEL = 300
_TEXT = 20
_MARGIN = 16
_INK = (40, 40, 40)
_COLOURS = ((180, 90, 20), (40, 130, 240), (60, 150, 60), (150, 60, 160), (60, 60, 200))


def write_plot(path: Path, anchors: Anchors) -> None:
    """Write the picture. Raises UserError for a suffix that is no picture's."""
    if not cv2.haveImageWriter(path.name):
        raise UserError(f"--plot {path} should end in .png")
    write_picture(path, plot_anchors(anchors))


def plot_anchors(anchors: Anchors) -> np.ndarray:
    """uint8 (h, w, 3) BGR: a row a head, the model's anchors left, right those that the preset of
    as many heads has for the same stride, both to the row's one scale."""
    preset_name, preset = _closest_preset(anchors)
    rows = []
    for head in anchors.heads:
        other = next((h for h in preset.heads if h.stride == head.stride), None)
        both = [head] if other is None else [head, other]
        largest = max(float(h.wh_px.max()) for h in both)
        scale = (_PANEL - 2 * _MARGIN) / largest
        lines = max(len(h.wh_px) for h in both)
        left = _panel(head, scale, lines, f"stride {head.stride}: this model")
        right = _panel(other, scale, lines, preset_name)
        rows.append(np.hstack([left, right]))
    return np.vstack(rows)


def _closest_preset(anchors: Anchors) -> tuple[str, Anchors]:
    """The preset that shares most strides."""
    return max(PRESETS.items(), key=lambda item: len({*item[1].strides} & {*anchors.strides}))


def _panel(head: AnchorHead | None, scale: float, lines: int, title: str) -> np.ndarray:
    """One head's anchors around one centre, with room for so many lines of sizes below."""
    canvas = np.full((_TEXT + _PANEL + lines * _TEXT + _MARGIN, _PANEL + 60, 3), 255, np.uint8)
    if head is None:
        _write(canvas, f"{title} has no such stride", _TEXT)
        return canvas
    _write(canvas, title, _TEXT)
    centre = canvas.shape[1] / 2, _TEXT + _PANEL / 2
    ten = max(1, round(10 * scale))
    cv2.line(canvas, (8, _TEXT + _PANEL - 6), (8 + ten, _TEXT + _PANEL - 6), _INK, 2)
    cv2.putText(
        canvas,
        "10 px",
        (8, _TEXT + _PANEL - 12),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.4,
        _INK,
        1,
        cv2.LINE_AA,
    )
    for i in np.argsort(-head.wh_px.prod(axis=1)):
        w, h = head.wh_px[i] * scale / 2
        corners = [(round(centre[0] + dx), round(centre[1] + dy)) for dx, dy in ((-w, -h), (w, h))]
        cv2.rectangle(canvas, *corners, _COLOURS[i % len(_COLOURS)], 2, cv2.LINE_AA)
    for i, (w, h) in enumerate(head.wh_px):
        colour = _COLOURS[i % len(_COLOURS)]
        _write(canvas, f"{w:.5g} x {h:.5g}", _TEXT + _PANEL + (i + 1) * _TEXT, colour)
    return canvas


def _write(canvas: np.ndarray, text: str, y: int, colour: tuple[int, int, int] = _INK) -> None:
    cv2.putText(canvas, text, (8, y - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
