"""Heads that are split have the numbers of whole ones, and none of the graph is computed twice."""

import numpy as np
import onnx
import pytest
from conftest import DATA
from onnx import TensorProto, helper, numpy_helper
from run_graph import run_graph
from scenes import facts_of, split

from anchors import Anchors
from convert.export import export, export_decoded
from convert.network.split import split_heads, whole_maps
from convert.source import read_source
from runtime.backends import planar
from runtime.decode import Tensor
from runtime.errors import UserError
from runtime.feed import Feed
from runtime.manifest import Facts
from runtime.pictures import read_picture

GOLDEN = DATA / "golden" / "checkpoints"


def parameters(graph):
    return sum(int(np.prod(t.dims)) for t in graph.graph.initializer if t.data_type == 1)


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("simplify", [False, True])
@pytest.mark.parametrize("name", ["v31_s", "v40_p2", "v50_s6", "v70_n", "v70_na4", "v70_v3tiny"])
def test_parts_are_the_channels_of_the_whole(name, simplify, activation):
    path, wh = GOLDEN / f"{name}.pt", (256, 128)
    facts, plain = export(read_source(path, wh), activation, simplify)
    split_facts, graph = export(read_source(path, wh), activation, simplify, outputs="split")
    picture = np.random.default_rng(0).random((1, 3, 128, 256), np.float32) * 1000
    whole, parts = run_graph(plain, picture), run_graph(graph, picture)
    expected = split(facts, [Tensor(array) for array in whole])
    assert split_facts == expected[0]
    for a, b in zip(expected[1], parts, strict=True):
        np.testing.assert_allclose(a.array, b, atol=1e-5, rtol=0)
    for a, b in zip(whole, whole_maps(split_facts, parts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
    before, after = onnx.load_model_from_string(plain), onnx.load_model_from_string(graph)
    assert [value.name for value in after.graph.output] == [n for n, _ in split_facts.tensors]
    assert {n.op_type for n in after.graph.node} == {n.op_type for n in before.graph.node}
    assert parameters(after) == parameters(before)
    said = {item.key: item.value for item in after.metadata_props}["rkyolo"]
    assert Facts.from_json(said, "it") == split_facts


def test_an_onnx_file_is_split_and_proven(demo, tmp_path):
    path = tmp_path / "shapes.onnx"
    path.write_bytes(export_decoded(read_source(demo / "shapes.pt", (160, 96)), "yolov5", False))
    source = read_source(path, None)
    facts, graph = export(source, "sigmoid", True, "space-to-depth", "split")
    picture = Feed(facts.input)(read_picture(demo / "calibration" / "001.jpg"))[0]
    proof = source.prove(facts, graph, picture)
    assert proof.compared == "boxes" and proof.count > 0
    wrong = onnx.load_model_from_string(graph)
    weight = next(t for t in wrong.graph.initializer if t.name == "head0_stride8_box.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[::-1], weight.name))
    with pytest.raises(UserError, match="the proof fails"):
        source.prove(facts, wrong.SerializeToString(), picture)


def test_an_onnx_without_a_decode_is_proven_by_its_maps(demo, tmp_path):
    path = tmp_path / "heads.onnx"
    path.write_bytes(export(read_source(demo / "shapes.pt", (160, 96)), "none", False)[1])
    source = read_source(path, None)
    facts, graph = export(source, "sigmoid", True, outputs="split")
    picture = planar(np.zeros((1, 96, 160, 3), np.uint8)), np.zeros((1, 96, 160, 3), np.uint8)
    proof = source.prove(facts, graph, picture[1])
    assert proof.compared == "head maps" and len(run_graph(graph, picture[0])) == 9


def test_what_was_split_is_no_source_again(tmp_path):
    _, graph = export(read_source(GOLDEN / "v70_n.pt", (128, 96)), "none", True, outputs="split")
    (tmp_path / "split.onnx").write_bytes(graph)
    with pytest.raises(UserError, match=r"split.onnx was made with --heads split, .*: give the"):
        read_source(tmp_path / "split.onnx", None)


def one_head(group=1, computed=False):
    """A graph of one head convolution, 2 anchors of 3 classes, and its facts."""
    facts = facts_of(Anchors.from_pairs([8], [[(8, 8), (9, 9)]]), (64, 64), 3)
    weight = np.random.default_rng(0).normal(size=(16, 4 // group, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Relu", ["w"], ["v"])] if computed else []
    inputs = ["images", "v" if computed else "w"]
    nodes.append(helper.make_node("Conv", inputs, ["head0"], group=group))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("head0", TensorProto.FLOAT, [1, 16, 8, 8])],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7), facts


def test_a_head_without_bias():
    graph, facts = one_head()
    picture = np.random.default_rng(0).random((1, 4, 8, 8), np.float32)
    (whole,) = run_graph(graph, picture)
    split_facts, expected = split(facts, [Tensor(whole)])
    split_heads(graph, split_facts)
    onnx.checker.check_model(graph, full_check=True)
    for a, b in zip(expected, run_graph(graph, picture), strict=True):
        np.testing.assert_allclose(a.array, b, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 2}, "a head's convolution has groups, so --heads split cannot share it out"),
        ({"computed": True}, "a head's weights are no constants, so --heads split cannot"),
    ],
)
def test_heads_that_cannot_be_shared_out(options, message):
    graph, facts = one_head(**options)
    with pytest.raises(UserError, match=message):
        split_heads(graph, facts.model_copy(update={"outputs": "split"}))


def test_export_prints_the_parts(tmp_path, rkyolo):
    out = tmp_path / "out.onnx"
    path = GOLDEN / "v70_n.pt"
    done = rkyolo("export", path, "-o", out, "--size", "96x128", "--heads", "split")
    assert done.returncode == 0, done.stderr
    assert "head0_stride8_objectness: 1 x 3 x 12 x 16\n" in done.stdout
    assert len(onnx.load(out).graph.output) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--heads split --decode", "--decode puts heads together again: leave --heads split out"),
        ("--heads three", "--heads three is not known: choose one, split"),
    ],
)
def test_what_export_refuses(tmp_path, rkyolo, arguments, message):
    done = rkyolo("export", GOLDEN / "v70_n.pt", "-o", tmp_path / "o.onnx", *arguments.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []
