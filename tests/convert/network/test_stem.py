"""Stems rewritten for folded pictures give what they gave."""

import numpy as np
import onnx
import pytest
from conftest import DATA
from onnx import TensorProto, helper, numpy_helper
from run_graph import run_graph

from convert.export import export, export_decoded
from convert.network.stem import fold_stem
from convert.source import read_source
from runtime.backends import planar
from runtime.errors import UserError
from runtime.feed import Feed, fold
from runtime.manifest import Facts, InputFacts
from runtime.pictures import read_picture

GOLDEN = DATA / "golden" / "checkpoints"
FOLDABLE = ("v31_s", "v40_s", "v40_p2", "v50_s", "v50_s6", "v60_n", "v60_ghost", "v70_n", "v70_p7")
STEM = "space-to-depth"


def folded(picture):
    """A picture uint8 (1, h, w, c) as the rewritten graph takes it."""
    _, height, width, channels = picture.shape
    return fold(picture[0], np.empty((height // 2, width // 2, 4 * channels), np.uint8))[None]


def picture_for(facts):
    shape = 1, facts.input.height, facts.input.width, facts.input.channels
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("name", FOLDABLE)
@pytest.mark.parametrize("simplify", [False, True])
def test_head_maps_are_equal(name, simplify):
    """Of the 6x6 convolution and, before v6.0, of the Focus. Pictures are far too bright, since
    these untrained networks hardly see others."""
    path, wh = GOLDEN / f"{name}.pt", (256, 128)
    facts, plain = export(read_source(path, wh), "none", simplify)
    stem_facts, graph = export(read_source(path, wh), "none", simplify, STEM)
    assert stem_facts.input.shape == (1, 64, 128, 12)
    assert stem_facts.model_copy(update={"input": facts.input}) == facts
    picture = picture_for(facts)
    inputs = 1000 * planar(folded(picture))
    expected = run_graph(plain, 1000 * planar(picture))
    for a, b in zip(expected, run_graph(graph, inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
    wrong = run_graph(graph, np.roll(inputs, 3, axis=1))  # in another order of channels
    assert np.abs(wrong[0] - expected[0]).max() > 0.05
    model = onnx.load_model_from_string(graph)
    assert {node.op_type for node in model.graph.node}.isdisjoint({"Slice", "SpaceToDepth"})
    assert [list(t.dims)[1:] for t in model.graph.initializer if "_folded" in t.name] == [
        [12, 3, 3]
    ]
    said = {item.key: item.value for item in model.metadata_props}["rkyolo"]
    assert Facts.from_json(said, "it") == stem_facts


def test_the_demo_gives_the_same_to_the_last_digits(demo):
    facts, plain = export(read_source(demo / "shapes.pt", (320, 320)), "sigmoid", True)
    stem_facts, graph = export(read_source(demo / "shapes.pt", (320, 320)), "sigmoid", True, STEM)
    bgr = read_picture(demo / "calibration" / "001.jpg")
    expected = run_graph(plain, planar(Feed(facts.input)(bgr)[0]))
    found = run_graph(graph, planar(Feed(stem_facts.input)(bgr)[0]))
    assert max(array.max() for array in expected) > 0.9
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6, rtol=0)


def test_an_onnx_file_too_is_rewritten_and_proven(tmp_path, demo):
    path = tmp_path / "shapes.onnx"
    path.write_bytes(export_decoded(read_source(demo / "shapes.pt", (160, 96)), "yolov5", False))
    source = read_source(path, None)
    facts, graph = export(source, "sigmoid", True, STEM)
    proof = source.prove(facts, graph, folded(picture_for(facts)))
    assert proof.compared == "boxes" and proof.count > 0
    wrong = onnx.load_model_from_string(graph)
    weight = next(t for t in wrong.graph.initializer if t.dims[1:] == [12, 3, 3])
    turned = np.roll(numpy_helper.to_array(weight), 3, axis=1)
    weight.CopyFrom(numpy_helper.from_array(turned, weight.name))
    with pytest.raises(UserError, match="the proof fails"):
        source.prove(facts, wrong.SerializeToString(), folded(picture_for(facts)))


def test_what_was_rewritten_is_no_source_again(tmp_path):
    _, graph = export(read_source(GOLDEN / "v70_n.pt", (128, 96)), "none", True, STEM)
    (tmp_path / "stem.onnx").write_bytes(graph)
    with pytest.raises(
        UserError, match=r"stem.onnx was made with --stem space-to-depth, .*: give the"
    ):
        read_source(tmp_path / "stem.onnx", None)


def test_another_first_layer_is_refused_by_name(rkyolo):
    path = GOLDEN / "v70_v3tiny.pt"
    done = rkyolo("cost", path, "--stem", STEM)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {path}: it begins with a 3x3 convolution of stride 1x1")
    assert "6x6, stride 2 and padding 2" in done.stderr and done.stderr.count("\n") == 1


def one_layer(kernel=6, stride=2, pads=(2, 2, 2, 2), before="Conv", **attributes):
    """A graph of one convolution, over pictures of 12 x 8."""
    weight = np.random.default_rng(1).normal(size=(4, 3, kernel, kernel)).astype(np.float32)
    weight = weight[:, : 3 // attributes.get("group", 1)]
    weight = np.repeat(weight, 3, 0) if "group" in attributes else weight
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=[stride] * 2, pads=list(pads), **attributes
    )
    nodes = [node] if before == "Conv" else [helper.make_node(before, ["images"], ["x"]), node]
    node.input[0] = "images" if before == "Conv" else "x"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, "h", "w"])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


INPUT = InputFacts(width=12, height=8, stem=STEM)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "as in v6.0"),
        ({"kernel": 2, "pads": (0, 0, 0, 0)}, "Focus of a 1x1 convolution"),
        ({"kernel": 10, "pads": (4, 4, 4, 4)}, "Focus of a 5x5 convolution"),
        ({"stride": 4}, "a longer stride"),
        ({"pads": (2, 0, 4, 2)}, "padding that is not symmetric"),
        ({"auto_pad": "NOTSET"}, "a default that is written out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_even_convolutions_are_rewritten_exactly(options, reason):
    graph = one_layer(**options)
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 3), np.uint8)
    (expected,) = run_graph(graph, planar(picture))
    fold_stem(graph, INPUT)
    onnx.checker.check_model(graph)
    (found,) = run_graph(graph, planar(folded(picture)))
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)
    assert len(graph.graph.initializer) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernel": 3, "pads": (1, 1, 1, 1)},
            "a 3x3 convolution of stride 2x2 and padding 1,1,1,1",
        ),
        ({"kernel": 7, "pads": (3, 3, 3, 3)}, "a 7x7 convolution"),
        ({"stride": 1}, "of stride 1x1"),
        ({"pads": (1, 1, 1, 1)}, "and padding 1,1,1,1"),
        ({"pads": (2, 2, 2, 3)}, "and padding 2,2,2,3"),
        ({"dilations": [2, 2]}, "with groups or dilation"),
        ({"group": 3}, "with groups or dilation"),
        ({"before": "Relu"}, "it begins with Relu"),
    ],
)
def test_others_are_refused_and_left_alone(options, message):
    graph = one_layer(**options)
    before = graph.SerializeToString()
    with pytest.raises(UserError, match=f"{message}.*; --stem space-to-depth rewrites .* out$"):
        fold_stem(graph, INPUT)
    assert graph.SerializeToString() == before


def test_weights_that_others_use_are_kept():
    graph = one_layer()
    graph.graph.node.append(helper.make_node("Relu", ["w"], ["z"]))
    graph.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [4, 3, 6, 6]))
    fold_stem(graph, INPUT)
    onnx.checker.check_model(graph)
    assert {t.name for t in graph.graph.initializer} == {"w", "w_folded"}


def test_weights_that_are_computed_are_refused():
    graph = one_layer()
    graph.graph.node.insert(0, helper.make_node("Relu", ["w"], ["v"]))
    graph.graph.node[1].input[1] = "v"
    with pytest.raises(UserError, match=r"^its weights are no constant; "):
        fold_stem(graph, INPUT)
