"""A YOLOv5 checkpoint: the network, its anchors and names, read without running anything."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anchors import Anchors
from convert.checkpoint.archive import Archive, open_archive
from convert.checkpoint.head import DetectHead, read_head
from convert.checkpoint.tree import Module, build_tree, is_module
from convert.checkpoint.values import Instance, StoredTensor
from runtime.errors import UserError
from runtime.manifest import sha256_of

_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AutoShape": "model",
    "autoShape": "model",
    "DetectMultiBackend": "model",
}


@dataclass(frozen=True, eq=False)
class Layer:
    """One line of the model's yaml: its number, the layers its inputs come from, its module."""

    number: int
    sources: tuple[int, ...]
    module: Module


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A detection model as plain data.

    layers: the network up to the head, in order; sources are absolute, -1 the picture.
    ema: whether the weights are the EMA's. half: whether they were stored in half precision.
    looks_like: the YOLOv5 release that writes such files.
    """

    path: Path
    sha256: str
    layers: tuple[Layer, ...]
    head: DetectHead
    class_names: tuple[str, ...]
    input_channels: int
    ema: bool
    half: bool
    looks_like: str

    @property
    def anchors(self) -> Anchors:
        return self.head.anchors


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a .pt file. Raises UserError for what is no YOLOv5 detection checkpoint, saying what it
    is instead, for damaged files, and for pickles that ask for more than a checkpoint needs."""
    try:
        if path.exists() and not path.is_file():  # a folder, or a device without an end
            raise UserError(f"{path} is no file: give the best.pt of train.py")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    archive = open_archive(data, str(path))
    record, ema = _model_record(archive.value, path)
    try:
        model = build_tree(record, archive)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}; copy it again") from error
    return _checkpoint(_unwrap(model), ema, archive, path, sha256_of(data))


def _model_record(value: Any, path: Path) -> tuple[Instance, bool]:
    """The model's record in a file's value, and whether it is the EMA."""
    if is_module(value):
        return value, False
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, not a YOLOv5 model")
    for key in ("ema", "model"):
        held = value.get(key)
        if isinstance(held, tuple | list) and held:  # (ema, updates)
            held = held[0]
        if isinstance(held, Instance) and is_module(held.state.get("ema")):  # a ModelEMA
            held = held.state["ema"]
        if is_module(held):
            return held, key == "ema"
    if any(map(_is_state_dict, (value, *value.values()))):
        raise UserError(
            f"{path} holds only weights (a state dict), and the network cannot be told from them:"
            " give the best.pt that train.py wrote, which has both"
        )
    keys = ", ".join(_printable(key)[:40] for key in list(value)[:8])
    raise UserError(f"{path} holds no model (its keys are: {keys}): give the best.pt of train.py")


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(item, StoredTensor) for item in value.values())
    )


def _unwrap(model: Module) -> Module:
    """The model inside what torch or YOLOv5 wraps around it."""
    while model.kind in _WRAPPERS and _WRAPPERS[model.kind] in model.children:
        model = model.children[_WRAPPERS[model.kind]]
    return model


def _checkpoint(model: Module, ema: bool, archive: Archive, path: Path, sha256: str) -> Checkpoint:
    sequence = list(model.children.get("model", Module("", {}, {}, {}, {}, {})).children.values())
    if sequence and sequence[-1].kind == "NMS":  # appended by Model.nms(), not part of the network
        sequence.pop()
    if not sequence:
        raise UserError(
            f"{path} holds a {model.class_name}, not a YOLOv5 model: give the best.pt of train.py"
        )
    *layers, head_layer = (_layer(i, module, path) for i, module in enumerate(sequence))
    head = read_head(head_layer.module, head_layer.sources, str(path))
    _check_modules(model, path)
    _check_weights(model, path)
    return Checkpoint(
        path=path,
        sha256=sha256,
        layers=tuple(layers),
        head=head,
        class_names=_class_names(model, head.classes),
        input_channels=_input_channels(model, path),
        ema=ema,
        half=_is_half(archive),
        looks_like=_looks_like(model, head_layer.module, archive.value),
    )


def _layer(number: int, module: Module, path: Path) -> Layer:
    """A layer with its sources made absolute, checked to come before it."""
    source = module.attributes.get("f", -1 if number == 0 else None)
    sources = source if isinstance(source, list | tuple) else [source]
    earliest = -max(number, 1)  # the first layer's -1 is the picture
    if not sources or not all(type(s) is int and earliest <= s < number for s in sources):
        raise UserError(
            f"{path}: layer {number} ({module.class_name}) does not say which layers it takes, so"
            " this is no YOLOv5 model; export ONNX where it was trained and convert that"
        )
    return Layer(number, tuple(number + s if s < 0 else s for s in sources), module)


def _check_modules(model: Module, path: Path) -> None:
    hooked = [f"{place} ({module.class_name})" for place, module in model.walk() if module.hooked]
    if hooked:
        raise UserError(
            f"{path} was saved with hooks, functions that change what a layer computes, on"
            f" {hooked[0]}: remove them and save it again, or export ONNX and convert that"
        )


def _check_weights(model: Module, path: Path) -> None:
    finite = {
        f"{place}.{name}": np.isfinite(array).all()
        for place, module in model.walk()
        for name, array in module.tensors().items()
        if array.dtype.kind == "f"
    }
    weights = [ok for name, ok in finite.items() if name.endswith(".weight")]
    bad = [name for name, ok in finite.items() if not ok]
    if bad:
        which = f"{len(bad)} of {len(finite)} tensors, the first is {bad[0]}"
        raise UserError(
            f"{path} holds NaN or infinite numbers ({which if any(weights) else 'every weight'}):"
            " the training diverged, use an earlier checkpoint"
        )


def _class_names(model: Module, classes: int) -> tuple[str, ...]:
    """One printable name a class; the class's number where the model has none."""
    names = model.attributes.get("names")
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        names = {}
    return tuple(_printable(names.get(i, names.get(str(i), i))) for i in range(classes))


def _printable(name: Any) -> str:
    text = name if isinstance(name, str) else repr(name) if isinstance(name, int | float) else "?"
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def _input_channels(model: Module, path: Path) -> int:
    """Channels of the picture: what the first convolution takes, a Focus folding four into one."""
    focus = False
    for _, module in model.walk():
        focus = focus or module.kind == "Focus"
        weight = module.parameters.get("weight")
        if module.kind == "Conv2d" and weight is not None and weight.ndim == 4:
            groups = module.attributes.get("groups", 1)
            channels = weight.shape[1] * (groups if isinstance(groups, int) else 1)
            channels = channels / 4 if focus else channels
            if channels in (1, 3):
                return int(channels)
            raise UserError(
                f"{path} takes {channels:g} channels; only 3 (RGB) and 1 (grey) are supported"
            )
    raise UserError(f"{path} has no convolution")


def _is_half(archive: Archive) -> bool:
    kinds = [data.dtype for data in archive.storages.values() if data.dtype.kind == "f"]
    return kinds.count(np.dtype("<f2")) > len(kinds) / 2


def _looks_like(model: Module, head: Module, value: Any) -> str:
    """The releases whose habits the file shows; each test is one that changed in that release."""
    kinds = {module.kind for _, module in model.walk()}
    if "anchor_grid" in head.buffers:
        if "Hardswish" in kinds or ("BottleneckCSP" in kinds and "SiLU" not in kinds):
            return "v3.1 or earlier"
        return "v4.0 or v5.0"
    if model.kind == "Model":
        return "v6.0 or v6.1"
    return "v7.0" if isinstance(value, dict) and "git" in value else "v6.2 or v7.0"
