"""Head tensors by structure: back from the outputs to the convolutions they come from; and cuts."""

from collections.abc import Iterable, Sequence

import onnx
from onnx import TensorProto, helper

_CONVOLUTIONS = {"Conv", "ConvTranspose"}


def conv_tensors(graph: onnx.GraphProto) -> list[str]:
    """Outputs of the convolutions met first on every way back from the graph's outputs, in the
    graph's order."""
    maker = {name: node for node in graph.node for name in node.output}
    found, seen = set(), set()
    waiting = [value.name for value in graph.output]
    while waiting:
        name = waiting.pop()
        node = maker.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if node.op_type in _CONVOLUTIONS:
            found.add(node.output[0])
        else:
            waiting.extend(node.input)
    return [name for node in graph.node for name in node.output if name in found]


def tail_operations(graph: onnx.GraphProto, heads: Iterable[str]) -> set[str]:
    """The kinds of node between the heads and the outputs."""
    cut = set(heads)
    kept = _needed(graph, [value.name for value in graph.output], cut)
    return {node.op_type for node in kept}


def cut_graph(
    model: onnx.ModelProto,
    outputs: Sequence[tuple[str, Sequence[int] | None]],
    inputs: Sequence[tuple[str, Sequence[int]]] = (),
) -> onnx.ModelProto:
    """The part of a model that gives these tensors, from these tensors on (with their shapes) and
    from whatever of its own inputs is needed besides. Nothing of the model is shared."""
    graph, starts = model.graph, {name for name, _ in inputs}
    nodes = _needed(graph, [name for name, _ in outputs], starts)
    used = {name for node in nodes for name in node.input}
    own = [value for value in graph.input if value.name in used and value.name not in starts]
    new = helper.make_graph(
        nodes,
        "yolov5",
        [*own, *(helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    opsets = [o for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return helper.make_model(new, opset_imports=opsets, ir_version=max(model.ir_version, 4))


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give tensors other names, in place; one that had such a name already gets out of the way."""
    taken = {name: f"{name}_before" for name in names.values()}
    change = taken | names
    for node in model.graph.node:
        node.input[:] = [change.get(name, name) for name in node.input]
        node.output[:] = [change.get(name, name) for name in node.output]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.name = change.get(value.name, value.name)


def _needed(
    graph: onnx.GraphProto, wanted: Iterable[str], starts: set[str]
) -> list[onnx.NodeProto]:
    """The nodes that give the wanted tensors, in order, taking starts as given."""
    needed, kept = set(wanted) - starts, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(name for name in node.input if name not in starts)
            kept.append(node)
    return kept[::-1]
