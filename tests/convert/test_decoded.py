"""The decode put back behind the heads."""

import warnings

import cv2
import numpy as np
import onnx
import pytest

from convert.decoded import OUTPUT, PLUGIN
from convert.export import export_decoded
from convert.heads.run import run_graph
from convert.source import read_source

GOLDEN = [
    "v31_s v40_p2 v40_s v50_s v50_s6 v50_s_legacy v60_ghost v60_n v60_unstripped v62_s",
    "v70_default_anchors v70_leaky v70_n v70_na4 v70_p7 v70_relu v70_v3tiny",
]
ONLY_ONNX = {"v70_relu": "torch2.13_v70_slim"}


def golden(data, name):
    """(model file, npz, picture float32 (1, 3, h, w)) of a golden case."""
    values = np.load(data / "golden" / "checkpoints" / f"{name}.npz")
    model = data / "golden" / "checkpoints" / f"{name}.pt"
    if name in ONLY_ONNX:
        model = data / "golden" / "onnx" / f"{ONLY_ONNX[name]}.onnx"
    return model, values, values["image"][None].astype(np.float32) / 255


def source_of(model, values):
    height, width = values["image"].shape[1:]
    return read_source(model, (width, height))


def expect_equal(found, decoded):
    assert found.shape == decoded.shape
    assert np.abs(found[:, :4] - decoded[:, :4]).max() < 1e-2
    assert np.abs(found[:, 4:] - decoded[:, 4:]).max() < 1e-4


@pytest.mark.parametrize("name", " ".join(GOLDEN).split())
def test_decoded_export_is_yolov5s_own_in_onnxruntime_and_opencv(data, name):
    model, values, picture = golden(data, name)
    graph = export_decoded(source_of(model, values), "yolov5", simplify=False)
    expect_equal(run_graph(graph, {"images": picture}, name)[OUTPUT][0], values["decoded"])
    network = cv2.dnn.readNetFromONNX(np.frombuffer(graph, np.uint8))
    network.setInput(picture)
    expect_equal(network.forward(OUTPUT)[0], values["decoded"])


def test_decoded_export_survives_onnxsim(data):
    model, values, picture = golden(data, "v70_n")
    graph = export_decoded(source_of(model, values), "yolov5", simplify=True)
    expect_equal(run_graph(graph, {"images": picture}, "v70_n")[OUTPUT][0], values["decoded"])


def test_decoded_export_reads_back_with_the_same_anchors_and_names(data, tmp_path):
    model, values, _ = golden(data, "v70_na4")
    path = tmp_path / "decoded.onnx"
    source = source_of(model, values)
    names = source.facts("none").class_names
    path.write_bytes(export_decoded(source, "yolov5", simplify=False))
    again = read_source(path, None).facts("none")
    assert again.class_names == names
    np.testing.assert_allclose(
        [head.wh_px for head in again.anchors.heads], values["anchors"], rtol=1e-4
    )


def test_plugin_export_ends_in_the_one_node_the_plugin_is_looked_up_by(data):
    model, values, picture = golden(data, "v70_n")
    source = source_of(model, values)
    facts = source.facts("sigmoid")
    graph = onnx.load_model_from_string(export_decoded(source, "tensorrt-plugin", simplify=False))
    node = graph.graph.node[-1]
    plain = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert (node.op_type, list(node.input)) == (PLUGIN, [head.output for head in facts.heads])
    assert list(node.output) == [
        "DecodeNumDetection",
        "DecodeDetectionBoxes",
        "DecodeDetectionScores",
        "DecodeDetectionClasses",
    ]
    assert [output.name for output in graph.graph.output] == list(node.output)
    assert plain["max_stride"] == 32
    assert plain["num_classes"] == 3
    np.testing.assert_allclose(plain["anchors"], values["anchors"].ravel(), rtol=1e-6)
    assert 0 < plain["prenms_score_threshold"] < 1
    # what the node is fed is the sigmoid of the logits
    del graph.graph.node[-1], graph.graph.output[:]
    for i, head in enumerate(facts.heads):
        shape = facts.head_shape(i)
        info = onnx.helper.make_tensor_value_info(head.output, onnx.TensorProto.FLOAT, shape)
        graph.graph.output.append(info)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = run_graph(graph, {"images": picture}, "plugin")
    for i, head in enumerate(facts.heads):
        logits = values[f"head{i}"]
        np.testing.assert_allclose(outputs[head.output][0], 1 / (1 + np.exp(-logits)), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--decode"], "output0: 1 x 756 x 8"),
        (["--decode", "yolov5"], "output0: 1 x 756 x 8"),
        (["--decode", "tensorrt-plugin"], "DecodeDetectionBoxes: 1 x 756 x 4"),
        ([], "head0_stride8: 1 x 24 x 12 x 16"),
    ],
    ids=["alone", "named", "plugin", "none"],
)
def test_export_command_takes_decode_with_and_without_a_value(
    rkyolo, data, tmp_path, arguments, output
):
    model = data / "golden" / "onnx" / "torch1.13_v70_op12.onnx"
    out = tmp_path / "out.onnx"
    done = rkyolo("export", model, *arguments, "-o", out, "--no-simplify")
    assert done.returncode == 0, done.stderr
    assert output in done.stdout
    assert out.exists()
