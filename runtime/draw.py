"""Draw detections onto pictures."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from runtime.detections import Detections


def class_colour(class_id: int) -> tuple[int, int, int]:
    """A bright BGR colour, far from those of the neighbouring classes."""
    hue = (0.08 + class_id * 0.618034) % 1.0  # the golden ratio spreads any number of hues evenly
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw(bgr: np.ndarray, detections: Detections, names: Sequence[str]) -> np.ndarray:
    """A copy of a picture uint8 (h, w, 3) with each box, its class and its score; the highest score
    is drawn last, on top."""
    canvas = bgr.copy()
    scale = max(0.4, min(canvas.shape[:2]) / 1200)
    width = max(1, round(scale * 2.5))
    for i in reversed(range(len(detections))):
        x1, y1, x2, y2 = (round(float(v)) for v in detections.xyxy[i])
        class_id = int(detections.class_id[i])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(class_id), width, cv2.LINE_AA)
    for i in reversed(range(len(detections))):
        class_id = int(detections.class_id[i])
        text = f"{names[class_id]} {detections.score[i]:.2f}"
        _label(canvas, text, detections.xyxy[i], class_colour(class_id), scale)
    return canvas


def _label(
    canvas: np.ndarray, text: str, xyxy: np.ndarray, colour: tuple[int, int, int], scale: float
) -> None:
    """Text on a plate above the box, or inside where there is no room above."""
    text = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no other letters
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = max(0, min(round(float(xyxy[0])), canvas.shape[1] - width - 2))
    y = round(float(xyxy[1]))
    bottom = y if y - height - below - 2 >= 0 else y + height + below + 2
    cv2.rectangle(canvas, (x, bottom - height - below - 2), (x + width + 2, bottom), colour, -1)
    cv2.putText(
        canvas,
        text,
        (x + 1, bottom - below),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        (0, 0, 0),
        1,
        cv2.LINE_AA,
    )
