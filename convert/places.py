"""Where users keep pictures: folders, lists, and the data.yaml of YOLOv5."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchors.plain_yaml import load_plain
from runtime.errors import UserError
from runtime.pictures import PICTURE_SUFFIXES

YAML_SUFFIXES = frozenset((".yaml", ".yml"))


def pictures_of(place: Path) -> list[Path]:
    """The pictures of a folder (and the folders in it), of a list (.txt, one path a line), or a
    single one. Raises UserError for what is none of these."""
    suffix = place.suffix.lower()
    if place.is_dir():
        found = (p for p in place.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
        return sorted(p for p in found if p.is_file())
    if suffix == ".txt":
        return _listed(place)
    if suffix in PICTURE_SUFFIXES:
        return [place]
    raise UserError(f"{place} is no folder, list (.txt), data.yaml, picture or video")


@dataclass(frozen=True, eq=False)
class DataYaml:
    """A data.yaml of YOLOv5: its file, and its content as plain data."""

    file: Path
    plain: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> "DataYaml":
        """Raises UserError for what is no plain YAML; what is no mapping counts as an empty one."""
        try:
            plain = load_plain(file.read_text("utf-8"))
        except ValueError as error:
            raise UserError(f"{file} cannot be read as YAML: {error}") from error
        return cls(file, plain if isinstance(plain, dict) else {})

    def pictures(self, split: str) -> list[Path] | None:
        """The pictures under train, val or test: folders, lists, or several; relative to path, or
        to this file. None where nothing is named there. Raises UserError for missing places."""
        places = self.plain.get(split)
        places = [places] if isinstance(places, str) else places
        if not (isinstance(places, list) and places and all(isinstance(p, str) for p in places)):
            return None
        root = _resolve(str(self.plain.get("path") or "."), self.file.parent)
        return [file for place in places for file in self._place(place, root)]

    def _place(self, place: str, root: Path) -> list[Path]:
        path = _resolve(place, root)
        if not path.exists() and place.startswith("../"):
            # as exported by labelling services, which mean the folder the file is in
            path = _resolve(place[3:], root)
        if not path.exists():
            raise UserError(f"{self.file} names {_resolve(place, root)}, which does not exist")
        return pictures_of(path)


def _listed(origin: Path) -> list[Path]:
    """Paths of a list, relative to its folder or else to the working folder."""
    try:
        lines = [line.strip() for line in origin.read_text("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{origin} cannot be read as a list of pictures") from error
    found = [_resolve(line, origin.parent) for line in lines if line and not line.startswith("#")]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise UserError(
            f"{origin} names {len(missing)} files that are missing, e.g. {missing[0]}: paths are"
            " relative to the list's folder"
        )
    return found


def _resolve(text: str, folder: Path) -> Path:
    """A path relative to a folder, or else to the working folder: YOLOv5's users have both."""
    inside = folder / text
    return inside if inside.exists() or not Path(text).exists() else Path(text)
