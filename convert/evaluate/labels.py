"""One picture's labels, and the text files YOLOv5 keeps them in."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from runtime.model import read_file

_LARGEST_FILE = 2**24


@dataclass(frozen=True, eq=False)
class Labels:
    """The objects of one picture.

    class_id: int32 (n,); xyxy: float64 (n, 4), corners; crowd: bool (n,), groups that count neither
    as found nor as missed. in_pixels: of the picture, else fractions of its width and height.
    source_wh: the picture's size where the labels say it.
    """

    class_id: np.ndarray
    xyxy: np.ndarray
    crowd: np.ndarray
    in_pixels: bool = False
    source_wh: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.class_id)

    def pixels(self, wh: tuple[int, int]) -> np.ndarray:
        """The corners float64 (n, 4) in pixels of the picture, which is wh; fractions are clipped
        to it, as YOLOv5 does."""
        if self.in_pixels:
            return self.xyxy
        return self.xyxy.clip(0, 1) * np.array([*wh, *wh], np.float64)


def label_file(picture: Path) -> Path:
    """Where YOLOv5 looks for a picture's labels: under labels for the last images in its path, with
    the suffix .txt; in the picture's own folder where there is no images."""
    first = _beside(picture.absolute())
    return first if first.exists() else _beside(_resolved(picture))


def _beside(picture: Path) -> Path:
    folder, images, rest = str(picture.with_suffix(".txt")).rpartition(f"{os.sep}images{os.sep}")
    return Path(f"{folder}{os.sep}labels{os.sep}{rest}" if images else rest)


def _resolved(picture: Path) -> Path:
    try:
        return picture.resolve()
    except (OSError, RuntimeError):  # links in a ring
        return picture.absolute()


def read_labels(file: Path, classes: int, add: Callable[[str, str], None]) -> Labels:
    """The labels of a file: a line each, class x y w h as fractions of the picture, or the class
    and a polygon's corners, of which the enclosing box is taken. Equal lines count once. What is
    bad is passed to add as (place, what) and left out. Raises UserError for an unreadable file."""
    try:
        text = read_file(file, _LARGEST_FILE).decode("utf-8-sig")
    except UnicodeDecodeError:
        add(f"{file}", "not a text file")
        text = ""
    rows: dict[tuple[float, ...], None] = {}  # in order, each once
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows[_row(line.split(), classes)] = None
        except ValueError as error:
            add(f"{file}:{number}", str(error))
    return _labels([_corners(row) for row in rows])


def _labels(rows: list[tuple[float, ...]]) -> Labels:
    plain = np.array(rows, np.float64).reshape(-1, 5)
    return Labels(plain[:, 0].astype(np.int32), plain[:, 1:], np.zeros(len(plain), bool))


def _row(words: list[str], classes: int) -> tuple[float, ...]:
    """A line's class and coordinates. Raises ValueError that says what is wrong."""
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise ValueError(
            f"{len(words)} columns: a box has 5 (class x y w h), a polygon the class and three or"
            " more pairs"
        )
    class_id = _number(words[0])
    if class_id != int(class_id) or not 0 <= class_id < classes:
        raise ValueError(f"class {words[0]}, but the model's classes are 0 to {classes - 1}")
    # YOLOv5 holds them as float32, which forgives a last digit too much
    coordinates = [float(np.float32(_number(word))) for word in words[1:]]
    for word, value in zip(words[1:], coordinates, strict=True):
        if not 0 <= value <= 1:
            raise ValueError(f"{word} is no fraction of the picture, 0 to 1")
    return class_id, *coordinates


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{word[:20]!r} is no number") from None
    if not np.isfinite(value):
        raise ValueError(f"{word[:20]} is no finite number")
    return value


def _corners(row: tuple[float, ...]) -> tuple[float, ...]:
    """Class, x1, y1, x2, y2 of a box's or a polygon's row."""
    class_id, *rest = row
    if len(rest) > 4:
        return class_id, min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2])
    x, y, w, h = rest
    return class_id, x - w / 2, y - h / 2, x + w / 2, y + h / 2


def no_labels() -> Labels:
    """Those of a picture in which there is nothing."""
    return _labels([])


def check_size(labels: Labels, wh: tuple[int, int], picture: Path) -> None:
    """Raises UserError where the labels say another size than the picture has."""
    if labels.source_wh is not None and labels.source_wh != wh:
        (w, h), (sw, sh) = wh, labels.source_wh
        raise UserError(
            f"{picture} is {w}x{h} (width x height), turned as its EXIF says, and was labelled as"
            f" {sw}x{sh}: give the pictures that were labelled"
        )
