"""The deploy graph of a checkpoint: pictures in, head maps out, nothing behind the heads."""

from pathlib import Path

import onnx
from pydantic import ValidationError

from anchors import Anchors
from convert.checkpoint import Checkpoint
from convert.network.convolution import convolve
from convert.network.graph import Graph, Map
from convert.network.layers import build_layer, unknown_in
from runtime.errors import UserError
from runtime.manifest import Activation, Facts, InputFacts

METADATA_KEY = "rkyolo"
"""Where an ONNX file keeps the decode facts."""


def check_size(wh: tuple[int, int], stride: int) -> None:
    """Raises UserError for an input size that is no multiple of the largest stride."""
    if min(wh) < 1:
        raise UserError(f"size {wh[1]}x{wh[0]} (height x width) is no size")
    if any(n % stride for n in wh):
        up = [-(-n // stride) * stride for n in wh]
        raise UserError(
            f"size {wh[1]}x{wh[0]} (height x width) is no multiple of the model's largest stride"
            f" {stride}: use {up[1]}x{up[0]}"
        )


def facts_for(checkpoint: Checkpoint, wh: tuple[int, int], activation: Activation) -> Facts:
    """The decode facts of a checkpoint's deploy graph. wh: input (width, height). Raises UserError
    for a size that is no multiple of the largest stride, and for strides and sizes that facts
    cannot have."""
    check_size(wh, checkpoint.anchors.largest_stride)
    return make_facts(
        checkpoint.path,
        wh,
        checkpoint.input_channels,
        checkpoint.anchors,
        checkpoint.class_names,
        activation,
    )


def make_facts(
    path: Path,
    wh: tuple[int, int],
    channels: int,
    anchors: Anchors,
    class_names: tuple[str, ...],
    activation: Activation,
) -> Facts:
    """Decode facts of a deploy graph, whose outputs rkyolo names. path names the model in errors.
    Raises UserError for what facts cannot be."""
    heads = [
        {
            "output": f"head{i}_stride{head.stride}",
            "stride": head.stride,
            "anchors_px": head.wh_px.tolist(),
        }
        for i, head in enumerate(anchors.heads)
    ]
    try:
        return Facts(
            input=InputFacts(width=wh[0], height=wh[1], channels=channels),
            heads=heads,
            activation=activation,
            class_names=class_names,
        )
    except ValidationError as error:
        reasons = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise UserError(f"{path} at {wh[1]}x{wh[0]}: {reasons}") from error


def deploy_graph(checkpoint: Checkpoint, facts: Facts) -> onnx.ModelProto:
    """ONNX from the input "images", float32 (1, channels, height, width) RGB in 0 to 1, to one
    output a head, (1, na * (5 + nc), ny, nx), as the facts say. The facts go into its metadata.

    Raises UserError for layers that are not built, all of them named, and for a network that is
    not as stock or does not fit its head.
    """
    _refuse_unknown_layers(checkpoint)
    graph = Graph()
    width, height = facts.input.wh
    picture = Map("images", facts.input.channels, height, width)
    try:
        outputs = _outputs(graph, checkpoint, facts, picture)
    except UserError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    model = graph.finish(picture, outputs)
    onnx.helper.set_model_props(model, {METADATA_KEY: facts.to_json()})
    return model


def _outputs(
    graph: Graph, checkpoint: Checkpoint, facts: Facts, picture: Map
) -> list[tuple[str, Map]]:
    """The head maps, by output name, behind all layers."""
    maps = [picture]  # maps[i + 1] is layer i's output: a source of -1 is the picture
    for layer in checkpoint.layers:
        inputs = [maps[source + 1] for source in layer.sources]
        maps.append(build_layer(graph, layer.module, inputs, f"model.{layer.number}"))
    outputs = []
    for i, head in enumerate(facts.heads):
        path = f"model.{len(checkpoint.layers)}.m.{i}"
        y = convolve(graph, checkpoint.head.convs[i], maps[checkpoint.head.layers[i] + 1], path)
        _check_head(y, facts, i)
        if facts.activation == "sigmoid":
            y = y.resized(graph.add("Sigmoid", path, [y.name]), y.height, y.width)
        outputs.append((head.output, y))
    return outputs


def _refuse_unknown_layers(checkpoint: Checkpoint) -> None:
    unknown = set().union(*(unknown_in(layer.module) for layer in checkpoint.layers))
    if unknown:
        raise UserError(
            f"{checkpoint.path} has layers that rkyolo cannot build: {', '.join(sorted(unknown))};"
            " export ONNX with the code the model was trained with (export.py) and convert that"
        )


def _check_head(found: Map, facts: Facts, index: int) -> None:
    expected = facts.head_shape(index)[1:]
    if (found.channels, found.height, found.width) != expected:
        raise UserError(
            f"head {index} is {found.channels} x {found.height} x {found.width}, but its stride"
            f" {facts.heads[index].stride} and its anchors need {' x '.join(map(str, expected))}"
        )
