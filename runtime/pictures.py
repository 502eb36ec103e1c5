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
            found += _inside(path)
        elif not path.is_file():
            raise UserError(f"{path} does not exist")
        elif not is_known(path):
            raise UserError(f"{path} is no picture or video: its suffix is not a known one")
        else:
            found.append(path)
    return found


def is_known(path: Path) -> bool:
    """Whether a file is a picture or a video, by its suffix."""
    return path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES


def _inside(folder: Path) -> list[Path]:
    try:
        inside = sorted(path for path in folder.iterdir() if is_known(path) and path.is_file())
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror or error}") from error
    if not inside:
        raise UserError(f"{folder} holds no pictures or videos: give the folder they are in")
    return inside


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


def frames_in(path: Path) -> int:
    """How many frames a video file says it has; 0 where it is unreadable."""
    capture = _capture(path)
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()


def _capture(path: Path) -> cv2.VideoCapture:
    # absolute: FFmpeg takes what stands before a colon in a name for a protocol
    return cv2.VideoCapture(str(path.absolute()))


def read_video(path: Path) -> Iterator[Picture]:
    """Every frame of a video, in order. Raises UserError where there is not even one."""
    capture = _capture(path)
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
