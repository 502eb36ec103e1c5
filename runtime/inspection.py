"""What a model file or a bundle is, for people and as plain data for programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from anchors import Anchors, preset_of
from runtime.errors import UserError
from runtime.manifest import Facts, sha256_of
from runtime.model import explained_imports, load_entry, open_bundle, read_file
from runtime.rknn_file import obstacles, read_rknn

INSPECTORS = {
    ".pt": "convert.inspection:inspect_checkpoint",
    ".pth": "convert.inspection:inspect_checkpoint",
    ".onnx": "convert.inspection:inspect_onnx",
}
"""Model files that only the host can read: by suffix, a function of the path that gives the plain
data."""

KEYS = ("kind", "task", "classes", "strides", "anchors_px", "preset", "names", "input_channels")


def inspect(path: Path) -> dict[str, Any]:
    """Plain data about a checkpoint, an ONNX file, a .rknn or a bundle.

    Always the keys of KEYS and sha256 (of a bundle: of its .rknn), None where the file does not
    say; then whatever else is known of that kind. Raises UserError.
    """
    if path.is_dir():
        return _inspect_bundle(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    if path.suffix.lower() == ".rknn":
        return _inspect_rknn(path)
    entry = INSPECTORS.get(path.suffix.lower())
    if entry is None:
        raise UserError(f"{path} is no model: give a bundle folder, a .rknn, a .pt or an .onnx")
    with explained_imports(f"{path.suffix} files need"):
        inspector: Callable[[Path], dict[str, Any]] = load_entry(entry)
        return inspector(path)


def describe(
    kind: str,
    anchors: Anchors | None = None,
    names: tuple[str, ...] | None = None,
    channels: int | None = None,
) -> dict[str, Any]:
    """The keys every kind has, None for what is not known."""
    heads = anchors.heads if anchors else None
    values = (
        kind,
        "detect" if anchors else None,
        len(names) if names else None,
        [head.stride for head in heads] if heads else None,
        [head.wh_px.tolist() for head in heads] if heads else None,
        preset_of(anchors) if anchors else None,
        list(names) if names else None,
        channels,
    )
    return dict(zip(KEYS, values, strict=True))


def describe_facts(kind: str, facts: Facts) -> dict[str, Any]:
    """The same from decode facts, and what they say besides."""
    return describe(kind, facts.anchors, facts.class_names, facts.input.channels) | {
        "input_wh": list(facts.input.wh),
        "stem": None if facts.input.stem == "none" else facts.input.stem,
        "activation": facts.activation,
        "outputs": [{"name": name, "shape": list(shape)} for name, shape in facts.tensors],
    }


def _inspect_bundle(folder: Path) -> dict[str, Any]:
    model = open_bundle(folder)
    manifest = model.manifest
    return describe_facts("bundle", manifest) | {
        "sha256": manifest.files["model.rknn"].sha256,
        "target": manifest.target,
        "precision": manifest.precision,
        "algorithm": manifest.algorithm,
        "source": manifest.source.model_dump(),
        "agreement": manifest.agreement.model_dump(mode="json"),
        "warnings": list(manifest.warnings),
        "tools": manifest.tools,
    }


def _inspect_rknn(path: Path) -> dict[str, Any]:
    data = read_file(path)
    header = read_rknn(data, path)
    if header.custom_string is None:
        plain = describe("rknn")
    else:
        plain = describe_facts("rknn", Facts.from_json(header.custom_string, str(path)))
    outputs = [
        {"name": output.name, "shape": list(output.shape), "type": output.type}
        for output in header.outputs
    ]
    return plain | {
        "outputs": outputs,
        "sha256": sha256_of(data),
        "target": header.target,
        "toolkit": header.toolkit,
        "format_version": header.format_version,
        "quantized": all("int8" in output.type.lower() for output in header.outputs),
        "cannot_run": obstacles(header),
    }
