"""Transformer layers over the cells of a feature map, as 1x1 convolutions and matrix products."""

import numpy as np

from convert.checkpoint import Module
from convert.network.convolution import emit
from convert.network.graph import Graph, Map
from runtime.errors import UserError


def embed_position(graph: Graph, linear: Module, x: Map, path: str) -> Map:
    """x + linear(x): the position embedding of YOLOv5's TransformerBlock."""
    return _add(graph, x, _linear(graph, linear, x, path), path)


def transformer_layer(graph: Graph, layer: Module, x: Map, path: str) -> Map:
    """Attention and a two-layer perceptron, each with a shortcut and no norm (YOLOv5)."""
    parts = layer.children
    x = _add(graph, _attention(graph, layer, x, path), x, path)
    hidden = _linear(graph, parts["fc1"], x, f"{path}.fc1")
    return _add(graph, _linear(graph, parts["fc2"], hidden, f"{path}.fc2"), x, path)


def _attention(graph: Graph, layer: Module, x: Map, path: str) -> Map:
    """Multi-head attention of x to itself. q, k and v each pass two linear layers in a row, which
    are multiplied into one; the division by sqrt(head size) goes into q's."""
    ma, channels = layer.children["ma"], x.channels
    weight, bias, heads = _attention_parts(ma, channels, f"{path}.ma")
    size = channels // heads
    split = graph.constant(f"{path}.split", np.array([1, heads, size, x.height * x.width]))
    rows = {}
    for i, name in enumerate("qkv"):
        first = _matrix(layer.children[name], channels, f"{path}.{name}")
        if "bias" in layer.children[name].parameters or len(first) != channels:
            raise UserError(f"{path}.{name} has a bias or another size, unlike YOLOv5's own")
        part = slice(i * channels, (i + 1) * channels)
        factor = 1 / np.sqrt(size) if name == "q" else 1.0
        whole = weight[part].astype(np.float64) @ first * factor
        y = emit(graph, x, f"{path}.{name}", whole[:, :, None, None], bias[part] * factor)
        rows[name] = graph.add("Reshape", path, [y.name, split])
    by_cell = {n: graph.add("Transpose", path, [rows[n]], perm=[0, 1, 3, 2]) for n in "qv"}
    scores = graph.add("MatMul", path, [by_cell["q"], rows["k"]])
    mixed = graph.add("MatMul", path, [graph.add("Softmax", path, [scores], axis=3), by_cell["v"]])
    back = graph.add("Transpose", path, [mixed], perm=[0, 1, 3, 2])
    join = graph.constant(f"{path}.join", np.array([1, channels, x.height, x.width]))
    y = x.resized(graph.add("Reshape", path, [back, join]), x.height, x.width)
    return _linear(graph, ma.children["out_proj"], y, f"{path}.ma.out_proj")


def _attention_parts(ma: Module, channels: int, path: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Weight (3 * channels, channels) and bias of q, k and v, and the number of heads."""
    weight = ma.parameters.get("in_proj_weight", np.empty(0))
    bias = ma.parameters.get("in_proj_bias", np.zeros(3 * channels))
    known = ma.parameters.keys() <= {"in_proj_weight", "in_proj_bias"} and not ma.buffers
    changed = ma.attributes.get("add_zero_attn") or ma.attributes.get("batch_first")
    shapes = weight.shape == (3 * channels, channels) and bias.shape == (3 * channels,)
    if not known or changed or not shapes or ma.children.keys() != {"out_proj"}:
        raise UserError(
            f"{path}: {ma.class_name} is no plain self-attention of {channels} channels"
        )
    heads = ma.attributes.get("num_heads")
    if type(heads) is not int or heads < 1 or channels % heads:
        raise UserError(f"{path}: {ma.class_name} has {heads} heads for {channels} channels")
    return weight, bias, heads


def _linear(graph: Graph, linear: Module, x: Map, path: str) -> Map:
    """A linear layer on every cell."""
    weight = _matrix(linear, x.channels, path)
    bias = linear.parameters.get("bias", np.zeros(len(weight)))
    return emit(graph, x, path, weight[:, :, None, None], bias.astype(np.float64))


def _matrix(linear: Module, channels: int, path: str) -> np.ndarray:
    weight = linear.parameters.get("weight", np.empty(0))
    more = linear.children or linear.buffers or linear.parameters.keys() - {"weight", "bias"}
    if more or weight.ndim != 2 or weight.shape[1] != channels:
        raise UserError(f"{path}: {linear.class_name} is no linear layer of {channels} channels")
    return weight.astype(np.float64)


def _add(graph: Graph, a: Map, b: Map, path: str) -> Map:
    if a.channels != b.channels:
        raise UserError(f"{path} adds {a.channels} to {b.channels} channels")
    return a.resized(graph.add("Add", path, [a.name, b.name]), a.height, a.width)
