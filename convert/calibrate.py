"""Calibration pictures: find them where users keep them, letterbox them as the runtime will."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import yaml

from runtime.errors import UserError
from runtime.letterbox import letterbox
from runtime.manifest import CalibrationFacts, InputFacts
from runtime.pictures import PICTURE_SUFFIXES, is_video, read_picture

MOST_PICTURES = 100
"""Of a larger set this many are taken, evenly spread: more change little, and the toolkit needs
about 15 MB for each."""
FEWEST_PICTURES = 20
"""Below this many there is a warning."""


@dataclass(frozen=True)
class Sample:
    """One picture to take: a file, or one frame of a video."""

    file: Path
    frame: int | None = None

    @property
    def name(self) -> str:
        """A short name that says no folder."""
        return self.file.name if self.frame is None else f"{self.file.name}#{self.frame}"


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Samples found in one place, and how many there were to choose from."""

    origin: Path
    samples: tuple[Sample, ...]
    available: int


@dataclass(eq=False)
class Loaded:
    """Letterboxed inputs uint8 (h, w, c) of the samples that could be read, and the (width, height)
    each picture had."""

    samples: list[Sample] = field(default_factory=list)
    source_whs: list[tuple[int, int]] = field(default_factory=list)
    inputs: list[np.ndarray] = field(default_factory=list)
    unreadable: list[Sample] = field(default_factory=list)

    def facts(self) -> CalibrationFacts:
        digest = hashlib.sha256()
        for picture in self.inputs:
            digest.update(picture.tobytes())
        return CalibrationFacts(pictures=len(self.inputs), digest=digest.hexdigest())


def find_samples(origin: Path, most: int = MOST_PICTURES) -> PictureSet:
    """Pictures of a folder (and the folders in it), a list (.txt, one path a line), a YOLOv5
    data.yaml (its training pictures, or else the validation ones), a video, or a single picture;
    evenly spread where there are more than most. Raises UserError."""
    if not origin.exists():
        raise UserError(f"{origin} does not exist: give a folder, list, data.yaml or video")
    if origin.is_file() and is_video(origin):
        samples = [Sample(origin, i) for i in range(_count_frames(origin))]
    else:
        samples = [Sample(path) for path in _picture_files(origin)]
    if not samples:
        raise UserError(f"{origin} holds no pictures: give a folder, list, data.yaml or video")
    return PictureSet(origin, tuple(spread(samples, most)), len(samples))


def spread(items: Sequence, most: int) -> list:
    """At most this many of the items, evenly spaced."""
    count = min(len(items), most)
    return [items[i * len(items) // count] for i in range(count)]


def load(
    samples: Sequence[Sample], facts: InputFacts, track: Callable[[Sequence], Iterator] = iter
) -> Loaded:
    """Read and letterbox samples; those that cannot be read are listed. Raises UserError where none
    can. track wraps the loop to show progress."""
    loaded = Loaded()
    videos: dict[Path, set[int]] = {}
    for sample in samples:
        if sample.frame is not None:
            videos.setdefault(sample.file, set()).add(sample.frame)
    frames = {file: _frames(file, wanted) for file, wanted in videos.items()}
    for sample in track(samples):
        if sample.frame is None:
            bgr = read_picture(sample.file)
        else:
            bgr = next(frames[sample.file], None)
        if bgr is None:
            loaded.unreadable.append(sample)
        else:
            loaded.samples.append(sample)
            loaded.source_whs.append((bgr.shape[1], bgr.shape[0]))
            loaded.inputs.append(letterbox(bgr, facts.wh, facts.channels))
    if not loaded.inputs:
        raise UserError(
            f"none of the {len(samples)} pictures of {samples[0].file.parent} can be read"
        )
    return loaded


def read_sample(sample: Sample) -> np.ndarray:
    """One sample that could be read before, uint8 (h, w, 3) BGR."""
    if sample.frame is None:
        return read_picture(sample.file)
    return next(_frames(sample.file, {sample.frame}))


def _picture_files(origin: Path) -> list[Path]:
    suffix = origin.suffix.lower()
    if origin.is_dir():
        return sorted(p for p in origin.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if suffix == ".txt":
        return _listed(origin)
    if suffix in (".yaml", ".yml"):
        return _of_data_yaml(origin)
    if suffix in PICTURE_SUFFIXES:
        return [origin]
    raise UserError(f"{origin} is no folder, list (.txt), data.yaml, picture or video")


def _listed(origin: Path) -> list[Path]:
    """Paths of a list, relative to its folder or else to the working folder."""
    try:
        lines = [line.strip() for line in origin.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{origin} cannot be read as a list of pictures") from error
    found = [_resolve(line, origin.parent) for line in lines if line and not line.startswith("#")]
    missing = [path for path in found if not path.exists()]
    if missing:
        raise UserError(
            f"{origin} names {len(missing)} pictures that are missing, e.g. {missing[0]}"
        )
    return found


def _of_data_yaml(origin: Path) -> list[Path]:
    """The pictures under train, or else val, of a YOLOv5 data.yaml: folders, lists, or several."""
    try:
        plain = yaml.safe_load(origin.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{origin} cannot be read as YAML") from error
    plain = plain if isinstance(plain, dict) else {}
    root = _resolve(str(plain.get("path") or "."), origin.parent)
    for key in ("train", "val"):
        places = plain.get(key)
        places = [places] if isinstance(places, str) else places
        if isinstance(places, list) and places and all(isinstance(p, str) for p in places):
            return [file for place in places for file in _place(place, root, origin)]
    raise UserError(f"{origin} names no pictures under train or val")


def _place(place: str, root: Path, origin: Path) -> list[Path]:
    path = _resolve(place, root)
    if not path.exists():
        raise UserError(f"{origin} names {path}, which does not exist")
    return _picture_files(path)


def _resolve(text: str, folder: Path) -> Path:
    """A path relative to a folder, or else to the working folder: YOLOv5's users have both."""
    inside = folder / text
    return inside if inside.exists() or not Path(text).exists() else Path(text)


def _count_frames(video: Path) -> int:
    """Frames that can be read; what the container says is often wrong."""
    capture, count = cv2.VideoCapture(str(video)), 0
    try:
        while capture.grab():
            count += 1
    finally:
        capture.release()
    return count


def _frames(video: Path, wanted: set[int]) -> Iterator[np.ndarray]:
    """The wanted frames of a video, in order."""
    capture, last = cv2.VideoCapture(str(video)), max(wanted)
    try:
        for number in range(last + 1):
            if not capture.grab():
                return
            if number in wanted:
                yield capture.retrieve()[1]
    finally:
        capture.release()
