"""An ONNX file as one plain float32 graph of one picture, whatever wrote it."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from convert.network.deploy import METADATA_KEY
from runtime.errors import UserError
from runtime.manifest import sha256_of

_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul"}
_SUPPRESSION = {"NonMaxSuppression", "EfficientNMS_TRT", "BatchedNMS_TRT", "TRT_NonMaxSuppression"}
_CONTROL = {"If", "Loop", "Scan"}
_ARITHMETIC = {"Add", "BatchNormalization", "Div", "InstanceNormalization", "Mul", "Pow", "Sub"}
_REARRANGING = {"Cast", "Concat", "Gather", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth"}
_REARRANGING |= {"Split", "Squeeze", "Transpose", "Unsqueeze"}
_PLAIN_CONSTANTS = {"value_int", "value_ints", "value_float", "value_floats"}
_HALF, _SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
_LARGEST = 2**31 - 1
"""Protobuf's limit for one message, so for a graph with all its weights."""
_AGAIN = "export it again with YOLOv5's export.py"


@dataclass(frozen=True, eq=False)
class LoadedGraph:
    """A graph ready to be taken apart: nodes in order, constants as initializers, float32.

    input_wh: 0 where the file leaves the width or height open.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    input_name: str
    channels: int
    input_wh: tuple[int, int]


def load_graph(path: Path) -> LoadedGraph:
    """Read an ONNX file. Raises UserError for damaged files, and for graphs that cannot be cut at
    YOLOv5's heads or take another picture: quantized ones, ones with preprocessing, suppression or
    control flow inside, several inputs."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path} is larger than the 2 GB that an ONNX file can hold")
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise UserError(f"{path} is damaged or no ONNX file: copy it again") from error
    if not model.graph.node or not model.graph.output:
        raise UserError(f"{path} is damaged or no ONNX file: it has no graph")
    if not all(isinstance(text, str) for text in _texts(model.graph)):
        raise UserError(f"{path} is damaged: a name in it is no text")
    _refuse_operations(model, path)
    _load_external_data(model, path)
    try:
        _to_single(model.graph)
        _constants_to_initializers(model.graph)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: a constant of it cannot be read") from error
    _sort(model.graph, path)
    _check_biases(model.graph, path)
    _refuse_other_forms(model, path)
    name, channels, wh = _picture_input(model.graph, path)
    _refuse_preprocessing(model.graph, name, path)
    return LoadedGraph(path, sha256_of(data), model, name, channels, wh)


def fix_size(loaded: LoadedGraph, wh: tuple[int, int]) -> None:
    """Give the graph's input its size, in place, and forget what it says of the others': torch has
    been seen to call different sizes by one name."""
    keep = [value for value in loaded.model.graph.input if value.name == loaded.input_name]
    shape = [1, loaded.channels, wh[1], wh[0]]
    keep[0].CopyFrom(helper.make_tensor_value_info(loaded.input_name, _SINGLE, shape))
    del loaded.model.graph.input[:]
    loaded.model.graph.input.extend(keep)
    del loaded.model.graph.value_info[:]
    for value in loaded.model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _refuse_other_forms(model: onnx.ModelProto, path: Path) -> None:
    """What rkyolo itself has made for the NPU, and says so, has no whole heads or pictures."""
    text = "".join(item.value for item in model.metadata_props if item.key == METADATA_KEY)
    for option, said in (
        ("--stem space-to-depth", '"stem":"space-to-depth"'),
        ("--heads split", '"outputs":"split"'),
    ):
        if said in text:
            raise UserError(
                f"{path} was made with {option}, which is for the NPU: give the model it was made"
                " from"
            )


def _refuse_operations(model: onnx.ModelProto, path: Path) -> None:
    kinds = {node.op_type for node in model.graph.node}
    if kinds & _SUPPRESSION:
        from convert.heads.find import conv_tensors  # the message needs what the search finds

        heads = ", ".join(conv_tensors(model.graph)) or "the head convolutions"
        raise UserError(
            f"{path} has non-maximum suppression inside ({', '.join(kinds & _SUPPRESSION)}), which"
            f" does not run on the NPU: {_AGAIN} without --nms, or cut it at {heads}"
        )
    if kinds & _QUANTIZED:
        raise UserError(
            f"{path} is quantized already ({', '.join(sorted(kinds & _QUANTIZED))}): give the float"
            " ONNX, rkyolo quantizes it for the NPU"
        )
    values = [attribute for node in model.graph.node for attribute in node.attribute]
    if kinds & _CONTROL or model.functions or any(v.HasField("g") or v.graphs for v in values):
        raise UserError(f"{path} has control flow or functions inside: {_AGAIN}")
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign:
        names = ", ".join(map(repr, sorted(foreign)))
        raise UserError(f"{path} has operations of {names}: {_AGAIN}")
    sparse = any(v.HasField("sparse_tensor") or v.sparse_tensors or v.tensors for v in values)
    if sparse or model.graph.sparse_initializer:
        raise UserError(f"{path} has sparse weights inside: {_AGAIN}")


def _texts(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    """All names; protobuf gives those that are no UTF-8 as bytes."""
    for node in graph.node:
        yield from (node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (named.name for named in [*graph.initializer, *graph.input, *graph.output])


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Read weights kept in files beside the graph, and in no other folder."""
    tensors = filter(external_data_helper.uses_external_data, _tensors(model.graph))
    parts = [(tensor, *_part_of_file(tensor, path)) for tensor in tensors]
    if sum(length for *_, length in parts) > _LARGEST:
        raise UserError(f"{path} keeps more than the 2 GB of weights that a graph can hold")
    for tensor, place, offset, length in parts:
        try:
            with place.open("rb") as stream:
                stream.seek(offset)
                tensor.raw_data = stream.read(length)
        except OSError as error:
            raise UserError(f"cannot read {place}: {error.strerror}") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _part_of_file(tensor: TensorProto, path: Path) -> tuple[Path, int, int]:
    """(file, offset, length) of an external tensor."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    place = _beside(path, facts.get("location", ""))
    try:
        offset, size = int(facts.get("offset", 0)), place.stat().st_size
        length = int(facts.get("length", size - offset))
        if not 0 <= offset <= offset + length <= size:
            raise ValueError("outside the file")
    except (ValueError, OSError) as error:
        raise UserError(f"{place} does not hold the weights that {path} expects") from error
    return place, offset, length


def _beside(path: Path, location: str | bytes) -> Path:
    """The file of that name in the folder of path. Raises UserError for any other place."""
    folder = path.resolve().parent
    try:
        place = (folder / location).resolve()
        if place.parent == folder and place.is_file():
            return place
    except (OSError, RuntimeError, TypeError, ValueError):
        pass  # a name that no file can have, or a link to itself
    raise UserError(
        f"{path} keeps weights in {location!r}, which is no file beside it: copy both files into"
        " one folder"
    )


def _to_single(graph: onnx.GraphProto) -> None:
    """Half precision becomes single: the same numbers, and every tool reads them."""
    for tensor in _tensors(graph):
        _single(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _HALF:
                attribute.i = _SINGLE
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == _HALF:
            value.type.tensor_type.elem_type = _SINGLE
    del graph.value_info[:]  # types and sizes said there may no longer hold


def _single(tensor: TensorProto) -> None:
    if tensor.data_type == _HALF:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    others = []
    for node in graph.node:
        attribute = node.attribute[0] if len(node.attribute) == 1 else None
        if node.op_type != "Constant" or attribute is None or not node.output:
            others.append(node)
        elif attribute.name == "value" and attribute.type == onnx.AttributeProto.TENSOR:
            tensor = graph.initializer.add()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
        elif attribute.name not in _PLAIN_CONSTANTS:
            raise ValueError(attribute.name)
        else:
            value = helper.get_attribute_value(attribute)
            kind = np.int64 if attribute.name.startswith("value_int") else np.float32
            array = np.array(value, kind)
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in others]
    del graph.node[:]
    graph.node.extend(nodes)


def _sort(graph: onnx.GraphProto, path: Path) -> None:
    """Put nodes behind what they need; some converters append theirs at the end."""
    nodes, users, missing = list(graph.node), {}, []
    known = {value.name for value in graph.input} | {t.name for t in graph.initializer} | {""}
    for i, node in enumerate(nodes):
        needed = set(node.input) - known
        missing.append(len(needed))
        for name in needed:
            users.setdefault(name, []).append(i)
    ready, ordered = [i for i, count in enumerate(missing) if not count], []
    while ready:
        node = nodes[heappop(ready)]  # the first that can be, so that a sorted graph stays as it is
        ordered.append(onnx.NodeProto.FromString(node.SerializeToString()))
        for user in (user for name in node.output for user in users.pop(name, ())):
            missing[user] -= 1
            if not missing[user]:
                heappush(ready, user)
    if len(ordered) < len(nodes):
        raise UserError(f"{path} is damaged: nothing gives the tensor {next(iter(users))!r}")
    del graph.node[:]
    graph.node.extend(ordered)


def _check_biases(graph: onnx.GraphProto, path: Path) -> None:
    """A bias has a number a channel: ONNX Runtime reads behind the end of a shorter one."""
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) > 2:
            weight, bias = sizes.get(node.input[1]), sizes.get(node.input[2])
            if weight and bias and bias != weight[:1]:
                raise UserError(f"{path} is damaged: bias {node.input[2]!r} has another size")


def _picture_input(graph: onnx.GraphProto, path: Path) -> tuple[str, int, tuple[int, int]]:
    """(name, channels, (width, height)) of the only input."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs, not one picture: {_AGAIN}")
    kind = inputs[0].type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type != _SINGLE or len(sizes) != 4 or sizes[1] not in (1, 3):
        types = {number: name for name, number in TensorProto.DataType.items()}
        raise UserError(
            f"{path} takes {sizes} of type {types.get(kind.elem_type, 'unknown')}, not float"
            f" pictures (1, 3, height, width): {_AGAIN}"
        )
    if sizes[0] > 1:
        raise UserError(f"{path} takes batches of {sizes[0]}: {_AGAIN} --batch-size 1")
    height, width = (max(size, 0) for size in sizes[2:])
    if max(height, width) > 16384:
        raise UserError(f"{path} takes pictures of {height}x{width}, which is out of range")
    return inputs[0].name, sizes[1], (width, height)


def _refuse_preprocessing(graph: onnx.GraphProto, picture: str, path: Path) -> None:
    """YOLOv5 takes a picture of 0 to 1, and convolves it as it is. A graph that divides it by 255
    first takes other numbers, which nothing else would show."""
    reached = {picture}
    for node in graph.node:
        if reached.intersection(node.input):
            if node.op_type in _ARITHMETIC:
                raise UserError(
                    f"{path} calculates with its picture before any convolution ({node.op_type}),"
                    f" so that it takes another than YOLOv5's of 0 to 1: {_AGAIN}, without that"
                )
            if node.op_type in _REARRANGING:
                reached.update(node.output)
