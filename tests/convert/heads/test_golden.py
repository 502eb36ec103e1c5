"""The golden ONNX files as they are."""

import re

import numpy as np
import pytest
from onnx_variants import BARE, DECODING

from anchors import PRESETS
from convert.source import read_source
from runtime.errors import UserError


@pytest.mark.parametrize("name", [*DECODING, *BARE])
def test_heads_maps_and_anchors_are_the_truth(name, golden, check):
    truth = golden(name)
    assert truth.decodes == (name in DECODING)
    check(truth.path, truth, truth.heads, truth.decodes)


@pytest.mark.parametrize("name", BARE)
def test_without_a_decode_the_anchors_must_be_given(name, golden):
    source = read_source(golden(name).path, None)
    with pytest.raises(UserError, match=r"does not decode.*--anchors") as caught:
        source.facts("sigmoid")
    for way in (r"\.pt", "coco-p5", "coco-p6", "yaml", "RK_anchors"):
        assert re.search(way, str(caught.value))


@pytest.mark.parametrize("name", sorted({*DECODING, *BARE} - {"torch2.13_v70_slim"}))
def test_the_checkpoint_it_was_exported_from_agrees(name, golden, converted):
    truth = golden(name)
    source = read_source(truth.path, truth.open_wh, str(truth.checkpoint))
    of_checkpoint = read_source(truth.checkpoint, truth.wh)
    facts, _, maps = converted(source, truth.picture)
    assert facts.anchors.is_close(of_checkpoint.facts("none").anchors, 1e-4)
    assert facts.class_names == of_checkpoint.facts("none").class_names
    for ours, logits in zip(maps, truth.maps, strict=True):
        np.testing.assert_allclose(ours, logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("wh", "strides"),
    [
        pytest.param(None, (8, 16, 32), id="640-by-default"),
        pytest.param((320, 192), (8, 16, 32), id="wide"),
        pytest.param((32, 32), (8, 16, 32), id="smallest"),
        pytest.param((128, 160), (8, 16, 32), id="one-side-a-multiple-of-128"),
    ],
)
def test_an_open_size_is_chosen(wh, strides, golden, converted):
    truth = golden("torch1.13_v70_dyn")
    source = read_source(truth.path, wh)
    width, height = wh or (640, 640)
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    facts, proof, maps = converted(source, picture)
    assert facts.input.wh == (width, height)
    assert facts.anchors.strides == strides
    np.testing.assert_allclose(
        np.stack([head.wh_px for head in facts.anchors.heads]), truth.anchors_px, rtol=1e-4
    )
    assert proof.compared == "boxes"
    assert proof.largest_px < 1e-3
    assert [m.shape[1:] for m in maps] == [(height // s, width // s) for s in strides]


@pytest.mark.parametrize(
    ("wh", "up"),
    [
        pytest.param((650, 650), "672x672", id="both"),
        pytest.param((640, 650), "672x640", id="height"),
        pytest.param((33, 640), "640x64", id="width"),
        pytest.param((1, 1), "32x32", id="least"),
    ],
)
def test_an_open_size_that_does_not_fit_says_the_next(wh, up, golden):
    with pytest.raises(UserError, match=f"no multiple of .* stride 32: use {up}$"):
        read_source(golden("torch1.13_v70_dyn").path, wh)


@pytest.mark.parametrize("name", ["torch1.13_v70_op12", "torch2.13_v70_v3tiny"])
def test_a_fixed_size_cannot_be_changed(name, golden):
    truth = golden(name)
    width, height = truth.wh
    assert read_source(truth.path, truth.wh).onnx.wh == truth.wh
    with pytest.raises(UserError, match=f"takes pictures of {height}x{width} .height x width"):
        read_source(truth.path, (640, 640))


def test_names_come_from_the_file_or_from_the_checkpoint(golden):
    named = read_source(golden("torch1.13_v62_s").path, None).facts("none")
    assert named.class_names == tuple(f"class_{i}" for i in range(7))
    bare = golden("sigmoid_heads_v62_s")
    given = read_source(bare.path, None, str(bare.checkpoint)).facts("none")
    assert given.class_names == tuple(f"class_{i}" for i in range(7))


def test_names_nobody_knows_are_numbers(golden, tmp_path):
    truth = golden("torch1.13_v31_s")
    text = tmp_path / "RK_anchors.txt"
    text.write_text(truth.anchors_text())
    facts = read_source(truth.path, None, str(text)).facts("none")
    assert facts.class_names == ("class0", "class1", "class2", "class3")


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_a_deploy_graph_is_read_again_like_its_checkpoint(activation, golden, write, converted):
    truth = golden("torch1.13_v70_op12")
    first = read_source(truth.checkpoint, truth.wh)
    facts = first.facts(activation)
    again = read_source(write(first.graph(facts)), None)
    assert again.facts(activation) == facts
    _, proof, maps = converted(again, truth.picture, activation)
    assert proof.compared == "head maps"
    for ours, logits in zip(maps, truth.maps, strict=True):
        expected = logits if activation == "none" else 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3)


def test_what_it_looks_like_is_its_producer(golden):
    assert read_source(golden("torch1.13_v62_s").path, None).looks_like == "ONNX by pytorch 1.13.1"


def test_a_preset_is_taken_where_it_fits(golden):
    truth = golden("torch1.13_v50_s")
    facts = read_source(truth.path, None, "coco-p5").facts("none")
    assert facts.anchors == PRESETS["coco-p5"]
