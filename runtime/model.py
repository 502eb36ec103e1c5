"""Open what a user points at, a bundle or a model file, as something a backend can run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.manifest import Facts, Manifest, Thresholds, sha256_of
from runtime.rknn_file import obstacles, read_rknn

MANIFEST = "manifest.yaml"
RKNN = "model.rknn"
ONNX = "model.onnx"
_LARGEST_MANIFEST = 2**18

OPENERS = {
    ".pt": "convert.opening:open_source",
    ".pth": "convert.opening:open_source",
    ".onnx": "convert.opening:open_source",
}
"""Model files that become deploy graphs on the fly: by suffix, the host's function for them. It
takes (path, input (width, height) or None, anchors or None) and gives a Model."""

_OURS = ("anchors", "convert", "runtime")
_WHERE_FROM = {
    "convert": "do this on the host, where rkyolo is installed whole",
    "rknnlite": "install rknn-toolkit-lite2 on the board, or choose another --backend",
}
"""What to do about a package that is missing, where there is more to say than to install it."""


@dataclass(frozen=True, eq=False)
class Model:
    """Decode facts, and the model in the forms there are.

    rknn: the compiled model's file; compiled: its bytes. onnx: the same graph in float, as bytes.
    quantization: the measured ranges the simulator rebuilds the compiled model from. manifest: the
    bundle's, None for a lone file. target, toolkit: the chip and the toolkit's version of the
    compiled model. All bytes and files were checked against the manifest.
    """

    path: Path
    facts: Facts
    thresholds: Thresholds = field(default_factory=Thresholds)
    manifest: Manifest | None = None
    target: str | None = None
    toolkit: str | None = None
    onnx: bytes | None = None
    rknn: Path | None = None
    compiled: bytes | None = None
    extra: dict[str, bytes] = field(default_factory=dict)


def open_model(path: Path, wh: tuple[int, int] | None = None, anchors: str | None = None) -> Model:
    """Open a bundle folder, a .rknn that rkyolo wrote, a checkpoint or an ONNX file.

    wh: the wanted input (width, height), for what is not compiled yet; None for the default.
    anchors: for an ONNX that does not hold its own, a preset's name or a file. Raises UserError for
    what cannot be opened, does not match its manifest, or has another size or anchors of its own.
    """
    if path.is_dir():
        model = open_bundle(path)
    elif not path.is_file():
        raise UserError(f"{path} does not exist")
    elif path.suffix.lower() == ".rknn":
        model = _open_rknn(path)
    elif path.suffix.lower() in OPENERS:
        with explained_imports(f"{path.suffix} files need"):
            return load_entry(OPENERS[path.suffix.lower()])(path, wh, anchors)
    else:
        raise UserError(f"{path} is no model: give a bundle folder, a .rknn, a .pt or an .onnx")
    if anchors is not None:
        raise UserError(f"{path} holds its own anchors: leave --anchors out")
    if wh is not None and wh != model.facts.input.wh:
        width, height = model.facts.input.wh
        raise UserError(
            f"{path} was built for pictures of {height}x{width} (height x width): leave --size out,"
            " or convert again with another one"
        )
    return model


def load_entry(entry: str) -> Any:
    """The object an import string "module:name" names."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


@contextmanager
def explained_imports(what_needs: str) -> Iterator[None]:
    """Makes a package that is absent, or there but broken, a UserError. what_needs begins it."""
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS and error.name != "convert":
            raise
        if isinstance(error, ModuleNotFoundError):
            advice = _WHERE_FROM.get(missing, "install it")
            raise UserError(
                f"{what_needs} the package {missing}, which is not installed here: {advice}"
            ) from error
        raise UserError(
            f"{what_needs} a package that is installed but does not load, install it again: {error}"
        ) from error


def open_bundle(folder: Path) -> Model:
    """A bundle whose every file is as its manifest says. Raises UserError."""
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise UserError(
            f"{folder} is no bundle, it has no {MANIFEST}: give one rkyolo convert wrote"
        )
    text = read_file(manifest_path, _LARGEST_MANIFEST).decode("utf-8", "replace")
    manifest = Manifest.from_yaml(text, manifest_path)
    content = {name: _verified(folder, name, manifest) for name in manifest.files}
    if ONNX not in content or RKNN not in content:
        raise UserError(
            f"{folder} is no whole bundle: {RKNN} or {ONNX} is missing: convert it again"
        )
    header = read_rknn(content[RKNN], folder / RKNN)
    custom = header.custom_string
    if custom is None or not manifest.agrees_with(custom, f"{folder / RKNN}"):
        raise UserError(
            f"{folder}: {RKNN} holds other decode facts than {MANIFEST}, so one of them is not this"
            " bundle's: convert again"
        )
    return Model(
        path=folder,
        facts=manifest,
        thresholds=manifest.thresholds,
        manifest=manifest,
        target=header.target,
        toolkit=header.toolkit,
        onnx=content[ONNX],
        rknn=folder / RKNN,
        compiled=content[RKNN],
        extra={name: data for name, data in content.items() if name.startswith("quantization/")},
    )


def _verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    """A bundle file's bytes, which have the size and hash the manifest says."""
    path = folder / name
    if not path.is_file():
        raise UserError(f"{folder} is no whole bundle: {name} is missing; copy or convert it again")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{folder / MANIFEST} names a file outside the bundle, {name}: convert it again"
        )
    facts = manifest.files[name]
    data = read_file(path) if path.stat().st_size == facts.size else b""
    if len(data) != facts.size or sha256_of(data) != facts.sha256:
        raise UserError(
            f"{path} is not the file {MANIFEST} describes (size or sha256 differs): copy or convert"
            " the bundle again"
        )
    return data


def read_file(path: Path, limit: int | None = None) -> bytes:
    """A file's bytes. Raises UserError where it cannot be read or is larger than the limit."""
    try:
        if limit is not None and path.stat().st_size > limit:
            raise UserError(f"{path} is larger than the {limit} bytes that such a file can have")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _open_rknn(path: Path) -> Model:
    data = read_file(path)
    header = read_rknn(data, path)
    reasons = obstacles(header)
    if reasons:
        raise UserError(
            f"{path} cannot be run: {'; '.join(reasons)}; convert the .pt or .onnx it was made from"
        )
    facts = Facts.from_json(header.custom_string, str(path))
    return Model(
        path, facts, target=header.target, toolkit=header.toolkit, rknn=path, compiled=data
    )
