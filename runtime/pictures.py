"""Pictures from files: single ones, folders, and the frames of videos."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError

PICTURE_SUFFIXES = frozenset(".bmp .jpeg .jpg .jpe .jp2 .png .tif .tiff .webp .ppm .pgm".split())
VIDEO_SUFFIXES = frozenset(
    ".asf .avi .flv .gif .m4v .mkv .mov .mp4 .mpeg .mpg .ts .webm .wmv".split()
)


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: its file, the frame's number in it (0 for a picture), bgr uint8 (h, w, 3).
    frames_per_second is None where the file is no video."""

    file: Path
    frame: int
    bgr: np.ndarray
    frames_per_second: float | None = None


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_files(inputs: Iterable[Path]) -> list[Path]:
    """The picture and video files that files and folders (not what is below their subfolders) name,
    folders in order of name. Raises UserError for what is missing, neither, or empty."""
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if _is_known(p) and p.is_file())
            if not inside:
                raise UserError(f"{path} holds no pictures or videos: give the folder they are in")
            found += inside
        elif not path.is_file():
            raise UserError(f"{path} does not exist")
        elif not _is_known(path):
            raise UserError(f"{path} is no picture or video: its suffix is not a known one")
        else:
            found.append(path)
    return found


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES


def read_picture(path: Path) -> np.ndarray | None:
    """A picture file as uint8 (h, w, 3) BGR, turned as its EXIF says; None where unreadable."""
    try:
        data = np.fromfile(path, np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except (OSError, cv2.error):
        return None


def read_pictures(files: Iterable[Path]) -> Iterator[Picture]:
    """The pictures of files and every frame of videos, in order. Raises UserError for a file that
    cannot be read."""
    for path in files:
        if is_video(path):
            yield from read_video(path)
            continue
        bgr = read_picture(path)
        if bgr is None:
            raise UserError(
                f"{path} cannot be read as a picture: it is damaged or not what it says"
            )
        yield Picture(path, 0, bgr)


def read_video(path: Path) -> Iterator[Picture]:
    """Every frame of a video, in order. Raises UserError where there is not even one."""
    capture = cv2.VideoCapture(str(path))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate < 1000 else 25.0
        frame = 0
        while True:
            more, bgr = capture.read()
            if not more:
                break
            yield Picture(path, frame, bgr, rate)
            frame += 1
    finally:
        capture.release()
    if not frame:
        raise UserError(
            f"{path} cannot be read as a video: it is damaged or its codec is not known"
        )
