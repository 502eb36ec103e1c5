"""A YOLOv5 ONNX as a source of deploy graphs: heads, strides, anchors, names, and the cut."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from anchors import AnchorHead, Anchors
from convert.heads.classes import class_count, class_names, shown
from convert.heads.find import conv_tensors, cut_graph, rename, tail_operations
from convert.heads.load import LoadedGraph, fix_size, load_graph
from convert.heads.probe import Block, HeadMap, probe_outputs
from convert.heads.run import one_process, run_graph
from convert.network.deploy import METADATA_KEY, check_size, make_facts
from runtime.errors import UserError
from runtime.manifest import Activation, Facts

AnchorsOf = Callable[[tuple[int, ...]], Anchors]
"""Anchors a user gives, once the strides of the heads they are for are known."""

DEFAULT_WH = (640, 640)
_MOST_HEADS = 5
_ANY_STRIDE = 128
"""A multiple of every stride that YOLOv5 has."""


@dataclass(frozen=True, eq=False)
class OnnxSource:
    """An ONNX file whose heads are known. Heads are ordered by stride.

    model: the whole graph, float32, its size fixed to wh. anchors: found in the graph's decode or
    given by the user, None where neither. found_anchors: whether they were in the graph itself.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    input_name: str
    input_channels: int
    wh: tuple[int, int]
    fixed: bool
    heads: tuple[HeadMap, ...]
    blocks: tuple[Block, ...]
    anchors: Anchors | None
    found_anchors: bool
    class_names: tuple[str, ...] | None
    looks_like: str

    @property
    def decodes(self) -> bool:
        return any(block.form == "decoded" for block in self.blocks)


def read_onnx(
    path: Path,
    wh: tuple[int, int] | None = None,
    anchors: AnchorsOf | None = None,
    names: tuple[str, ...] | None = None,
) -> OnnxSource:
    """Find the heads of an ONNX file, and its anchors where it decodes.

    wh: the input (width, height); needed only where the file leaves it open (then 640 x 640 by
    default), refused where it is another than the file's. anchors (from the heads' strides), names:
    what the user knows of the model; used where the file does not say, and an error where it says
    otherwise. Raises UserError for what is no YOLOv5 detection graph.
    """
    with one_process():
        loaded = load_graph(path)
        wh = _choose_size(loaded, wh)
        if not all(loaded.input_wh) and any(n % _ANY_STRIDE for n in wh):
            # the graph may not run at this size, and cannot say why
            up = tuple(-(-n // _ANY_STRIDE) * _ANY_STRIDE for n in wh)
            heads, _ = _heads(loaded, up)
            check_size(wh, heads[-1].stride)
        heads, feeds = _heads(loaded, wh)
        blocks = probe_outputs(loaded.model, heads, feeds, path)
    properties = {item.key: item.value for item in loaded.model.metadata_props}
    metadata = {key: text for key, text in properties.items() if isinstance(text, str)}
    own = _own_facts(metadata, path)
    found = _found_anchors(heads, blocks, path) or (own.anchors if own else None)
    strides = tuple(head.stride for head in heads)
    chosen = _agreed(found, anchors(strides) if anchors else None, strides, path)
    classes = class_count(heads, blocks, chosen, path)
    return OnnxSource(
        path=path,
        sha256=loaded.sha256,
        model=loaded.model,
        input_name=loaded.input_name,
        input_channels=loaded.channels,
        wh=wh,
        fixed=all(loaded.input_wh),
        heads=heads,
        blocks=tuple(blocks),
        anchors=chosen,
        found_anchors=found is not None,
        class_names=class_names(own, metadata, names, classes, blocks, path),
        looks_like=_producer(loaded.model),
    )


def onnx_facts(source: OnnxSource, activation: Activation) -> Facts:
    """The decode facts of the cut graph. Raises UserError where the anchors are not known."""
    if source.anchors is None or source.class_names is None:
        raise UserError(
            f"{source.path} does not decode, so its anchors are not in it: give --anchors with the"
            " .pt it was exported from, a preset (coco-p5, coco-p6), the model's yaml, or the"
            " vendor's RK_anchors.txt"
        )
    return make_facts(
        source.path,
        source.wh,
        source.input_channels,
        source.anchors,
        source.class_names,
        activation,
    )


def onnx_deploy_graph(source: OnnxSource, facts: Facts) -> onnx.ModelProto:
    """The graph from the picture to its heads, and a Sigmoid behind them if the facts say so."""
    shapes = [facts.head_shape(i) for i in range(len(facts.heads))]
    outputs = [(head.name, shape) for head, shape in zip(source.heads, shapes, strict=True)]
    model = cut_graph(source.model, outputs)
    logits = {
        head.name: f"{wanted.output}_logits" if facts.activation == "sigmoid" else wanted.output
        for head, wanted in zip(source.heads, facts.heads, strict=True)
    }
    rename(model, logits | {source.input_name: "images"})
    if facts.activation == "sigmoid":
        del model.graph.output[:]
        for wanted, shape in zip(facts.heads, shapes, strict=True):
            node = helper.make_node("Sigmoid", [f"{wanted.output}_logits"], [wanted.output])
            model.graph.node.append(node)
            model.graph.output.append(
                helper.make_tensor_value_info(wanted.output, TensorProto.FLOAT, shape)
            )
    model.producer_name = "rkyolo"
    helper.set_model_props(model, {METADATA_KEY: facts.to_json()})
    return model


def _choose_size(loaded: LoadedGraph, wh: tuple[int, int] | None) -> tuple[int, int]:
    own = loaded.input_wh
    chosen = wh or tuple(n or default for n, default in zip(own, DEFAULT_WH, strict=True))
    if any(n and n != wanted for n, wanted in zip(own, chosen, strict=True)):
        width, height = (n or "any" for n in own)
        raise UserError(
            f"{loaded.path} takes pictures of {height}x{width} (height x width): leave --size out,"
            " or export again with another one"
        )
    return chosen


def _heads(
    loaded: LoadedGraph, wh: tuple[int, int]
) -> tuple[tuple[HeadMap, ...], dict[str, np.ndarray]]:
    """The head tensors, the finest grid first, and the picture they were computed from. Fixes the
    graph's size, in place."""
    fix_size(loaded, wh)
    picture = np.random.default_rng(0).random((1, loaded.channels, wh[1], wh[0]), np.float32)
    feeds = {loaded.input_name: picture}
    names = conv_tensors(loaded.model.graph)
    if not names:
        raise UserError(f"{loaded.path} has no convolution behind its outputs: it is no YOLOv5")
    if "Softmax" in tail_operations(loaded.model.graph, names) or len(names) > _MOST_HEADS:
        raise UserError(
            f"{loaded.path} ends in {len(names)} convolutions, and YOLOv5 in one a head: it looks"
            " anchor-free (YOLOv8 or later), which rkyolo does not handle"
        )
    cut = cut_graph(loaded.model, [(name, None) for name in names])
    values = run_graph(cut, feeds, loaded.path)
    found = [_head_map(name, values[name], wh, loaded.path) for name in names]
    return tuple(sorted(found, key=lambda head: head.stride)), feeds


def _head_map(name: str, value: np.ndarray, wh: tuple[int, int], path: Path) -> HeadMap:
    if value.ndim != 4 or value.shape[0] != 1 or 0 in value.shape:
        raise UserError(f"{path}: tensor {name!r} has shape {value.shape} and is no head")
    ny, nx = value.shape[2:]
    if wh[0] % nx or wh[1] % ny or wh[0] // nx != wh[1] // ny:
        raise UserError(
            f"{path}: tensor {name!r} is {ny}x{nx} for a picture of {wh[1]}x{wh[0]}, which is no"
            " whole stride: it is no head of YOLOv5"
        )
    if not np.isfinite(value).all():
        raise UserError(
            f"{path}: tensor {name!r} is not finite: weights are NaN, infinite or damaged"
        )
    return HeadMap(name, value.shape, wh[0] // nx)


def _own_facts(metadata: dict[str, str], path: Path) -> Facts | None:
    """What rkyolo itself wrote into the file."""
    text = metadata.get(METADATA_KEY)
    return None if text is None else Facts.from_json(text, str(path))


def _found_anchors(heads: tuple[HeadMap, ...], blocks: list[Block], path: Path) -> Anchors | None:
    found = {block.head: block.wh_px for block in blocks if block.form == "decoded"}
    if not found:
        return None
    if len(found) != len(heads):
        raise UserError(f"{path} decodes only {len(found)} of its {len(heads)} heads")
    return Anchors(tuple(AnchorHead(head.stride, found[i]) for i, head in enumerate(heads)))


def _agreed(
    found: Anchors | None, given: Anchors | None, strides: tuple[int, ...], path: Path
) -> Anchors | None:
    """The anchors, once what is in the file and what the user says are held together."""
    if found and given and not found.is_close(given):
        raise UserError(
            f"{path} holds the anchors {_text(found)} and --anchors says {_text(given)}: leave"
            " --anchors out, or give the right model"
        )
    chosen = found or given
    if chosen and chosen.strides != strides:
        raise UserError(
            f"{path} has heads of strides {strides}, and the anchors are for {chosen.strides}"
        )
    return chosen


def _text(anchors: Anchors) -> str:
    heads = (
        f"stride {head.stride}: " + " ".join(f"{w:g}x{h:g}" for w, h in head.wh_px)
        for head in anchors.heads
    )
    return f"({'; '.join(heads)})"


def _producer(model: onnx.ModelProto) -> str:
    return shown(f"ONNX by {model.producer_name or 'unknown'} {model.producer_version}".strip())
