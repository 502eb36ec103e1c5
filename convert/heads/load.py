"""An ONNX file as one plain float32 graph of one picture, whatever wrote it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from runtime.errors import UserError
from runtime.manifest import sha256_of

_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul"}
_SUPPRESSION = {"NonMaxSuppression", "EfficientNMS_TRT", "BatchedNMS_TRT", "TRT_NonMaxSuppression"}
_CONTROL = {"If", "Loop", "Scan"}
_HALF, _SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
_AGAIN = "export it again with YOLOv5's export.py"


@dataclass(frozen=True, eq=False)
class LoadedGraph:
    """A graph ready to be taken apart: nodes in order, constants as initializers, float32.

    input_wh: None where the file leaves the size open; then the graph's input has no size yet.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    input_name: str
    channels: int
    input_wh: tuple[int, int] | None


def load_graph(path: Path) -> LoadedGraph:
    """Read an ONNX file. Raises UserError for damaged files, and for graphs that cannot be cut at
    YOLOv5's heads: quantized ones, ones with suppression or control flow inside, several inputs."""
    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise UserError(f"{path} is damaged or no ONNX file: copy it again") from error
    if not model.graph.node or not model.graph.output:
        raise UserError(f"{path} is damaged or no ONNX file: it has no graph")
    _refuse_operations(model, path)
    _load_external_data(model, path)
    try:
        _to_single(model.graph)
        _constants_to_initializers(model.graph)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: a constant of it cannot be read") from error
    _sort(model.graph, path)
    name, channels, wh = _picture_input(model.graph, path)
    return LoadedGraph(path, sha256_of(data), model, name, channels, wh)


def fix_size(loaded: LoadedGraph, wh: tuple[int, int]) -> None:
    """Give the graph's input its size, in place."""
    keep = [value for value in loaded.model.graph.input if value.name == loaded.input_name]
    shape = [1, loaded.channels, wh[1], wh[0]]
    keep[0].CopyFrom(helper.make_tensor_value_info(loaded.input_name, _SINGLE, shape))
    del loaded.model.graph.input[:]
    loaded.model.graph.input.extend(keep)
    del loaded.model.graph.value_info[:]


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
    if kinds & _CONTROL or model.functions:
        raise UserError(f"{path} has control flow or functions inside: {_AGAIN}")
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign:
        raise UserError(f"{path} has operations of {', '.join(sorted(foreign))}: {_AGAIN}")


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Read weights kept in files beside the graph, and in no other folder."""
    folder = path.resolve().parent
    for tensor in external_data_helper._get_all_tensors(model):
        if not external_data_helper.uses_external_data(tensor):
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        place = folder / facts.get("location", "")
        if place.resolve().parent != folder or not place.is_file():
            raise UserError(
                f"{path} keeps weights in {facts.get('location', '')!r}, which is no file beside"
                " it: copy both files into one folder"
            )
        try:
            offset, size = int(facts.get("offset", 0)), place.stat().st_size
            length = int(facts.get("length", size - offset))
            if not 0 <= offset <= offset + length <= size:
                raise ValueError("outside the file")
            with place.open("rb") as stream:
                stream.seek(offset)
                tensor.raw_data = stream.read(length)
        except (ValueError, OSError) as error:
            raise UserError(f"{place} does not hold the weights that {path} expects") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _to_single(graph: onnx.GraphProto) -> None:
    """Half precision becomes single: the same numbers, and every tool reads them."""
    for tensor in graph.initializer:
        _single(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _single(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == _HALF:
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
        elif attribute.name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
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
    known = {value.name for value in graph.input} | {t.name for t in graph.initializer} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            missing = next(name for node in waiting for name in node.input if name not in known)
            raise UserError(f"{path} is damaged: nothing gives the tensor {missing!r}")
        # in one sweep, so that a sorted graph takes one sweep only
        left = []
        for node in waiting:
            if known.issuperset(node.input):
                known.update(node.output)
                ordered.append(node)
            else:
                left.append(node)
        waiting = left
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _picture_input(graph: onnx.GraphProto, path: Path) -> tuple[str, int, tuple[int, int] | None]:
    """(name, channels, (width, height) or None) of the only input."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs, not one picture: {_AGAIN}")
    kind = inputs[0].type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type != _SINGLE or len(sizes) != 4 or sizes[1] not in (1, 3):
        raise UserError(
            f"{path} takes {sizes} of type {TensorProto.DataType.Name(kind.elem_type)}, not float"
            f" pictures (1, 3, height, width): {_AGAIN}"
        )
    if sizes[0] > 1:
        raise UserError(f"{path} takes batches of {sizes[0]}: {_AGAIN} --batch-size 1")
    fixed = sizes[2] > 0 and sizes[3] > 0
    if fixed and max(sizes[2:]) > 16384:
        raise UserError(f"{path} takes pictures of {sizes[2]}x{sizes[3]}, which is out of range")
    return inputs[0].name, sizes[1], (sizes[3], sizes[2]) if fixed else None
