"""Calibration pictures: find them where users keep them, letterbox them as the runtime will."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from convert.places import YAML_SUFFIXES, DataYaml, pictures_of
from runtime.errors import UserError
from runtime.feed import Feed
from runtime.manifest import CalibrationFacts, InputFacts
from runtime.pictures import is_video, read_picture
from runtime.terminal import printable

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
        """A short name on one line that says no folder and can be written as UTF-8."""
        frame = "" if self.frame is None else f"#{self.frame}"
        return printable(self.file.name) + frame


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Samples found in one place, and how many there were to choose from."""

    samples: tuple[Sample, ...]
    available: int


@dataclass(eq=False)
class Loaded:
    """Inputs uint8 (h, w, c) as the model takes them of the samples that could be read, and the
    (width, height) each picture had."""

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
    try:
        samples = _all_samples(origin)
    except OSError as error:  # of a folder that may not be read, or a name that is too long
        raise UserError(f"{origin} cannot be read: {error.strerror}") from error
    if not samples:
        raise UserError(f"{origin} holds no pictures: give a folder, list, data.yaml or video")
    return PictureSet(tuple(spread(samples, most)), len(samples))


def spread(items: Sequence, most: int) -> list:
    """At most this many of the items, evenly spaced."""
    count = min(len(items), most)
    return [items[i * len(items) // count] for i in range(count)]


def load(
    samples: Sequence[Sample], facts: InputFacts, track: Callable[[Sequence], Iterator] = iter
) -> Loaded:
    """Read samples and make inputs of them; those that cannot be read are listed. Raises UserError
    where none can. track wraps the loop to show progress."""
    loaded, feed = Loaded(), Feed(facts)
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
            loaded.inputs.append(feed(bgr)[0][0].copy())
    if not loaded.inputs:
        raise UserError(
            f"none of the {len(samples)} pictures of {samples[0].file.parent} can be read"
        )
    return loaded


def read_sample(sample: Sample) -> np.ndarray | None:
    """One sample, uint8 (h, w, 3) BGR; None where it cannot be read."""
    if sample.frame is None:
        return read_picture(sample.file)
    return next(_frames(sample.file, {sample.frame}), None)


def _all_samples(origin: Path) -> list[Sample]:
    if not origin.exists():
        raise UserError(f"{origin} does not exist: give a folder, list, data.yaml or video")
    if origin.is_file() and is_video(origin):
        return [Sample(origin, i) for i in range(_count_frames(origin))]
    is_yaml = origin.is_file() and origin.suffix.lower() in YAML_SUFFIXES
    return [Sample(path) for path in (_of_data_yaml if is_yaml else pictures_of)(origin)]


def _of_data_yaml(origin: Path) -> list[Path]:
    """The pictures under train, or else val, of a YOLOv5 data.yaml."""
    data = DataYaml.read(origin)
    for split in ("train", "val"):
        found = data.pictures(split)
        if found is not None:
            return found
    raise UserError(f"{origin} names no pictures under train or val")


def _capture(video: Path) -> cv2.VideoCapture:
    # absolute: FFmpeg takes what stands before a colon in a name for a protocol
    return cv2.VideoCapture(str(video.absolute()))


def _count_frames(video: Path) -> int:
    """Frames that can be read; what the container says is often wrong."""
    capture, count = _capture(video), 0
    try:
        while capture.grab():
            count += 1
    finally:
        capture.release()
    return count


def _frames(video: Path, wanted: set[int]) -> Iterator[np.ndarray]:
    """The wanted frames of a video, in order."""
    capture, last = _capture(video), max(wanted)
    try:
        for number in range(last + 1):
            if not capture.grab():
                return
            if number in wanted:
                yield capture.retrieve()[1]
    finally:
        capture.release()
