"""Detections of one picture, as parallel arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture, highest score first, ties by position in the head maps.

    xyxy:     float32 (n, 4), corners x1, y1, x2, y2 in pixels of the source picture.
    score:    float32 (n,), 0 to 1.
    class_id: int32 (n,).

    Raises ValueError when the arrays do not agree.
    """

    xyxy: np.ndarray
    score: np.ndarray
    class_id: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.score)
        shapes = (self.xyxy.shape, self.score.shape, self.class_id.shape)
        if shapes != ((n, 4), (n,), (n,)):
            raise ValueError(f"detections disagree in shape: xyxy, score, class_id are {shapes}")

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def empty(cls) -> "Detections":
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
