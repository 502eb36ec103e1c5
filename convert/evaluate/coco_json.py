"""Labels in COCO's own form: one JSON file of pictures, categories and boxes."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.evaluate.dataset import Dataset
from convert.evaluate.labels import Labels
from convert.evaluate.problems import Problems
from runtime.errors import UserError
from runtime.model import read_file

_LARGEST_FILE = 2**30
_Id = int | Annotated[str, Field(max_length=200)]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True)


class _Image(_Entry):
    id: _Id
    file_name: str = Field(min_length=1, pattern=r"^[^\x00]+$")
    width: int | None = Field(default=None, gt=0)
    height: int | None = Field(default=None, gt=0)


class _Category(_Entry):
    id: int
    name: str


class _Annotation(_Entry):
    image_id: _Id
    category_id: int
    bbox: list[float] = Field(min_length=4, max_length=4)
    iscrowd: Literal[0, 1] = 0


_Kind = TypeVar("_Kind", bound=_Entry)


def read_coco_json(file: Path, pictures: Path, names: Sequence[str]) -> Dataset:
    """The pictures a COCO JSON names, in a folder, and their boxes. Its categories are the model's
    classes of the same names, in any order.

    Raises UserError for bad entries (the first of which it names), for pictures that are missing,
    and for categories that are not the model's classes.
    """
    plain, problems = _read(file), Problems()
    images = _entries(file, plain, "images", _Image, problems)
    categories = _entries(file, plain, "categories", _Category, problems)
    annotations = _entries(file, plain, "annotations", _Annotation, problems)
    _check_references(file, images, categories, annotations, problems)
    problems.raise_any()
    used = {annotation.category_id for _, annotation in annotations}
    class_ids = _class_ids(file, [c for _, c in categories], used, names)
    paths = _paths([image for _, image in images], pictures)
    boxes: dict[_Id, list[_Annotation]] = {image.id: [] for _, image in images}
    for _, annotation in annotations:
        boxes[annotation.image_id].append(annotation)
    category_of = {class_id: category for category, class_id in class_ids.items()}
    return Dataset(
        file,
        paths,
        tuple(_labels(image, boxes[image.id], class_ids) for _, image in images),
        tuple(image.id for _, image in images),
        tuple(category_of[i] for i in range(len(names))),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        plain = json.loads(read_file(file, _LARGEST_FILE))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from error
    wanted = ("images", "annotations", "categories")
    if not isinstance(plain, dict) or not all(isinstance(plain.get(k), list) for k in wanted):
        raise UserError(f"{file} is no COCO JSON: it needs the lists {', '.join(wanted)}")
    return plain


def _entries(
    file: Path, plain: dict[str, Any], key: str, kind: type[_Kind], problems: Problems
) -> list[tuple[str, _Kind]]:
    """The entries of a list that are as they should be, each with its place."""
    found = []
    for i, entry in enumerate(plain[key]):
        place = f"{file}: {key}[{i}]"
        try:
            found.append((place, kind.model_validate(entry)))
        except ValidationError as error:
            item = error.errors()[0]
            problems.add(place, f"{'.'.join(map(str, item['loc'])) or 'entry'}: {item['msg']}")
    return found


def _check_references(
    file: Path,
    images: list[tuple[str, _Image]],
    categories: list[tuple[str, _Category]],
    annotations: list[tuple[str, _Annotation]],
    problems: Problems,
) -> None:
    for key, entries in (("images", images), ("categories", categories)):
        for entry_id in _repeated(entry.id for _, entry in entries):
            problems.add(f"{file}: {key}", f"id {entry_id} is there more than once")
    image_ids = {image.id for _, image in images}
    category_ids = {category.id for _, category in categories}
    for place, annotation in annotations:
        if annotation.image_id not in image_ids:
            problems.add(place, f"image_id {annotation.image_id} is the id of no image")
        if annotation.category_id not in category_ids:
            problems.add(place, f"category_id {annotation.category_id} is the id of no category")
        if not all(map(math.isfinite, annotation.bbox)) or min(annotation.bbox[2:]) < 0:
            problems.add(place, f"bbox {annotation.bbox} is no x, y, width, height")


def _repeated(values: Iterable[_Id]) -> list[_Id]:
    return [value for value, count in Counter(values).items() if count > 1]


def _class_ids(
    file: Path, categories: list[_Category], used: set[int], names: Sequence[str]
) -> dict[int, int]:
    """The model's class by category id. A category no box is of, as labelling services add one for
    all classes together, may be unknown to the model."""
    wanted = [c for c in categories if c.name in names or c.id in used]
    unknown = [c.name for c in wanted if c.name not in names]
    missing = [name for name in names if name not in {c.name for c in wanted}]
    repeated = _repeated(c.name for c in wanted) + _repeated(names)
    problems = [
        f"{what} {', '.join(map(str, found[:20]))}"
        for what, found in (
            ("the model does not know", unknown),
            ("no category is called", missing),
            ("more than one is called", repeated),
        )
        if found
    ]
    if problems:
        raise UserError(f"{file} has other categories than the model: {'; '.join(problems)}")
    return {c.id: list(names).index(c.name) for c in wanted}


def _paths(images: list[_Image], folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise UserError(f"--pictures {folder} is no folder: give the one the pictures are in")
    paths = [folder / image.file_name for image in images]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(paths)} pictures are missing, e.g. {missing[0]}: give the"
            " folder that file_name in the JSON is relative to as --pictures"
        )
    return tuple(paths)


def _labels(image: _Image, boxes: list[_Annotation], class_ids: dict[int, int]) -> Labels:
    xywh = np.array([a.bbox for a in boxes], np.float64).reshape(-1, 4)
    known = image.width is not None and image.height is not None
    return Labels(
        class_id=np.array([class_ids[a.category_id] for a in boxes], np.int32),
        xyxy=np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]),
        crowd=np.array([a.iscrowd for a in boxes], bool),
        in_pixels=True,
        source_wh=(image.width, image.height) if known else None,
    )
