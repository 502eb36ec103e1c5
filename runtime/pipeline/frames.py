"""What flows through the pipeline: frames in, results out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runtime.detections import Detections
from runtime.results import plain_detections


@dataclass(frozen=True, eq=False)
class Capture:
    """One picture as a source gives it: bgr uint8 (h, w, 3), not written to afterwards.

    captured_at: unix seconds. file, frame: of files, which one and the frame's number in it.
    frames_per_second: of videos. answer: of requests, called once with the result, or with None
    where there is none; it returns at once.
    """

    bgr: np.ndarray
    captured_at: float
    file: Path | None = None
    frame: int = 0
    frames_per_second: float | None = None
    answer: Callable[["Result | None"], None] | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """A capture, the name of its source, and its number there, from 0 and with gaps where frames
    were dropped."""

    source: str
    index: int
    capture: Capture


@dataclass(frozen=True, eq=False)
class Result:
    """What was found in a frame; boxes in pixels of the whole picture.

    seconds: of each stage: wait (from capture to a free context), letterbox, infer, decode (with
    suppression), order (for earlier frames of the same source).
    """

    frame: Frame
    detections: Detections
    names: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)


STAGES = ("wait", "letterbox", "infer", "decode", "order")


def event(result: Result) -> dict[str, Any]:
    """A result as plain data for JSON; boxes x1, y1, x2, y2 in pixels of the picture."""
    frame, capture = result.frame, result.frame.capture
    height, width = capture.bgr.shape[:2]
    plain: dict[str, Any] = {
        "source": frame.source,
        "index": frame.index,
        "captured_at": round(capture.captured_at, 3),
    }
    if capture.file is not None:
        plain |= {"file": str(capture.file), "frame": capture.frame}
    plain |= {"width": width, "height": height}
    return plain | {"detections": plain_detections(result.detections, result.names)}
