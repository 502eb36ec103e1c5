"""An ONNX file in the place of a checkpoint, on every command; and the command anchors."""

import json

import cv2
import numpy as np
import pytest

from anchors import PRESETS, formats

DECODING = "torch1.13_v70_op12.onnx"
SILENT = "sigmoid_heads_v62_s.onnx"


@pytest.fixture
def golden(data):
    return data / "golden"


def test_inspect_finds_the_anchors_of_a_graph_that_decodes(rkyolo, golden):
    done = rkyolo("inspect", golden / "onnx" / DECODING, "--json")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    expected = np.load(golden / "checkpoints" / "v70_n.npz")["anchors"]
    np.testing.assert_allclose(plain["anchors_px"], expected, rtol=1e-4)
    assert (plain["kind"], plain["classes"], plain["strides"]) == ("onnx", 3, [8, 16, 32])


def test_inspect_says_of_a_graph_without_decode_what_it_can(rkyolo, golden):
    plain = json.loads(rkyolo("inspect", golden / "onnx" / SILENT, "--json").stdout)
    assert plain["strides"] == [8, 16, 32]
    assert plain["anchors_px"] is plain["names"] is None


def test_inspect_gives_a_deploy_graph_the_facts_of_its_checkpoint(rkyolo, golden, tmp_path):
    checkpoint, out = golden / "checkpoints" / "v70_n.pt", tmp_path / "deploy.onnx"
    assert rkyolo("export", checkpoint, "-o", out, "--no-simplify").returncode == 0
    before, after = (json.loads(rkyolo("inspect", p, "--json").stdout) for p in (checkpoint, out))
    keys = ("task", "classes", "strides", "anchors_px", "preset", "names", "input_channels")
    assert {key: before[key] for key in keys} == {key: after[key] for key in keys}


@pytest.mark.parametrize("command", ["convert", "export", "detect", "anchors"])
def test_a_graph_without_decode_needs_anchors_and_says_so(rkyolo, golden, data, tmp_path, command):
    pictures = data / "demo" / "val" / "images"
    arguments = {
        "convert": ["--calibration", pictures, "-o", tmp_path / "bundle"],
        "export": ["-o", tmp_path / "out.onnx"],
        "detect": [pictures / "000.jpg"],
        "anchors": [],
    }[command]
    done = rkyolo(command, golden / "onnx" / SILENT, *arguments)
    assert done.returncode == 2
    assert "--anchors" in done.stderr and "RK_anchors" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_detect_takes_the_anchors_of_the_sibling_checkpoint(rkyolo, golden, data):
    picture = data / "demo" / "val" / "images" / "000.jpg"
    onnx, checkpoint = golden / "onnx" / SILENT, golden / "checkpoints" / "v62_s.pt"
    common = [picture, "--json", "-", "--score", "0.05"]
    of_onnx = rkyolo("detect", onnx, "--anchors", checkpoint, *common)
    of_checkpoint = rkyolo("detect", checkpoint, "--size", "96x128", *common)
    assert of_onnx.returncode == of_checkpoint.returncode == 0, of_onnx.stderr
    found, expected = (json.loads(done.stdout)["detections"] for done in (of_onnx, of_checkpoint))
    assert [d["name"] for d in found] == [d["name"] for d in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a["box"], b["box"], atol=0.05)


@pytest.mark.parametrize("kind", ["checkpoint", "graph that decodes"])
def test_anchors_that_are_not_needed_are_refused_when_they_disagree(rkyolo, golden, data, kind):
    model = {
        "checkpoint": golden / "checkpoints" / "v70_n.pt",
        "graph that decodes": golden / "onnx" / DECODING,
    }[kind]
    picture = data / "demo" / "val" / "images" / "000.jpg"
    done = rkyolo("detect", model, picture, "--anchors", "coco-p5")
    assert done.returncode == 2
    assert "leave --anchors out" in done.stderr


def test_convert_proves_the_cut_and_writes_it_down(rkyolo, golden, data, tmp_path):
    done = rkyolo(
        "convert", golden / "onnx" / DECODING, "--calibration", data / "demo" / "val" / "images",
        "-o", tmp_path / "bundle", "--min-agreement", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = (tmp_path / "bundle" / "manifest.yaml").read_text()
    assert "compared: boxes" in manifest
    assert "Proof: 756 boxes" in (tmp_path / "bundle" / "report.txt").read_text()


@pytest.mark.parametrize("style", ["yaml", "rk-txt", "c-header"])
def test_anchors_are_written_in_each_form(rkyolo, demo, tmp_path, style):
    out = tmp_path / "anchors"
    done = rkyolo("anchors", demo / "shapes.pt", "--format", style, "-o", out)
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    assert rkyolo("anchors", demo / "shapes.pt", "--format", style).stdout == text
    if style == "yaml":
        assert formats.from_yaml(text, ()).heads[0].wh_px[0, 0] == np.float32(8.8203125)
    elif style == "rk-txt":
        assert formats.from_rk_text(text, (8, 16, 32)) == formats.from_yaml(
            rkyolo("anchors", demo / "shapes.pt").stdout, ()
        )
    else:
        assert "{9, 9, 12, 11, 16, 15}" in text
        assert "3.1" in done.stdout and "%" in done.stdout


def test_plot_draws_every_head_beside_the_preset(rkyolo, demo, tmp_path):
    done = rkyolo("anchors", demo / "shapes.pt", "--plot", tmp_path / "plot.png")
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / "plot.png"))
    rows = np.array_split(picture, len(PRESETS["coco-p5"].heads))
    halves = [half for row in rows for half in np.array_split(row, 2, axis=1)]
    assert all((half != 255).any(axis=2).mean() > 0.01 for half in halves)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xml"], "choose yaml"),
        (["--plot", "plot.txt"], "should end in .png"),
        (["--anchors", "coco-p5"], "leave --anchors out"),
    ],
)
def test_anchors_refuses_in_one_line(rkyolo, demo, tmp_path, arguments, message):
    done = rkyolo("anchors", demo / "shapes.pt", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
