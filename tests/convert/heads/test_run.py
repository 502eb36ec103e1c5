"""Graphs that would take a process down take down one of their own."""

import os
import signal
import time

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert.heads import run
from convert.heads.run import GraphProcess, one_process, run_graph
from convert.heads.runner import packed, unpacked
from runtime.errors import UserError

PICTURE = {"x": np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)}


def graph_of(*nodes, weights=(), outputs=("y",)):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
    tensors = [numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph(nodes, "graph", [picture], values, tensors)
    opsets = [helper.make_opsetid("", 12)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)


DOUBLE = graph_of(helper.make_node("Add", ["x", "x"], ["y"]))
CRASH = graph_of(
    helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 1]),
    weights=[("w", np.ones((1, 3, 1, 1), np.float32))],
)
LARGE = graph_of(
    helper.make_node("Expand", ["x", "sizes"], ["y"]),
    weights=[("sizes", np.array([10_000_000, 3, 4, 4]))],
)
LONG = graph_of(
    helper.make_node("Pad", ["x", "pads"], ["0"]),
    *(helper.make_node("Conv", [f"{i}", "w"], [f"{i + 1}"], pads=[4] * 4) for i in range(500)),
    helper.make_node("ReduceMax", ["500"], ["y"]),
    weights=[
        ("pads", np.array([0, 0, 0, 0, 0, 0, 500, 500])),
        ("w", np.ones((3, 3, 9, 9), np.float32)),
    ],
)


def doubles(process):
    values = process.run(DOUBLE.SerializeToString(), PICTURE, "graph")
    np.testing.assert_array_equal(values["y"], 2 * PICTURE["x"])


def test_outputs_by_name_and_inputs_it_does_not_have():
    graph = graph_of(
        helper.make_node("Add", ["x", "x"], ["b"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["a"], to=TensorProto.FLOAT),
        outputs=("b", "a"),
    )
    values = run_graph(graph, PICTURE | {"more": np.zeros(3)}, "graph")
    assert list(values) == ["b", "a"]
    np.testing.assert_array_equal(values["a"], [1, 3, 4, 4])
    assert values["b"].dtype == np.float32


def test_a_crash_is_told_and_the_next_graph_runs():
    with GraphProcess() as process:
        doubles(process)
        with pytest.raises(UserError, match=r"^x\.onnx makes ONNX Runtime crash: it is damaged"):
            process.run(CRASH.SerializeToString(), PICTURE, "x.onnx")
        doubles(process)


def test_memory_is_bounded():
    with GraphProcess() as process:
        with pytest.raises(UserError, match=r"x\.onnx does not run in ONNX Runtime: .*alloc"):
            process.run(LARGE.SerializeToString(), PICTURE, "x.onnx")
        doubles(process)


def test_time_is_bounded(monkeypatch):
    monkeypatch.setattr(run, "_BASE_S", 1)
    with GraphProcess() as process:
        start = time.monotonic()
        with pytest.raises(UserError, match=r"x\.onnx takes ONNX Runtime more than 1 s"):
            process.run(LONG.SerializeToString(), PICTURE, "x.onnx")
        assert time.monotonic() - start < 5
        monkeypatch.setattr(run, "_BASE_S", 30)
        doubles(process)


def test_a_process_that_was_killed_is_replaced():
    with GraphProcess() as process:
        doubles(process)
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(UserError, match="makes ONNX Runtime crash"):
            doubles(process)
        doubles(process)


def test_leaving_ends_the_process():
    with pytest.raises(ZeroDivisionError):
        with GraphProcess() as process:
            doubles(process)
            _ = 1 / 0
    assert process._process.returncode == -signal.SIGKILL


def test_blocks_within_a_block_share_its_process():
    with one_process() as outer, one_process() as inner:
        assert outer is inner
    with one_process() as again:
        doubles(again)


def test_a_broken_installation_is_told(monkeypatch, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no such symbol')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with GraphProcess() as process:
        with pytest.raises(UserError, match="does not run in ONNX Runtime: no such symbol"):
            doubles(process)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 4), np.float32),
        np.float32(1.5),
        np.arange(6).reshape(2, 3),
        np.array([True]),
        np.ones((2, 3), np.float16).T,
    ],
)
def test_arrays_pass_the_pipe(array):
    found = unpacked(packed({"ü": array, "": array}))
    assert list(found) == ["ü", ""]
    assert found["ü"].dtype == array.dtype
    np.testing.assert_array_equal(found["ü"], array)


def test_objects_do_not():
    with pytest.raises(ValueError, match="allow_pickle"):
        packed({"a": np.array([print], object)})
