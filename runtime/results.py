"""Detections written out: JSON lines, and annotated pictures and videos."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from runtime.detections import Detections
from runtime.draw import draw
from runtime.errors import UserError
from runtime.files import whole_file
from runtime.pictures import Picture, frames_in, is_video

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
    files appear whole, a video when its last frame is in.

    sources: all files that will come. Raises UserError where one of them is in that folder.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], sources: Iterable[Path]):
        for source in sources:
            if folder.resolve() in (source.parent.resolve(), source.resolve().parent):
                raise UserError(f"--save {folder} could write over {source}: give another folder")
        self._folder = folder
        self._names = names
        self._targets: dict[Path, Path] = {}
        self._taken: set[Path] = set()
        self._open = ExitStack()
        self._write_frame: Callable[[np.ndarray], None] | None = None

    def __enter__(self) -> "AnnotatedFiles":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, picture: Picture, found: Detections) -> None:
        """Draw and write one picture. Raises UserError where it cannot be written."""
        canvas = draw(picture.bgr, found, self._names)
        if picture.frames_per_second is None:
            _write_picture(self._target(picture.file), canvas)
            return
        if picture.frame == 0:
            self._open.close()
            video = _new_video(self._target(picture.file), picture)
            self._write_frame = self._open.enter_context(video)
        self._write_frame(canvas)

    def _target(self, source: Path) -> Path:
        """A file of the source's name that no other source of this run has."""
        if source not in self._targets:
            suffix = source.suffix.lower()
            suffix = ".mp4" if is_video(source) else suffix if suffix in _WRITABLE else ".png"
            target, count = self._folder / f"{source.stem}{suffix}", 2
            while target in self._taken:
                target, count = self._folder / f"{source.stem}-{count}{suffix}", count + 1
            self._targets[source] = target
            self._taken.add(target)
        return self._targets[source]


@contextmanager
def _new_video(target: Path, first: Picture) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends a frame to a video file, of the first frame's size and rate. Raises
    UserError where not all of them get there."""
    size_wh, frames = (first.bgr.shape[1], first.bgr.shape[0]), 0

    def append(canvas: np.ndarray) -> None:
        nonlocal frames
        if (canvas.shape[1], canvas.shape[0]) != size_wh:  # a stream that changes its size
            canvas = cv2.resize(canvas, size_wh)
        writer.write(canvas)
        frames += 1

    with whole_file(target) as partial:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(partial), codec, first.frames_per_second, size_wh)
        if not writer.isOpened():
            raise UserError(f"cannot write {target}: OpenCV has no writer for {size_wh} pixels")
        try:
            yield append
        finally:
            writer.release()
        if frames_in(partial) != frames:  # the writer itself says nothing of a full disk
            raise UserError(f"cannot write all of {target}: make room there")


def _write_picture(target: Path, canvas: np.ndarray) -> None:
    try:
        ok, data = cv2.imencode(target.suffix, canvas)
    except cv2.error:
        ok = False
    if not ok:
        raise UserError(f"a picture of this size cannot be a {target.suffix} file: {target}")
    with whole_file(target) as partial:
        partial.write_bytes(data.tobytes())
