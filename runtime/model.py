"""Open what a user points at, a bundle or a model file, as something a backend can run."""

from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path

from runtime.errors import UserError
from runtime.manifest import Facts, Manifest, Thresholds, sha256_of
from runtime.rknn_file import read_rknn

MANIFEST = "manifest.yaml"
RKNN = "model.rknn"
ONNX = "model.onnx"

OPENERS = {
    ".pt": "convert.opening:open_checkpoint",
    ".pth": "convert.opening:open_checkpoint",
    ".onnx": "convert.opening:open_onnx",
}
"""Model files that become deploy graphs on the fly: by suffix, the host's function for them. It
takes (path, input (width, height) or None) and gives a Model."""


@dataclass(frozen=True, eq=False)
class Model:
    """Decode facts, and the model in the forms there are.

    rknn: the compiled model's file. onnx: the same graph in float, as bytes. quantization: the
    measured ranges the simulator rebuilds the compiled model from. manifest: the bundle's, None for
    a lone file. All bytes and files were checked against the manifest.
    """

    path: Path
    facts: Facts
    thresholds: Thresholds = field(default_factory=Thresholds)
    manifest: Manifest | None = None
    onnx: bytes | None = None
    rknn: Path | None = None
    extra: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return self.facts.class_names


def open_model(path: Path, wh: tuple[int, int] | None = None) -> Model:
    """Open a bundle folder, a .rknn that rkyolo wrote, a checkpoint or an ONNX file.

    wh: the wanted input (width, height), for what is not compiled yet; None for the default. Raises
    UserError for what cannot be opened, does not match its manifest, or has another size.
    """
    if path.is_dir():
        model = open_bundle(path)
    elif not path.is_file():
        raise UserError(f"{path} does not exist")
    elif path.suffix.lower() == ".rknn":
        model = _open_rknn(path)
    elif path.suffix.lower() in OPENERS:
        return load_entry(OPENERS[path.suffix.lower()], f"{path.suffix} files")(path, wh)
    else:
        raise UserError(f"{path} is no model: give a bundle folder, a .rknn, a .pt or an .onnx")
    if wh is not None and wh != model.facts.input.wh:
        width, height = model.facts.input.wh
        raise UserError(
            f"{path} was built for pictures of {height}x{width} (height x width): leave --size out,"
            " or convert again with another one"
        )
    return model


def load_entry(entry: str, what: str):
    """The object an import string "module:name" names. Raises UserError where its package is not
    installed; what says whose it is."""
    module, _, name = entry.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise UserError(
            f"{what} need the package {missing}, which is not installed here"
        ) from error
    except ImportError as error:
        raise UserError(f"{what}: a package is installed but broken: {error}") from error


def open_bundle(folder: Path) -> Model:
    """A bundle whose every file is as its manifest says. Raises UserError."""
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise UserError(f"{folder} is no bundle: it has no {MANIFEST}")
    manifest = Manifest.from_yaml(manifest_path.read_text("utf-8", "replace"), manifest_path)
    content = {name: _verified(folder, name, manifest) for name in manifest.files}
    if ONNX not in content or RKNN not in content:
        raise UserError(f"{folder} is no whole bundle: {RKNN} or {ONNX} is missing")
    custom = read_rknn(content[RKNN], folder / RKNN).custom_string
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
        onnx=content[ONNX],
        rknn=folder / RKNN,
        extra={name: data for name, data in content.items() if name.startswith("quantization/")},
    )


def _verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    """A bundle file's bytes, which have the size and hash the manifest says."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{folder / MANIFEST} names a file outside the bundle: {name}")
    if not path.is_file():
        raise UserError(f"{folder} is no whole bundle: {name} is missing; copy or convert it again")
    facts = manifest.files[name]
    data = path.read_bytes() if path.stat().st_size == facts.size else b""
    if len(data) != facts.size or sha256_of(data) != facts.sha256:
        raise UserError(
            f"{path} is not the file {MANIFEST} describes (size or sha256 differs): copy or convert"
            " the bundle again"
        )
    return data


def _open_rknn(path: Path) -> Model:
    custom = read_rknn(path.read_bytes(), path).custom_string
    if custom is None:
        raise UserError(
            f"{path} was not written by rkyolo and does not hold its anchors: convert the .pt or"
            " .onnx it was made from"
        )
    return Model(path=path, facts=Facts.from_json(custom, str(path)), rknn=path)
