"""From a picture to what a model takes: letterboxed, and folded where its stem asks for that."""

import numpy as np

from runtime.letterbox import Letterbox
from runtime.manifest import InputFacts


class Feed:
    """Makes inputs in a buffer of its own, which the next call overwrites. Not for two threads."""

    def __init__(self, facts: InputFacts):
        self._wh = facts.wh
        self._letterboxed = np.empty((facts.height, facts.width, facts.channels), np.uint8)
        self._folded = None if facts.stem == "none" else np.empty(facts.shape[1:], np.uint8)

    def __call__(self, bgr: np.ndarray) -> tuple[np.ndarray, Letterbox]:
        """The input uint8, of the facts' shape, of a picture uint8 (h, w, 3) BGR, and how the
        picture lies in it."""
        frame = Letterbox((bgr.shape[1], bgr.shape[0]), self._wh)
        frame.apply(bgr, self._letterboxed)
        if self._folded is None:
            return self._letterboxed[None], frame
        return fold(self._letterboxed, self._folded)[None], frame


def fold(picture: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write blocks of 2 x 2 pixels as channels: a picture (h, w, c) into out (h/2, w/2, 4c), which
    is returned. A block's channels stand by the parity of the row, then of the column, then as they
    were."""
    height, half, channels = out.shape
    for row in (0, 1):  # two pixels of a row are neighbours before and after
        pairs = picture[row::2].reshape(height, half, channels // 2)
        out.reshape(height, half, 2, channels // 2)[:, :, row] = pairs
    return out


def unfold(folded: np.ndarray) -> np.ndarray:
    """The picture (h, w, c) that fold made (h/2, w/2, 4c) of."""
    height, width, channels = folded.shape
    blocks = folded.reshape(height, width, 2, 2, channels // 4).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(2 * height, 2 * width, channels // 4)
