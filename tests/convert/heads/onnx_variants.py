"""One ONNX graph as other exporters, options and tools would have written it."""

import io
import itertools
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper, version_converter

DECODING = (
    "torch1.13_v62_s",
    "torch1.13_v70_dyn",
    "torch1.13_v70_op12",
    "torch2.13_v70_slim",
    "torch2.13_v70_v3tiny",
)
BARE = ("numeric_names_v50_s", "sigmoid_heads_v62_s", "torch1.13_v31_s", "torch1.13_v50_s")
"""The golden files that decode, and those that do not."""
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def at_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The same graph at another opset. Downwards, which onnx's converter cannot: 11 or 9. There is
    no Range at 9, so no graph whose size is open."""
    if version >= model.opset_import[0].version:
        return version_converter.convert_version(model, version)
    computes = any(node.op_type == "ConstantOfShape" for node in model.graph.node)
    model = simplified(model) if version < 11 and computes else copied(model)
    arrays, sizes = _constants(model), _sizes(model)
    for node in model.graph.node:
        if model.opset_import[0].version >= 13:
            _inputs_to_attributes(node, arrays, "Split", {1: "split"})
            _inputs_to_attributes(node, arrays, "Squeeze", {1: "axes"})
            _inputs_to_attributes(node, arrays, "Unsqueeze", {1: "axes"})
        if node.op_type == "Resize" and node.input[1] == "":
            node.input[1] = f"{node.output[0]}_roi"
            roi = numpy_helper.from_array(np.float32([]), node.input[1])
            model.graph.initializer.append(roi)
        if version < 11:
            _before_11(model, node, arrays, sizes)
    model.opset_import[0].version = version
    return model


def _before_11(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    arrays: dict[str, np.ndarray],
    sizes: dict[str, list[int]],
) -> None:
    """A node of opset 12 as one of opset 9."""
    assert node.op_type != "Range"
    if node.op_type == "Resize":
        # the only Upsample there was: nearest, cell i from cell i // scale
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("mode", "nearest"))
        node.op_type, node.input[:] = "Upsample", [node.input[0], node.input[2]]
    if node.op_type == "MaxPool":
        assert all(a.i == 0 for a in node.attribute if a.name == "ceil_mode")
        kept = [a for a in node.attribute if a.name not in ("ceil_mode", "dilations")]
        del node.attribute[:]
        node.attribute.extend(kept)
    _inputs_to_attributes(node, arrays, "Clip", {1: "min", 2: "max"})
    _inputs_to_attributes(node, arrays, "Pad", {1: "pads", 2: "value"})
    if node.op_type == "Slice" and len(node.input) > 4 and (arrays[node.input[4]] != 1).any():
        # no steps before opset 10: take the cells one by one
        first, _, axis, step = (arrays[name].item() for name in node.input[1:5])
        index = _array(model, list(range(first, sizes[node.input[0]][axis], step)))
        node.op_type, node.input[:] = "Gather", [node.input[0], index]
        node.attribute.append(helper.make_attribute("axis", axis))
    places = {1: "starts", 2: "ends", 3: "axes", 4: None}
    _inputs_to_attributes(node, arrays, "Slice", places)


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Through onnxsim."""
    import onnxsim

    with redirect_stdout(io.StringIO()):
        result, same = onnxsim.simplify(model)
    assert same
    return result


def _sizes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The size of every tensor where it is known."""
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    known = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    picture = model.graph.input[0]
    return known | {picture.name: [d.dim_value for d in picture.type.tensor_type.shape.dim]}


def _inputs_to_attributes(
    node: onnx.NodeProto, arrays: dict[str, np.ndarray], kind: str, places: dict[int, str | None]
) -> None:
    """Constant inputs, by their position, as the attributes they once were, or as none."""
    if node.op_type != kind:
        return
    inputs = list(node.input)
    for place, name in places.items():
        if place < len(inputs) and inputs[place] and name:
            value = arrays[inputs[place]]
            value = value.item() if value.ndim == 0 else value.tolist()
            node.attribute.append(helper.make_attribute(name, value))
    node.input[:] = [name for place, name in enumerate(inputs) if place not in places]


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return arrays


def half(model: onnx.ModelProto, io: bool, unsorted: bool = False) -> onnx.ModelProto:
    """In half precision, with inputs and outputs too or with Casts behind and before them, which
    some converters append at the end, where a reader in one pass comes too late to them."""
    model = copied(model)
    graph = model.graph
    single = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.name not in single:
            _to_half(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and node.output[0] not in single:
                _to_half(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == SINGLE:
                attribute.i = HALF
    del graph.value_info[:]
    if io:
        for value in [*graph.input, *graph.output]:
            value.type.tensor_type.elem_type = HALF
        return model
    start = _cast_inputs(graph)
    end = _cast_outputs(graph)
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *end, *start] if unsorted else [*start, *nodes, *end])
    return model


def _cast_inputs(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    name = graph.input[0].name
    for node in graph.node:
        node.input[:] = [f"{n}_half" if n == name else n for n in node.input]
    return [helper.make_node("Cast", [name], [f"{name}_half"], to=HALF)]


def _cast_outputs(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    names = [value.name for value in graph.output]
    for node in graph.node:
        node.output[:] = [f"{n}_half" if n in names else n for n in node.output]
        node.input[:] = [f"{n}_half" if n in names else n for n in node.input]
    return [helper.make_node("Cast", [f"{n}_half"], [n], to=SINGLE) for n in names]


def _to_half(tensor: TensorProto) -> None:
    if tensor.data_type == SINGLE:
        array = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def cut_at(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The part that gives these tensors, which become the outputs."""
    model = copied(model)
    needed, kept = set(names), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _set_outputs(model, names)
    return model


def sigmoids_at(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Cut there, with a Sigmoid behind each."""
    model = cut_at(model, names)
    outputs = [f"output{i}" for i in range(len(names))]
    for name, output in zip(names, outputs, strict=True):
        model.graph.node.append(helper.make_node("Sigmoid", [name], [output]))
    _set_outputs(model, outputs)
    return model


def rows_at(
    model: onnx.ModelProto, names: list[str], na: int, join: bool = True, batch: bool = True
) -> onnx.ModelProto:
    """Cut there, every head as rows of 5 + nc logits, anchor-major: (1, n, 5 + nc) or (n, 5 + nc),
    all in one output or one a head."""
    model = cut_at(model, names)
    for i, name in enumerate(names):
        # unlike YOLOv5's own: (channels, places) first, for opsets of any age
        each = _head_channels(model, name) // na
        _append(model, "Reshape", [name, _array(model, [na, each, -1])], f"{name}_split")
        _append(model, "Transpose", [f"{name}_split"], f"{name}_turned", perm=[0, 2, 1])
        shape = [1, -1, each] if batch else [-1, each]
        _append(model, "Reshape", [f"{name}_turned", _array(model, shape)], f"rows{i}")
    outputs = [f"rows{i}" for i in range(len(names))]
    if join:
        _append(model, "Concat", outputs, "output", axis=1 if batch else 0)
    _set_outputs(model, ["output"] if join else outputs)
    return model


def turned_at(model: onnx.ModelProto, names: list[str], perm: list[int]) -> onnx.ModelProto:
    """Cut there, every head map with its axes in another order."""
    model = cut_at(model, names)
    for i, name in enumerate(names):
        _append(model, "Transpose", [name], f"turned{i}", perm=perm)
    _set_outputs(model, [f"turned{i}" for i in range(len(names))])
    return model


def reshaped_at(
    model: onnx.ModelProto, names: list[str], shapes: list[tuple[int, ...]]
) -> onnx.ModelProto:
    """Cut there, every head map in another shape."""
    model = cut_at(model, names)
    for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        _append(model, "Reshape", [name, _array(model, list(shape))], f"reshaped{i}")
    _set_outputs(model, [f"reshaped{i}" for i in range(len(names))])
    return model


def with_raw_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The decoded output, and behind it the 5-D logits, as releases 6.0 and 6.1 export."""
    model = copied(model)
    turned = {n.output[0] for n in model.graph.node if n.op_type == "Transpose"}
    raw = [n.input[0] for n in model.graph.node if n.op_type == "Sigmoid" and n.input[0] in turned]
    assert raw
    model.graph.output.extend(helper.make_tensor_value_info(n, SINGLE, None) for n in raw)
    return model


def with_heads_reversed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The decoded heads joined the coarsest grid first."""
    model = copied(model)
    last = next(n for n in model.graph.node if n.output[0] == model.graph.output[0].name)
    assert last.op_type == "Concat"
    last.input[:] = list(last.input)[::-1]
    return model


def output_orders(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """The same outputs in every order."""
    orders = []
    for outputs in itertools.permutations(model.graph.output):
        changed = copied(model)
        del changed.graph.output[:]
        changed.graph.output.extend(outputs)
        orders.append(changed)
    return orders


def numbered(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Callable[[str], str]]:
    """Every tensor's name a number, and which name became which."""
    model, names = copied(model), {"": ""}
    graph = model.graph
    for value in [*graph.input, *graph.initializer]:
        value.name = names.setdefault(value.name, str(len(names)))
    for node in graph.node:
        node.name = ""
        node.input[:] = [names.setdefault(name, str(len(names))) for name in node.input]
        node.output[:] = [names.setdefault(name, str(len(names))) for name in node.output]
    for value in graph.output:
        value.name = names[value.name]
    del graph.value_info[:]
    return model, names.__getitem__


def constants_as_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copied(model)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "Constant":
            array = numpy_helper.to_array(node.attribute[0].t)
            model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        else:
            model.graph.node.append(node)
    return model


def constants_as_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights too."""
    model = copied(model)
    others = list(model.graph.node)
    del model.graph.node[:]
    for tensor in model.graph.initializer:
        model.graph.node.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
    model.graph.node.extend(others)
    del model.graph.initializer[:]
    return model


def weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """As IR version 3 wants it: every initializer is also an input, here before the picture."""
    model = copied(model)
    picture = model.graph.input[0]
    weights = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    ]
    del model.graph.input[:]
    model.graph.input.extend([*weights, picture])
    model.ir_version = 3
    return model


def with_open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copied(model)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def shuffled(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """Nodes in no order."""
    model = copied(model)
    nodes = list(model.graph.node)
    np.random.default_rng(seed).shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _append(
    model: onnx.ModelProto, op: str, inputs: list[str], output: str, **attributes: object
) -> None:
    model.graph.node.append(helper.make_node(op, inputs, [output], **attributes))


def _array(model: onnx.ModelProto, numbers: list[int]) -> str:
    name = f"numbers_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name


def _head_channels(model: onnx.ModelProto, name: str) -> int:
    conv = next(node for node in model.graph.node if name in node.output)
    return len(_constants(model)[conv.input[1]])


def _set_outputs(model: onnx.ModelProto, names: list[str]) -> None:
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, SINGLE, None) for n in names)


def has_fixed_size(path: Path) -> bool:
    """Whether a file says its input's size; a damaged one does."""
    try:
        dims = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
        return all(dim.dim_value for dim in dims[2:])
    except (DecodeError, IndexError):
        return True
