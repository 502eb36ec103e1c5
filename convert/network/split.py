"""Heads as three outputs each: boxes, objectness and classes get int8 scales of their own."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import UserError
from runtime.manifest import PARTS, Facts


def split_heads(model: onnx.ModelProto, facts: Facts) -> None:
    """Give a deploy graph of one output a head, in place, the outputs that split facts name, by
    sharing out the channels of each head's convolution; nothing is computed twice, nor otherwise.
    Raises UserError for a head whose weights are no constant."""
    graph = model.graph
    for index, head in enumerate(facts.heads):
        last = _maker(graph, head.output)
        conv = last if last.op_type == "Conv" else _maker(graph, last.input[0])
        if any(item.name == "group" and item.i != 1 for item in conv.attribute):
            raise UserError("a head's convolution has groups, so --heads split cannot share it out")
        weight, *bias = (_constant(graph, name) for name in conv.input[1:])
        each = 5 + facts.classes
        for (name, _), channels in zip(facts.tensors_of(index), PARTS.values(), strict=True):
            rows = np.arange(len(weight)).reshape(-1, each)[:, channels].ravel()
            _add_part(graph, conv, last, name, [array[rows] for array in (weight, *bias)])
        for node in {id(node): node for node in (last, conv)}.values():
            graph.node.remove(node)
    _drop_unused_constants(graph)
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in facts.tensors
    )


def whole_maps(facts: Facts, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One map a head, (1, na * (5 + nc), ny, nx), of a model's outputs."""
    if facts.outputs == "one":
        return list(arrays)
    maps = []
    for index, head in enumerate(facts.heads):
        shape = facts.head_shape(index)
        parts = arrays[3 * index : 3 * index + 3]
        planes = [part.reshape(len(head.anchors_px), -1, *shape[2:]) for part in parts]
        maps.append(np.concatenate(planes, axis=1).reshape(shape))
    return maps


def _maker(graph: onnx.GraphProto, tensor: str) -> onnx.NodeProto:
    return next(node for node in graph.node if tensor in node.output)


def _constant(graph: onnx.GraphProto, name: str) -> np.ndarray:
    found = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    if found is None:
        raise UserError("a head's weights are no constants, so --heads split cannot share them out")
    return numpy_helper.to_array(found)


def _add_part(
    graph: onnx.GraphProto,
    conv: onnx.NodeProto,
    last: onnx.NodeProto,
    output: str,
    constants: list[np.ndarray],
) -> None:
    """A convolution with some of another's channels, and the activation behind it if there is."""
    names = [f"{output}.{what}" for what in ("weight", "bias")[: len(constants)]]
    for name, array in zip(names, constants, strict=True):
        graph.initializer.append(numpy_helper.from_array(array, name))
    logits = output if last is conv else f"{output}_logits"
    part = graph.node.add()
    part.CopyFrom(conv)
    part.name = f"{output}_conv"
    part.input[:] = [conv.input[0], *names]
    part.output[:] = [logits]
    if last is not conv:
        graph.node.append(helper.make_node(last.op_type, [logits], [output], name=output))


def _drop_unused_constants(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
