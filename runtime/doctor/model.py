"""What a compiled model asks of the board it is to run on."""

import stat
from dataclasses import dataclass
from pathlib import Path

from runtime.doctor.version import Version, parse_version
from runtime.errors import UserError
from runtime.model import MANIFEST, RKNN, open_bundle, read_file
from runtime.rknn_file import obstacles, read_rknn


@dataclass(frozen=True)
class CompiledModel:
    """A .rknn file's demands. damage: why it could not be read, None where it could; then target,
    like rk3588, and toolkit, the version that built it, are None too.

    obstacles: why rkyolo cannot run it on any board. changed_at: seconds since 1970.
    """

    path: Path
    size: int = 0
    changed_at: float = 0.0
    target: str | None = None
    toolkit: Version | None = None
    obstacles: tuple[str, ...] = ()
    damage: str | None = None


def look_at_model(path: Path) -> CompiledModel:
    """A bundle's or a .rknn file's demands; damage is told, not raised. Raises UserError for what
    is neither."""
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(kind) and not (path / MANIFEST).is_file():
        raise UserError(f"{path} is no bundle, it has no {MANIFEST}: give one rkyolo convert wrote")
    if not stat.S_ISDIR(kind) and (not stat.S_ISREG(kind) or path.suffix.lower() != ".rknn"):
        raise UserError(f"{path} does not run on an NPU: give a bundle folder or a .rknn")
    try:
        return _read(path)
    except UserError as error:
        return CompiledModel(path, damage=str(error))


def _read(path: Path) -> CompiledModel:
    file = path
    if path.is_dir():
        open_bundle(path)
        file = path / RKNN
    data = read_file(file)
    header = read_rknn(data, file)
    return CompiledModel(
        path=path,
        size=len(data),
        changed_at=file.stat().st_mtime,
        target=header.target,
        toolkit=parse_version(header.toolkit),
        obstacles=tuple(obstacles(header)),
    )
