"""Fit a picture into the model's input without changing its aspect ratio, and map boxes back."""

from dataclasses import dataclass

import cv2
import numpy as np

PAD_VALUE = 114
"""Grey level of the border, the one YOLOv5 trains with."""


@dataclass(frozen=True)
class Letterbox:
    """How a picture of source_wh pixels lies inside an input of input_wh pixels.

    The gain, the rounding of the border and the way back follow YOLOv5's letterbox and
    scale_boxes. The way back uses the unrounded border and size, so it differs from the true
    inverse by up to three quarters of an input pixel, on purpose: boxes come out as YOLOv5's own.
    """

    source_wh: tuple[int, int]
    input_wh: tuple[int, int]

    @property
    def gain(self) -> float:
        return min(self.input_wh[0] / self.source_wh[0], self.input_wh[1] / self.source_wh[1])

    @property
    def resized_wh(self) -> tuple[int, int]:
        """Size of the picture inside the border; at least one pixel each way."""
        w, h = self.source_wh
        return max(1, round(w * self.gain)), max(1, round(h * self.gain))

    @property
    def top_left(self) -> tuple[int, int]:
        """(x, y) of the picture's first pixel in the input."""
        (w, h), (rw, rh) = self.input_wh, self.resized_wh
        return round((w - rw) / 2 - 0.1), round((h - rh) / 2 - 0.1)

    def apply(self, bgr: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write the letterboxed picture into out, and return out.

        bgr: uint8 (h, w, 3) of source_wh. out: uint8 (height, width, 3), which becomes RGB, or
        (height, width, 1), which becomes grey; of input_wh.
        """
        (rw, rh), (left, top) = self.resized_wh, self.top_left
        if (rw, rh) != self.source_wh:
            bgr = cv2.resize(bgr, (rw, rh), interpolation=cv2.INTER_LINEAR)
        out[:top] = out[top + rh :] = PAD_VALUE
        out[top : top + rh, :left] = out[top : top + rh, left + rw :] = PAD_VALUE
        inside = out[top : top + rh, left : left + rw]
        if out.shape[2] == 1:
            inside[..., 0] = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        else:
            cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=inside)
        return out

    def source_from_input(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes float32 (n, 4) in input pixels as ones in source pixels, clipped to the picture."""
        (w, h), (sw, sh), gain = self.input_wh, self.source_wh, np.float32(self.gain)
        pad = np.array([(w - sw * self.gain) / 2, (h - sh * self.gain) / 2] * 2, np.float32)
        return np.clip((xyxy - pad) / gain, 0, np.array([sw, sh] * 2, np.float32))


def letterbox(bgr: np.ndarray, input_wh: tuple[int, int], channels: int = 3) -> np.ndarray:
    """A picture uint8 (h, w, 3) BGR as an input uint8 (height, width, channels), RGB or grey."""
    height, width = bgr.shape[:2]
    out = np.empty((input_wh[1], input_wh[0], channels), np.uint8)
    return Letterbox((width, height), input_wh).apply(bgr, out)
