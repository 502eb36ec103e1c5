import json

import pytest
from made_files import rknn_bytes, rknn_description, rknn_of, write_bundle
from scenes import facts_of

from runtime.errors import UserError
from runtime.inspection import KEYS, inspect
from runtime.manifest import sha256_of

CONTRACT = {
    "kind",
    "task",
    "classes",
    "strides",
    "anchors_px",
    "preset",
    "names",
    "input_channels",
    "sha256",
}
FACTS = facts_of(wh=(640, 320), classes=2, activation="sigmoid")
SAID = {
    "task": "detect",
    "classes": 2,
    "strides": [8, 16, 32],
    "preset": "coco-p5",
    "names": ["thing0", "thing1"],
    "input_channels": 3,
    "input_wh": [640, 320],
    "activation": "sigmoid",
}


def parts(plain, keys):
    return {key: plain[key] for key in keys}


def test_a_bundle(tmp_path):
    plain = inspect(write_bundle(tmp_path, FACTS))
    assert json.loads(json.dumps(plain)) == plain
    assert set(KEYS) | {"sha256"} == CONTRACT <= set(plain)
    assert parts(plain, SAID) == SAID
    assert plain["kind"] == "bundle"
    assert plain["anchors_px"][0] == [[10, 13], [16, 30], [33, 23]]
    assert plain["sha256"] == sha256_of(rknn_of(FACTS))
    assert parts(plain, ["target", "precision", "algorithm"]) == {
        "target": "rk3588",
        "precision": "int8",
        "algorithm": "normal",
    }
    assert plain["agreement"]["f1"] == 0.974
    assert plain["outputs"][2] == {"name": "head2", "shape": [1, 21, 10, 20]}


def test_a_compiled_model(tmp_path):
    path = tmp_path / "mine.rknn"
    path.write_bytes(rknn_of(FACTS))
    plain = inspect(path)
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain) >= CONTRACT
    assert parts(plain, SAID) == SAID
    assert parts(plain, ["kind", "target", "toolkit", "format_version"]) == {
        "kind": "rknn",
        "target": "rk3588",
        "toolkit": "2.5.0",
        "format_version": 6,
    }
    assert plain["outputs"][0] == {"name": "head0", "shape": [1, 21, 40, 80], "type": "int8"}


def test_a_compiled_model_of_someone_else(tmp_path):
    path = tmp_path / "theirs.rknn"
    path.write_bytes(rknn_bytes(rknn_description([("out", (1, 255, 80, 80))], "rv1103")))
    plain = inspect(path)
    assert plain["target"] == "rv1103"
    assert plain["outputs"] == [{"name": "out", "shape": [1, 255, 80, 80], "type": "int8"}]
    assert {plain[key] for key in CONTRACT - {"kind", "sha256"}} == {None}


def test_anchors_that_are_no_presets(tmp_path, demo):
    assert inspect(demo / "shapes.pt")["preset"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("missing.pt", "does not exist", id="missing"),
        pytest.param("a.txt", "is no model: give a bundle folder", id="suffix"),
        pytest.param("broken.rknn", "is not a .rknn file", id="broken"),
        pytest.param("folder", "is no bundle", id="folder"),
        pytest.param("wrong.rknn", "wrong.rknn holds no decode facts", id="wrong-facts"),
    ],
)
def test_refused(tmp_path, name, message):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "broken.rknn").write_text("x")
    (tmp_path / "wrong.rknn").write_bytes(rknn_bytes(custom_string='{"rkyolo":'))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message):
        inspect(tmp_path / name)
