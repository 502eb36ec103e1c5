"""Pictures and videos in files, which appear whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.files import whole_file
from runtime.pictures import frames_in

LARGEST_JPEG = 65500
"""Pixels a side, at most, in a JPEG file."""

VIDEO_SIDES = (2, 8191)
"""Pixels a side, at least and at most, in a video file: of MPEG-4."""


def write_picture(target: Path, bgr: np.ndarray, quality: int | None = None) -> None:
    """Write a picture uint8 (h, w, 3) in the format its suffix names; quality: of a JPEG, 1 to 100.
    Raises UserError where the format cannot hold it, or the file cannot be written."""
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    try:
        ok, data = cv2.imencode(target.suffix, bgr, options)
    except cv2.error:
        ok = False
    if not ok:
        raise UserError(f"a picture of this size cannot be a {target.suffix} file: {target}")
    with whole_file(target) as partial:
        partial.write_bytes(data.tobytes())


class Video:
    """A video being written, until its block ends. partial: what there is of it so far; frames: how
    many that are."""

    def __init__(self, partial: Path, writer: cv2.VideoWriter, size_wh: tuple[int, int]):
        self.partial = partial
        self.frames = 0
        self._writer = writer
        self._size_wh = size_wh

    def append(self, bgr: np.ndarray) -> None:
        """Add a frame uint8 (h, w, 3), resized where its size is another."""
        if (bgr.shape[1], bgr.shape[0]) != self._size_wh:
            bgr = cv2.resize(bgr, self._size_wh)
        self._writer.write(bgr)
        self.frames += 1


@contextmanager
def new_video(target: Path, size_wh: tuple[int, int], frames_per_second: float) -> Iterator[Video]:
    """A video file of that size and rate; an odd side loses a pixel. It is there when the block
    ends well. Raises UserError where not all of its frames get there."""
    with whole_file(target) as partial:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(partial), codec, frames_per_second, size_wh)
        if not writer.isOpened():
            raise UserError(f"cannot write {target}: OpenCV has no writer for {size_wh} pixels")
        video = Video(partial, writer, size_wh)
        try:
            yield video
        finally:
            writer.release()
        if not partial.exists():
            raise UserError(f"cannot write {target}: what there was of it has been removed")
        if frames_in(partial) != video.frames:  # the writer itself says nothing of a full disk
            raise UserError(f"cannot write all of {target}: make room there")
