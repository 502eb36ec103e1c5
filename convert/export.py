"""A checkpoint as a finished ONNX file: built, simplified, checked."""

import io
from contextlib import redirect_stdout

import onnx

from convert.checkpoint import Checkpoint
from convert.network import deploy_graph, facts_for
from runtime.errors import UserError
from runtime.manifest import Activation, Facts

_LARGEST = 2**31 - 1
"""Protobuf's limit for one message."""


def export(
    checkpoint: Checkpoint, wh: tuple[int, int], activation: Activation, simplify: bool
) -> tuple[Facts, bytes]:
    """The deploy graph's facts and its ONNX bytes, checked by onnx's checker, and if wanted
    simplified by onnxsim, which compares both graphs on random input. Raises UserError."""
    facts = facts_for(checkpoint, wh, activation)
    graph = deploy_graph(checkpoint, facts)
    del checkpoint  # the largest thing there is, and no longer needed
    if graph.ByteSize() > _LARGEST:
        raise UserError("the network is larger than the 2 GB that an ONNX file can hold")
    if simplify:
        graph = simplified(graph)
    data = graph.SerializeToString()
    del graph
    onnx.checker.check_model(data, full_check=True)
    return facts, data


def simplified(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after onnxsim, whose own check on one random input is on."""
    import onnxsim

    with redirect_stdout(io.StringIO()):  # it prints its own progress
        result, same = onnxsim.simplify(graph, check_n=1)
    if not same:
        raise UserError(
            "onnxsim changed what the graph computes; use --no-simplify and report this"
        )
    return result
