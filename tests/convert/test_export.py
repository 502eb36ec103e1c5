"""rkyolo export: the deploy graph as a file."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from runtime.letterbox import letterbox
from runtime.manifest import Facts


def exported(path: Path) -> onnx.ModelProto:
    model = onnx.load_model(path)
    onnx.checker.check_model(model, full_check=True)
    return model


def shapes_of(values) -> list[tuple[str, list[int]]]:
    return [(v.name, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values]


def outputs_of(path: Path, picture: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    planar = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    return session.run(None, {session.get_inputs()[0].name: planar})


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """One of the demo's, as a model for 320 x 256 pixels takes it."""
    path = Path(__file__).parents[2] / "models" / "demo" / "calibration" / "003.jpg"
    return letterbox(cv2.imread(str(path)), (320, 256))


@pytest.fixture
def export_demo(demo, tmp_path, rkyolo):
    """Exports the demo model for 320 x 256 pixels: export_demo(name, *more) gives the file."""

    def run(name: str, *arguments: str) -> Path:
        out = tmp_path / name
        done = rkyolo("export", demo / "shapes.pt", "-o", out, "--size", "256x320", *arguments)
        assert done.returncode == 0, done.stderr
        assert f"wrote {out}" in done.stdout
        return out

    return run


def test_the_deploy_graph_has_one_output_a_head_in_order_of_stride(export_demo):
    model = exported(export_demo("out.onnx"))
    assert shapes_of(model.graph.input)[0][1] == [1, 3, 256, 320]
    assert shapes_of(model.graph.output) == [
        ("head0_stride8", [1, 30, 32, 40]),
        ("head1_stride16", [1, 30, 16, 20]),
        ("head2_stride32", [1, 30, 8, 10]),
    ]
    (facts,) = [item.value for item in model.metadata_props if item.key == "rkyolo"]
    facts = Facts.from_json(facts, "out.onnx")
    assert facts.input.wh == (320, 256)
    assert facts.activation == "none"
    assert facts.class_names == ("circle", "square", "triangle", "star", "cross")


def test_shapes_are_printed(demo, tmp_path, rkyolo):
    done = rkyolo("export", demo / "shapes.pt", "-o", tmp_path / "a.onnx", "--size", "64")
    assert done.stdout.splitlines() == [
        "head0_stride8: 1 x 30 x 8 x 8",
        "head1_stride16: 1 x 30 x 4 x 4",
        "head2_stride32: 1 x 30 x 2 x 2",
        f"wrote {tmp_path / 'a.onnx'}",
    ]


def test_the_activation_is_a_sigmoid_behind_the_same_convolution(export_demo, picture):
    bare = outputs_of(export_demo("bare.onnx", "--activation", "none"), picture)
    sigmoid = outputs_of(export_demo("sigmoid.onnx", "--activation", "sigmoid"), picture)
    for logits, q in zip(bare, sigmoid, strict=True):
        assert logits.min() < -5
        assert np.abs(1 / (1 + np.exp(-logits)) - q).max() < 1e-6


def test_simplified_or_not_computes_the_same(export_demo, picture):
    plain, simple = export_demo("plain.onnx", "--no-simplify"), export_demo("simple.onnx")
    assert [v.name for v in exported(plain).graph.output] == [
        v.name for v in exported(simple).graph.output
    ]
    for a, b in zip(outputs_of(plain, picture), outputs_of(simple, picture), strict=True):
        assert np.abs(a - b).max() < 1e-4


def test_the_exported_file_detects_what_the_checkpoint_does(export_demo, demo, rkyolo):
    found = {}
    pictures = [demo / "calibration" / f"{i:03}.jpg" for i in range(3)]
    for name, model in {
        "checkpoint": demo / "shapes.pt",
        "none": export_demo("none.onnx"),
        "sigmoid": export_demo("sigmoid.onnx", "--activation", "sigmoid"),
    }.items():
        done = rkyolo("detect", model, *pictures, "--size", "256x320", "--json", "-")
        assert done.returncode == 0, done.stderr
        found[name] = [json.loads(line)["detections"] for line in done.stdout.splitlines()]
    assert sum(map(len, found["checkpoint"])) > 20
    for name in ("none", "sigmoid"):
        for expected, got in zip(found["checkpoint"], found[name], strict=True):
            assert [d["name"] for d in got] == [d["name"] for d in expected]
            for key, tolerance in (("box", 0.01), ("score", 1e-4)):
                assert np.allclose(
                    [d[key] for d in got], [d[key] for d in expected], atol=tolerance
                )


def test_inspect_says_the_same_of_the_file_as_of_its_checkpoint(export_demo, demo, rkyolo):
    plain = {
        path: json.loads(rkyolo("inspect", path, "--json").stdout)
        for path in (demo / "shapes.pt", export_demo("out.onnx"))
    }
    checkpoint, graph = plain.values()
    assert checkpoint["kind"] == "checkpoint" and graph["kind"] == "onnx"
    for key in ("task", "classes", "strides", "anchors_px", "preset", "names", "input_channels"):
        assert graph[key] == checkpoint[key]
    assert graph["sha256"] != checkpoint["sha256"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("shapes.pt -o out.pt", "-o out.pt should end in .onnx"),
        ("shapes.pt -o out", "-o out should end in .onnx"),
        ("shapes.pt -o file/out.onnx --size 64", "cannot write file/out.onnx: "),
        ("shapes.pt -o folder.onnx --size 64", "cannot write folder.onnx: "),
        ("shapes.pt -o out.onnx --size 100", "100x100 .* stride 32: use 128x128"),
        ("shapes.pt -o out.onnx --size 64x65", "64x65 .* stride 32: use 64x96"),
        ("shapes.pt -o out.onnx --size huge", "--size huge is no size"),
        ("shapes.pt -o out.onnx --activation relu", "--activation relu is not known: choose none"),
        ("nowhere.pt -o out.onnx", "nowhere.pt"),
        ("file -o out.onnx", "file"),
    ],
)
def test_bad_input_is_one_line(demo, tmp_path, rkyolo, arguments, message):
    (tmp_path / "shapes.pt").symlink_to(demo / "shapes.pt")
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.onnx").mkdir()
    before = sorted(tmp_path.iterdir())
    done = rkyolo("export", *arguments.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(f"error: .*{message}.*\n", done.stderr), done.stderr
    assert sorted(tmp_path.iterdir()) == before
