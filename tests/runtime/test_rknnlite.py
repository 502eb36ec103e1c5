import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from made_files import rknn_bytes, rknn_description, write_bundle
from scenes import facts_of

from anchors import Anchors
from runtime.backends import open_backend
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.backends.rknnlite import RknnLiteBackend
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.manifest import Thresholds
from runtime.model import Model, open_model

FAKES = Path(__file__).parent / "fakes"
ANCHORS = Anchors.from_pairs([16, 32], [[[20, 10]], [[40.5, 20.25]]])
FACTS = facts_of(ANCHORS, (128, 96), 2, "sigmoid")
PICTURE = np.full((1, 96, 128, 3), 7, np.uint8)


@pytest.fixture(autouse=True)
def forget_the_vendor():
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "rknnlite"]:
        del sys.modules[name]


@pytest.fixture
def vendor(monkeypatch):
    """The vendor's package, as we wrote it down; nothing may be left open in it."""
    monkeypatch.syspath_prepend(FAKES)
    api = import_module("rknnlite.api")
    yield api
    assert api.OPEN == []


@pytest.fixture
def model(tmp_path):
    return open_model(write_bundle(tmp_path / "mine", FACTS))


def test_head_maps_in_order(vendor, model):
    backend = open_backend("rknnlite", model)
    tensors = backend.infer(PICTURE)
    assert [tensor.array.shape for tensor in tensors] == [(1, 7, 6, 8), (1, 7, 3, 4)]
    assert {tensor.array.dtype for tensor in tensors} == {np.dtype(np.float32)}
    assert {(tensor.scale, tensor.zero_point) for tensor in tensors} == {(1.0, 0)}
    backend.close()
    backend.close()


def test_detections(vendor, model, monkeypatch):
    monkeypatch.setattr(vendor.RKNNLite, "value", 0.9)
    backend = open_backend("rknnlite", model)
    found = Detector(backend, model.facts, Thresholds(iou=1))(PICTURE[0])
    backend.close()
    assert len(found) == 6 * 8 + 3 * 4


def test_auto_is_the_npu_where_the_package_is(vendor, model):
    backend = open_backend("auto", model)
    assert isinstance(backend, RknnLiteBackend)
    backend.close()


def test_auto_is_onnxruntime_for_what_is_not_compiled(vendor, bundle):
    whole = open_model(bundle)
    backend = open_backend("auto", Model(whole.path, whole.facts, onnx=whole.onnx))
    assert isinstance(backend, OnnxRuntimeBackend)
    backend.close()


def test_a_lone_compiled_model(vendor, model):
    open_backend("rknnlite", open_model(model.rknn)).close()


def test_a_picture_the_npu_refuses(vendor, model):
    backend = open_backend("rknnlite", model)
    with pytest.raises(RuntimeError, match="the NPU refused a picture"):
        backend.infer(np.zeros_like(PICTURE))
    backend.infer(PICTURE)
    backend.close()


def changed(tmp_path, data):
    """A model whose compiled file was replaced after it was opened."""
    path = tmp_path / "model.rknn"
    if data is not None:
        path.write_bytes(data)
    return Model(path, FACTS, rknn=path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(None, "cannot read .*model.rknn: copy or convert it again", id="missing"),
        pytest.param(b"not a model", "the NPU does not take .*model.rknn", id="no-model"),
        pytest.param(rknn_bytes(version=7), "librknnrt may be missing, or older", id="too-new"),
    ],
)
def test_models_that_do_not_load(vendor, tmp_path, data, message):
    with pytest.raises(UserError, match=message):
        open_backend("rknnlite", changed(tmp_path, data))


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param([("a", (1, 7, 6, 8))], id="fewer"),
        pytest.param([("a", (1, 7, 3, 4)), ("b", (1, 7, 6, 8))], id="another-order"),
        pytest.param([("a", (1, 6, 8, 7)), ("b", (1, 3, 4, 7))], id="nhwc"),
    ],
)
def test_outputs_that_are_not_the_facts(vendor, tmp_path, outputs):
    backend = open_backend("rknnlite", changed(tmp_path, rknn_bytes(rknn_description(outputs))))
    with pytest.raises(UserError, match=r"gives other outputs than .*: convert again"):
        backend.infer(PICTURE)
    backend.close()


def test_a_model_that_is_not_compiled(vendor):
    with pytest.raises(UserError, match=r"best\.onnx is not compiled for the NPU: convert it"):
        open_backend("rknnlite", Model(Path("best.onnx"), FACTS, onnx=b""))


def test_without_the_package(model):
    with pytest.raises(UserError, match=r"needs the package rknnlite.*install rknn-toolkit-lite2"):
        open_backend("rknnlite", model)


def test_with_a_broken_package(model, tmp_path, monkeypatch):
    package = tmp_path / "site" / "rknnlite"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "api.py").write_text("raise ImportError('librknnrt.so: cannot open')")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(UserError, match=r"installed but does not load.*librknnrt.so: cannot open"):
        open_backend("rknnlite", model)


def test_through_the_command_line(bundle, demo, rkyolo, monkeypatch):
    picture = demo / "calibration" / "000.jpg"
    done = rkyolo("detect", bundle, picture, "--backend", "rknnlite")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "rknn-toolkit-lite2" in done.stderr
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    done = rkyolo("detect", bundle, picture)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(": nothing\n")
