"""What every backend promises, on the backends that run here. For the board's see test_rknnlite and
test_rknnrt."""

import numpy as np
import pytest
from slow_decode import overlap

from runtime.backends import BACKENDS, open_backend
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.letterbox import letterbox
from runtime.manifest import Thresholds
from runtime.model import Model, open_model
from runtime.pictures import read_picture

HOST = ("onnxruntime", "opencv", "simulator")


@pytest.fixture(scope="module")
def model(bundle):
    return open_model(bundle)


@pytest.fixture(scope="module")
def running(model):
    """Every backend of the host, opened once."""
    backends = {name: open_backend(name, model) for name in HOST}
    yield backends
    for backend in backends.values():
        backend.close()
        backend.close()  # which does nothing


@pytest.fixture(params=HOST)
def backend(request, running):
    return running[request.param]


@pytest.fixture
def pictures(data):
    return [read_picture(p) for p in sorted((data / "demo" / "val" / "images").iterdir())[:8]]


@pytest.fixture
def inputs(pictures):
    return [letterbox(bgr, (320, 320))[None] for bgr in pictures]


def test_maps_are_as_the_facts_say(backend, model, inputs):
    tensors = backend.infer(inputs[0])
    shapes = [model.facts.head_shape(i) for i in range(len(model.facts.heads))]
    assert [tensor.array.shape for tensor in tensors] == shapes
    assert len(set(shapes)) == len(shapes)  # so that the order shows
    for tensor in tensors:
        assert tensor.array.dtype == np.float32
        assert (tensor.scale, tensor.zero_point) == (1.0, 0)
        assert np.isfinite(tensor.array).all()
        assert 0 <= tensor.array.min() <= tensor.array.max() <= 1  # heads end in a sigmoid


def test_the_same_picture_gives_the_same_maps(backend, inputs):
    first = [tensor.array.copy() for tensor in backend.infer(inputs[0])]
    other = [tensor.array.copy() for tensor in backend.infer(inputs[1])]
    again = [tensor.array.copy() for tensor in backend.infer(inputs[0])]
    for before, between, after in zip(first, other, again, strict=True):
        np.testing.assert_array_equal(before, after)
        assert (before != between).any()


def test_the_picture_is_not_touched(backend, inputs):
    before = inputs[0].copy()
    backend.infer(inputs[0])
    np.testing.assert_array_equal(inputs[0], before)


def test_float_backends_give_the_same_maps(running, inputs):
    for picture in inputs[:3]:
        ours, theirs = (running[name].infer(picture) for name in ("onnxruntime", "opencv"))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.array, b.array, atol=1e-5)


def test_float_backends_find_the_same(running, model, pictures):
    ours, theirs = (
        Detector(running[name], model.facts, Thresholds()) for name in ("onnxruntime", "opencv")
    )
    total = 0
    for bgr in pictures:
        a, b = ours(bgr), theirs(bgr)
        np.testing.assert_array_equal(a.class_id, b.class_id)
        np.testing.assert_allclose(a.score, b.score, atol=1e-4)
        np.testing.assert_allclose(a.xyxy, b.xyxy, atol=0.05)
        total += len(a)
    assert total > 20


def test_the_simulator_finds_nearly_the_same(running, model, pictures):
    float_model, built = (
        Detector(running[name], model.facts, Thresholds()) for name in ("onnxruntime", "simulator")
    )
    matched = found = 0
    for bgr in pictures:
        a, b = float_model(bgr), built(bgr)
        matched += sum(
            any(
                a.class_id[i] == b.class_id[j] and overlap(a.xyxy[i], b.xyxy[j]) > 0.5
                for j in range(len(b))
            )
            for i in range(len(a))
        )
        found += (len(a) + len(b)) / 2
    assert matched / found > 0.9


@pytest.mark.parametrize("name", ["auto", *HOST[:2]])
def test_pictures_go_in_from_any_memory(name, model, inputs):
    """As a part of a larger buffer, and read-only."""
    backend = open_backend(name, model)
    buffer = np.zeros((1, 330, 340, 3), np.uint8)
    part = buffer[:, 5:325, 10:330]
    part[:] = inputs[0]
    buffer.flags.writeable = False
    for a, b in zip(backend.infer(part), backend.infer(inputs[0]), strict=True):
        np.testing.assert_array_equal(a.array, b.array)
    backend.close()


def test_an_unknown_backend(model):
    with pytest.raises(UserError, match="no backend is called tpu: choose auto, onnxruntime, "):
        open_backend("tpu", model)


def test_every_backend_of_the_table_is_tested():
    assert set(BACKENDS) == {*HOST, "rknnlite", "rknnrt"}


@pytest.mark.parametrize("name", ["auto", "onnxruntime", "opencv", "simulator"])
def test_a_lone_compiled_model_needs_the_npu(bundle, name):
    lone = open_model(bundle / "model.rknn")
    message = "lone file" if name == "simulator" else "compiled for the NPU and backend .* cannot"
    with pytest.raises(UserError, match=message):
        open_backend(name, lone)


@pytest.mark.parametrize("name", ["onnxruntime", "opencv"])
@pytest.mark.parametrize("graph", [b"", b"no graph"], ids=["empty", "text"])
def test_a_graph_that_is_none(model, name, graph, capfd):
    broken = Model(model.path, model.facts, onnx=graph)
    with pytest.raises(UserError, match=r"cannot load the graph of .*shapes"):
        open_backend(name, broken)
