"""Anchors that a user gives beside an ONNX, in every form, and files that are no model."""

from pathlib import Path

import numpy as np
import pytest

from anchors import PRESETS, Anchors
from anchors.formats import to_rk_text, to_yaml
from convert.source import given_anchors, read_source
from runtime.errors import UserError

STRIDES = (8, 16, 32)
SOME = Anchors.from_pairs(
    STRIDES, [[[4.1289, 6.75], [8, 9]], [[10, 11], [12, 13.5]], [[99, 101], [0.5, 600]]]
)
MODEL_YAML = (
    "nc: 80\nanchors:\n  - [4.1289,6.75, 8,9]\n  - [10,11, 12,13.5]\n  - [99,101, .5,600]\n"
)


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return to_file


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_presets_name(name):
    anchors_of, names = given_anchors(name)
    assert anchors_of(STRIDES) == PRESETS[name]
    assert names is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("anchors.yaml", to_yaml(SOME), id="our-yaml"),
        pytest.param("anchors.YML", to_yaml(SOME), id="yml"),
        pytest.param("yolov5s.yaml", MODEL_YAML, id="a-models-yaml"),
        pytest.param("RK_anchors.txt", to_rk_text(SOME), id="the-vendors-text"),
    ],
)
def test_a_file(name, content, write):
    anchors_of, names = given_anchors(write(name, content))
    assert anchors_of(STRIDES) == SOME
    assert names is None


def test_a_checkpoint_says_names_too(data):
    path = data / "golden" / "checkpoints" / "v62_s.pt"
    anchors_of, names = given_anchors(str(path))
    truth = np.load(path.with_suffix(".npz"))
    found = np.stack([head.wh_px for head in anchors_of(STRIDES).heads])
    np.testing.assert_allclose(found, truth["anchors"], rtol=1e-6)
    assert names == tuple(f"class_{i}" for i in range(7))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("a.yaml", "nc: 80", "holds no anchors for strides .8, 16, 32", id="yaml"),
        pytest.param("a.yaml", "anchors: 3", "only says how many anchors AutoAnchor", id="number"),
        pytest.param("a.yaml", "anchors: [[1, 2]]", "anchors of 1 heads, not of 3", id="one-head"),
        pytest.param("a.yaml", "a: &b [1]\nanchors: *b", "aliases and tags", id="alias"),
        pytest.param("a.txt", "1 2 3 4", "4 numbers, which 3 heads do not divide", id="text"),
        pytest.param("a.txt", "1 2 3 4 5 0", "finite and above 0", id="zero"),
        pytest.param("a.txt", "", "holds no anchors for strides", id="empty"),
    ],
)
def test_a_file_without_anchors(name, content, message, write):
    anchors_of, _ = given_anchors(write(name, content))
    with pytest.raises(UserError, match=message):
        anchors_of(STRIDES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("a.yaml", b"\xff\xfe\x00", r"cannot read .*a\.yaml as text", id="binary"),
        pytest.param(
            "a.json", "[]", r"neither a preset \(coco-p5, coco-p6\) nor a \.pt", id="json"
        ),
        pytest.param("coco", "", "neither a preset", id="no-suffix"),
        pytest.param("a.pt", b"no checkpoint", r"a\.pt", id="checkpoint"),
    ],
)
def test_a_file_that_cannot_be_read(name, content, message, write):
    with pytest.raises(UserError, match=message):
        given_anchors(write(name, content))


@pytest.mark.parametrize("name", ["none.yaml", "none.txt", "none.pt"])
def test_a_missing_file(name, tmp_path):
    with pytest.raises(UserError, match=rf"cannot read .*{name}"):
        given_anchors(str(tmp_path / name))


@pytest.mark.parametrize("name", ["none.pt", "none.onnx", "none", "none.rknn"])
def test_a_missing_model(name, tmp_path):
    with pytest.raises(UserError, match=rf"{name}.*(No such file|does not exist)"):
        read_source(tmp_path / name, None)


@pytest.mark.parametrize("name", ["model.rknn", "model.weights", "model"])
def test_a_file_that_is_no_model(name, write):
    with pytest.raises(UserError, match=r"is no model to convert: give a \.pt or an \.onnx"):
        read_source(Path(write(name, b"")), None)


@pytest.mark.parametrize("suffix", [".onnx", ".ONNX"])
def test_a_suffix_in_any_case(suffix, golden, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(golden("torch1.13_v70_op12").path.read_bytes())
    assert read_source(path, None).onnx.found_anchors


def test_given_anchors_are_those_of_the_facts(golden, write):
    """Two a head and 13 classes are as many channels as three and seven."""
    source = read_source(
        golden("sigmoid_heads_v62_s").path, None, write("RK_anchors.txt", to_rk_text(SOME))
    )
    facts = source.facts("sigmoid")
    assert facts.anchors == SOME
    assert facts.classes == 13
