"""Both models' detections in the pictures where they agree least."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from convert.calibrate import Sample, read_sample
from convert.compare import Comparison, PictureComparison
from runtime.detections import Detections
from runtime.draw import class_colour, draw

WORST_PICTURES = 4
_SIDE_PX = 640, 1280
"""A drawn picture's longer side is at least and at most this."""
_RED = 0, 0, 255


@dataclass(frozen=True, eq=False)
class Drawn:
    """One picture both models disagree on: where it is kept, who it was, how far they agree, and
    side_by_side's picture, None where the file is gone since."""

    path: str
    sample: Sample
    found: PictureComparison
    bgr: np.ndarray | None


def worst(comparison: Comparison, samples: Sequence[Sample]) -> list[Drawn]:
    """The pictures that agree least; samples are those that were compared."""
    drawn = []
    for place, found in enumerate(comparison.worst_pictures(WORST_PICTURES), 1):
        sample = samples[found.index]
        bgr = read_sample(sample)
        if bgr is not None:
            bgr = side_by_side(bgr, found, comparison.facts.class_names)
        drawn.append(Drawn(f"pictures/worst-{place}-{_plain_name(sample)}.png", sample, found, bgr))
    return drawn


def jpeg(bgr: np.ndarray, most_bytes: int) -> bytes:
    """A picture uint8 (h, w, 3) as a JPEG of at most so many bytes, made smaller until it is."""
    for quality in (85, 70, 55):
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= most_bytes:
            return data
    smaller = max(1, bgr.shape[1] * 2 // 3), max(1, bgr.shape[0] * 2 // 3)
    if smaller == (bgr.shape[1], bgr.shape[0]):
        return data
    return jpeg(cv2.resize(bgr, smaller, interpolation=cv2.INTER_AREA), most_bytes)


def _plain_name(sample: Sample) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", sample.file.stem)[:60] + (
        "" if sample.frame is None else f"-{sample.frame}"
    )


def side_by_side(bgr: np.ndarray, picture: PictureComparison, names: tuple[str, ...]) -> np.ndarray:
    """Both models' detections in a picture uint8 (h, w, 3), float left and built right. What both
    found has a thin box; what only one did has a red frame, its class and its score."""
    height, width = bgr.shape[:2]
    scale = float(np.clip(1, *(side / max(width, height) for side in _SIDE_PX)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    halves = []
    for title, found, matched in (
        ("float", picture.reference, picture.match.pairs[:, 0]),
        ("built", picture.built, picture.match.pairs[:, 1]),
    ):
        alone = np.setdiff1d(np.arange(len(found)), matched)
        half = _drawn(bgr, found, scale, matched, alone, names)
        halves.append(_titled(half, f"{title}: {len(found)} found, {len(alone)} only here"))
    gap = np.full((halves[0].shape[0], 8, 3), 255, np.uint8)
    return np.hstack([halves[0], gap, halves[1]])


def _drawn(
    bgr: np.ndarray,
    found: Detections,
    scale: float,
    matched: np.ndarray,
    alone: np.ndarray,
    names: tuple[str, ...],
) -> np.ndarray:
    canvas, xyxy = bgr.copy(), found.xyxy * np.float32(scale)
    for i in matched:
        x1, y1, x2, y2 = xyxy[i].round().astype(int).tolist()
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(int(found.class_id[i])), 1)
    for i in alone:
        x1, y1, x2, y2 = xyxy[i].round().astype(int).tolist()
        cv2.rectangle(canvas, (x1 - 6, y1 - 6), (x2 + 6, y2 + 6), _RED, 2)
    return draw(canvas, Detections(xyxy[alone], found.score[alone], found.class_id[alone]), names)


def _titled(canvas: np.ndarray, text: str) -> np.ndarray:
    """A picture under a line of text, made wide enough for it."""
    missing = max(0, 300 - canvas.shape[1])
    canvas = cv2.copyMakeBorder(
        canvas, 28, 0, 0, missing, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    cv2.putText(canvas, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas
