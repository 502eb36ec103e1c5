"""A source as a finished ONNX file: built or cut, simplified, checked."""

import io
import warnings
from contextlib import redirect_stdout
from typing import Literal

import onnx
from onnx import version_converter

from convert.decoded import with_decode, with_plugin
from convert.source import Source, chosen_facts, chosen_graph
from runtime.errors import UserError
from runtime.manifest import Activation, Facts, Outputs, Stem, Thresholds

Decode = Literal["none", "yolov5", "tensorrt-plugin"]

_LARGEST = 2**31 - 1
"""Protobuf's limit for one message."""
_OPSETS = range(12, 20)
"""What the vendor's toolkit and OpenCV both read."""


def export(
    source: Source,
    activation: Activation,
    simplify: bool,
    stem: Stem = "none",
    outputs: Outputs = "one",
) -> tuple[Facts, bytes]:
    """The deploy graph's facts and its ONNX bytes, checked by onnx's checker, and if wanted
    simplified by onnxsim, which compares both graphs on random input. Raises UserError."""
    facts = chosen_facts(source, activation, stem, outputs)
    return facts, _finished(chosen_graph(source, facts), simplify)


def export_decoded(source: Source, decode: Decode, simplify: bool) -> bytes:
    """The graph with a decode behind its heads: YOLOv5's own, or the TensorRT plugin's node, which
    no checker knows. Raises UserError."""
    facts = source.facts("sigmoid")
    graph = _in_supported_opset(source.graph(facts))
    if decode == "tensorrt-plugin":
        data = _finished(graph, simplify)
        graph = onnx.load_model_from_string(data)
        with_plugin(graph, facts, Thresholds().score)
        return graph.SerializeToString()
    with_decode(graph, facts)
    return _finished(graph, simplify)


def outputs_of(data: bytes) -> list[tuple[str, list[int]]]:
    """Names and shapes of a graph's outputs."""
    outputs = onnx.load_model_from_string(data).graph.output
    return [(o.name, [d.dim_value for d in o.type.tensor_type.shape.dim]) for o in outputs]


def _finished(graph: onnx.ModelProto, simplify: bool) -> bytes:
    graph = _in_supported_opset(graph)
    if graph.ByteSize() > _LARGEST:
        raise UserError("the network is larger than the 2 GB that an ONNX file can hold")
    if simplify:
        graph = _simplified(graph)
    data = graph.SerializeToString()
    del graph  # so that the checker's copy is not one too many
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"onnx's checker refuses the network: {reason}") from error
    return data


def _simplified(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after onnxsim, whose own check on one random input is on."""
    import onnxsim

    try:
        with redirect_stdout(io.StringIO()):  # it prints its own progress
            result, same = onnxsim.simplify(graph, check_n=1)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"onnxsim cannot read the network: {reason}; use --no-simplify") from error
    if not same:
        raise UserError(
            "onnxsim changed what the graph computes; use --no-simplify and report this"
        )
    return result


def _in_supported_opset(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in an opset that every tool behind reads. Those between 13 and 20 say the same of
    all that YOLOv5 is made of, so where there is no converter the number alone is changed; the
    checker, and the proof, then tell whether that held."""
    opset = next(o for o in graph.opset_import if o.domain in ("", "ai.onnx"))
    if opset.version in _OPSETS:
        return graph
    target = _OPSETS[0] if opset.version < _OPSETS[0] else _OPSETS[-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = version_converter.convert_version(graph, target)
    except RuntimeError as error:
        if opset.version < _OPSETS[0]:
            raise UserError(
                f"the network is in opset {opset.version} and cannot be brought to {target}: export"
                " it again with a newer opset"
            ) from error
        opset.version = target
        return graph
    return converted
