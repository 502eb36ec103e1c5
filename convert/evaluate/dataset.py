"""Labelled pictures, from a data.yaml of YOLOv5 or from a COCO JSON."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.evaluate.labels import Labels, label_file, no_labels, read_labels
from convert.evaluate.problems import Problems
from convert.places import YAML_SUFFIXES, DataYaml
from runtime.errors import UserError

SPLITS = ("val", "test", "train")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures in order, the labels of each, and what files of results call pictures and classes:
    image_ids, one a picture; category_ids, one a class of the model. warning: what a user should
    know of it, or nothing."""

    origin: Path
    files: tuple[Path, ...]
    labels: tuple[Labels, ...]
    image_ids: tuple[int | str, ...]
    category_ids: tuple[int, ...]
    warning: str = ""

    def __post_init__(self) -> None:
        if not self.files:
            raise UserError(f"{self.origin}: no pictures are left to measure on")
        if not any(len(labels) for labels in self.labels):
            raise UserError(
                f"{self.origin}: nothing is labelled in the {len(self.files)} pictures, so there is"
                " nothing to measure"
            )

    @property
    def background(self) -> int:
        """How many pictures have nothing labelled."""
        return sum(not len(labels) for labels in self.labels)


def read_data_yaml(
    file: Path,
    split: str,
    names: Sequence[str],
    skip_bad: bool = False,
    track: Callable[[Sequence], Iterator] = iter,
) -> Dataset:
    """The pictures of one split and their label files; a picture without one is background.

    names: the model's classes. skip_bad: leave pictures with bad labels out, as YOLOv5 does.
    Raises UserError for other classes than the model's, for bad labels (the first of which it
    names), and where there are no pictures or no labels.
    """
    data = DataYaml.read(file)
    check_names(file, _declared(data), names)
    files = _pictures(data, split)
    return _collect(file, files, len(names), skip_bad, track)


def is_data_yaml(file: Path) -> bool:
    return file.suffix.lower() in YAML_SUFFIXES


def _pictures(data: DataYaml, split: str) -> list[Path]:
    files = data.pictures(split)
    if files is None:
        others = [s for s in SPLITS if s != split and data.pictures(s) is not None]
        advice = f"--split {others[0]}" if others else "a data.yaml with val: FOLDER"
        raise UserError(f"{data.file} names no pictures under {split}: give {advice}")
    if not files:
        raise UserError(f"{data.file} names places under {split} that hold no pictures")
    return files


def _collect(
    origin: Path,
    files: Sequence[Path],
    classes: int,
    skip_bad: bool,
    track: Callable[[Sequence], Iterator],
) -> Dataset:
    problems, kept, missing = Problems(), [], []
    for file in track(files):
        where, before = label_file(file), len(problems)
        if where.is_file():
            labels = read_labels(where, classes, problems.add)
        else:
            missing.append(where)
            labels = no_labels()
        if len(problems) == before:
            kept.append((file, labels))
    if len(missing) == len(files):
        raise UserError(
            f"{origin}: none of the {len(files)} pictures has a label file; for {files[0]} it would"
            f" be {missing[0]}"
        )
    if not skip_bad:
        problems.raise_any("mend them, or leave their pictures out with --skip-bad-labels")
    return Dataset(
        origin,
        tuple(file for file, _ in kept),
        tuple(labels for _, labels in kept),
        tuple(_image_id(file) for file, _ in kept),
        tuple(range(classes)),
        f"{len(files) - len(kept)} pictures are left out: {problems}" if len(problems) else "",
    )


def _image_id(file: Path) -> int | str:
    """As YOLOv5 writes it: COCO's pictures are named by their number."""
    return int(file.stem) if file.stem.isascii() and file.stem.isdigit() else file.stem


def _declared(data: DataYaml) -> list[str | None]:
    """The names of the classes, by number; None where only their number is told."""
    names, count = data.plain.get("names"), data.plain.get("nc")
    if names is None and isinstance(count, int) and 0 < count <= 65536:
        return [None] * count
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise UserError(f"{data.file}: names should be numbered from 0 without a gap")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(f"{data.file} names no classes: it needs names, a list of them")
    if count is not None and count != len(names):
        raise UserError(f"{data.file} has nc: {count} and {len(names)} names: mend one of them")
    return [str(name) for name in names]


def check_names(file: Path, declared: Sequence[str | None], names: Sequence[str]) -> None:
    """Raises UserError where a data set has other classes than the model, and says which. A class
    without a name, on either side, is taken for the other's of that number."""
    if len(declared) != len(names):
        raise UserError(
            f"{file} has {len(declared)} classes, but the model has {len(names)}:"
            f" {', '.join(names)}; give the data the model was trained on"
        )
    other = [
        f"{i} is {theirs} there and {ours} in the model"
        for i, (theirs, ours) in enumerate(zip(declared, names, strict=True))
        if theirs is not None and theirs != ours and ours not in (f"class{i}", str(i))
    ]
    if other:
        raise UserError(f"{file} has other classes than the model: {', '.join(other[:20])}")
