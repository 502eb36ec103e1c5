"""Detections written out: JSON lines, and annotated pictures and videos."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.detections import Detections
from runtime.draw import draw
from runtime.encode import Video, new_video, write_picture
from runtime.errors import UserError
from runtime.pictures import Picture, is_video

_WRITABLE = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())


def plain_detections(found: Detections, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Detections as plain data for JSON; boxes x1, y1, x2, y2 in source pixels."""
    return [
        {
            "box": [round(float(v), 3) for v in xyxy],
            "score": round(float(score), 5),
            "class": int(class_id),
            "name": names[int(class_id)],
        }
        for xyxy, score, class_id in zip(found.xyxy, found.score, found.class_id, strict=True)
    ]


def json_line(picture: Picture, found: Detections, names: tuple[str, ...]) -> str:
    """One picture's detections as one line of JSON."""
    plain: dict[str, Any] = {
        "source": str(picture.file),
        "frame": picture.frame,
        "width": picture.bgr.shape[1],
        "height": picture.bgr.shape[0],
        "detections": plain_detections(found, names),
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
        self._video: Video | None = None

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
            write_picture(self._target(picture.file), canvas)
            return
        if picture.frame == 0:
            self._open.close()
            size_wh = canvas.shape[1], canvas.shape[0]
            video = new_video(self._target(picture.file), size_wh, picture.frames_per_second)
            self._video = self._open.enter_context(video)
        self._video.append(canvas)

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
