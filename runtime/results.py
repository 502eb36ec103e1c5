"""Detections written out: JSON lines, and annotated pictures and videos."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from runtime.detections import Detections
from runtime.draw import draw
from runtime.errors import UserError
from runtime.files import whole_file
from runtime.pictures import Picture, is_video

_WRITABLE = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())


def json_line(picture: Picture, found: Detections, names: tuple[str, ...]) -> str:
    """One picture's detections as one line of JSON; boxes x1, y1, x2, y2 in source pixels."""
    plain: dict[str, Any] = {
        "source": str(picture.file),
        "frame": picture.frame,
        "width": picture.bgr.shape[1],
        "height": picture.bgr.shape[0],
        "detections": [
            {
                "box": [round(float(v), 3) for v in found.xyxy[i]],
                "score": round(float(found.score[i]), 5),
                "class": int(found.class_id[i]),
                "name": names[int(found.class_id[i])],
            }
            for i in range(len(found))
        ],
    }
    return json.dumps(plain)


class AnnotatedFiles:
    """Writes annotated pictures, and one video a source video, into a folder. A context manager:
    files appear whole, a video when its last frame is in."""

    def __init__(self, folder: Path, names: tuple[str, ...]):
        self._folder = folder
        self._names = names
        self._targets: dict[Path, Path] = {}
        self._video: _Video | None = None

    def __enter__(self) -> "AnnotatedFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._video:
            self._video.close(kept=kind is None)

    def write(self, picture: Picture, found: Detections) -> None:
        """Draw and write one picture. Raises UserError where it cannot be written."""
        canvas = draw(picture.bgr, found, self._names)
        if not is_video(picture.file):
            _write_picture(self._target(picture.file), canvas)
            return
        if self._video is None or self._video.source != picture.file:
            if self._video:
                self._video.close(kept=True)
            self._video = _Video(picture, self._target(picture.file))
        self._video.write(canvas)

    def _target(self, source: Path) -> Path:
        """A file of the source's name that no other source of this run has."""
        if source not in self._targets:
            suffix = source.suffix.lower()
            suffix = ".mp4" if is_video(source) else suffix if suffix in _WRITABLE else ".png"
            name, count = f"{source.stem}{suffix}", 2
            while self._folder / name in self._targets.values():
                name, count = f"{source.stem}-{count}{suffix}", count + 1
            self._targets[source] = self._folder / name
        target = self._targets[source]
        if target.exists() and target.samefile(source):
            raise UserError(f"--save would write over {source}: give another folder")
        return target


class _Video:
    """One annotated video being written."""

    def __init__(self, first: Picture, target: Path):
        self.source = first.file
        self._whole = whole_file(target)
        self._partial = self._whole.__enter__()
        height, width = first.bgr.shape[:2]
        self._size_wh = (width, height)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(
            str(self._partial), codec, first.frames_per_second or 25.0, self._size_wh
        )
        if not self._writer.isOpened():
            self.close(kept=False)
            raise UserError(f"cannot write the video {target}")

    def write(self, canvas: np.ndarray) -> None:
        if (canvas.shape[1], canvas.shape[0]) != self._size_wh:  # a stream that changes its size
            canvas = cv2.resize(canvas, self._size_wh)
        self._writer.write(canvas)

    def close(self, kept: bool) -> None:
        self._writer.release()
        if kept:
            self._whole.__exit__(None, None, None)
        else:
            self._partial.unlink(missing_ok=True)


def _write_picture(target: Path, canvas: np.ndarray) -> None:
    ok, data = cv2.imencode(target.suffix, canvas)
    if not ok:
        raise UserError(f"cannot encode {target}")
    with whole_file(target) as partial:
        partial.write_bytes(data.tobytes())
