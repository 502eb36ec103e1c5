"""The lists of pictures that trials are calibrated and checked on."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import cv2

from convert.calibrate import Sample, find_samples, read_sample, spread
from convert.tune.space import Subset, subset
from runtime.errors import UserError
from runtime.files import whole_file

CHECKED = 20
CHECKED_ALONE = 60
"""How many pictures agreement is measured on: beside labels, and without them, where it is all
there is."""


def find_pictures(origin: Path, frames: Path) -> list[Path]:
    """The picture files that a conversion would take of origin; of a video, its frames, which are
    written to the folder frames. Raises UserError."""
    found = find_samples(origin).samples
    return [_as_file(sample, frames).absolute() for sample in found]


def write_lists(folder: Path, calibration: Sequence[Path], check: Sequence[Path]) -> None:
    """A list for each subset, and one for the check. Raises UserError for names no list can hold,
    and where they cannot be written."""
    for name in get_args(Subset):
        _write(folder / f"{name}.txt", subset(tuple(calibration), name))
    _write(folder / "check.txt", check)


def check_pictures(
    calibration: Sequence[Path], given: Sequence[Path] | None, labelled: bool
) -> list[Path]:
    """What agreement is measured on: the given ones, or some of the calibration pictures."""
    most = CHECKED if labelled else CHECKED_ALONE
    return spread(calibration if given is None else given, most)


def _as_file(sample: Sample, frames: Path) -> Path:
    if sample.frame is None:
        return sample.file
    target = frames / f"{sample.file.stem}-{sample.frame:06}.png"
    if not target.is_file():
        bgr = read_sample(sample)
        if bgr is None:
            raise UserError(f"frame {sample.frame} of {sample.file} cannot be read")
        with whole_file(target) as partial:
            cv2.imwrite(str(partial), bgr)
    return target


def _write(file: Path, pictures: Sequence[Path]) -> None:
    lines = [str(path) for path in pictures]
    for line in lines:
        if line != line.strip() or len(line.splitlines()) != 1 or not line.isprintable():
            raise UserError(f"{line!r} is no name for a list of pictures: rename it")
    with whole_file(file) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), "utf-8")
