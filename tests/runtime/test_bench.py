"""rkyolo bench: what it measures, and the vendor's figure beside it."""

import json

import numpy as np
import pytest
from conftest import DEMO
from scenes import facts_of, scene
from stand_in import Core, StandIn

from runtime.backends import BACKENDS, ON_NPU
from runtime.bench import measure
from runtime.manifest import Thresholds
from runtime.model import Model

HOLD_S = 0.01


class OnCore(StandIn):
    """Three cores that hold each picture for a fixed time."""

    cores: tuple[Core, ...] = ()

    def __init__(self, model, core):
        super().__init__(self.cores[core], scene_maps(model.facts))


def scene_maps(facts):
    return [tensor.array for tensor in scene(facts, 2, 6, np.random.default_rng(1))]


@pytest.fixture
def npu(monkeypatch):
    monkeypatch.setattr(OnCore, "cores", tuple(Core(HOLD_S) for _ in range(3)))
    monkeypatch.setitem(BACKENDS, "npu", f"{__name__}:OnCore")
    monkeypatch.setattr("runtime.backends.load_entry", lambda entry: OnCore)
    monkeypatch.setattr("runtime.backends.ON_NPU", ON_NPU | {"npu"})


def test_each_core_and_all_of_them(npu, tmp_path):
    model = Model(tmp_path, facts_of(wh=(64, 64), classes=3), Thresholds(), target="rk3588")
    bgr = np.zeros((48, 64, 3), np.uint8)
    rows = list(measure.bench(model, "npu", 2, bgr, 0.5))
    assert [row.on for row in rows] == ["core 0", "core 1", "core 2", "3 cores"]
    assert [row.contexts for row in rows] == [2, 2, 2, 6]
    for row in rows[:3]:
        assert 0 < row.frames_per_second <= 1.1 / HOLD_S  # not faster than the core
        assert row.stages_ms["infer"] >= 10
    assert rows[3].frames_per_second <= 3.3 / HOLD_S
    assert rows[3].frames_per_second > rows[0].frames_per_second
    plain = measure.report(model, "npu", bgr, 0.5, rows)
    assert json.loads(json.dumps(plain))["picture_wh"] == [64, 48]
    assert plain["published"] is None


def test_the_command(rkyolo):
    done = rkyolo("bench", DEMO / "shapes.pt", "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    (row,) = plain["rows"]
    assert plain["backend"] == row["on"] == "onnxruntime" and row["contexts"] == 2
    assert row["frames_per_second"] > 0 and row["memory_mb"] > 20
    assert set(row["stages_ms"]) == {"letterbox", "infer", "decode"}
    assert "frames a second" in done.stderr


def test_the_table(rkyolo, data):
    picture = data / "demo" / "val" / "images" / "000.jpg"
    done = rkyolo("bench", DEMO / "shapes.pt", "--seconds", "0.2", "--picture", picture)
    assert done.returncode == 0, done.stderr
    for word in ("frames/s", "letterbox", "infer", "decode", "CPU", "memory"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-model"], "no-such-model does not exist"),
        ([str(DEMO / "shapes.pt"), "--picture", "none.jpg"], "none.jpg cannot be read"),
        ([str(DEMO / "shapes.pt"), "--backend", "gpu"], "no backend is called gpu"),
        ([str(DEMO / "shapes.pt"), "--backend", "rknnlite"], "rknnlite"),
    ],
)
def test_what_cannot_be_measured(rkyolo, arguments, says):
    done = rkyolo("bench", *arguments)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


SILU, RELU = b'"\x07Sigmoid' * 50, b'"\x04Relu' * 50


@pytest.mark.parametrize(
    ("weights", "operators", "change", "expected"),
    [
        (1.87e6, SILU, {}, ("yolov5n", 82.5)),
        (7.2e6, SILU, {}, ("yolov5s", 48.4)),
        (7.2e6, RELU, {}, ("yolov5s_relu", 66.1)),
        (21.2e6, SILU, {}, ("yolov5m", 20.9)),
        (1.87e6, RELU, {}, None),  # the table has none of it
        (12e6, SILU, {}, None),  # between two sizes
        (1.87e6, SILU, {"precision": "fp16"}, None),
        (1.87e6, SILU, {"target": "rk3576"}, None),
    ],
)
def test_the_vendors_figure(bundle, weights, operators, change, expected):
    from runtime.model import open_bundle

    opened = open_bundle(bundle)
    wide = opened.manifest.input.model_copy(update={"width": 640, "height": 640})
    manifest = opened.manifest.model_copy(update={"input": wide} | change)
    model = Model(bundle, manifest, manifest=manifest, onnx=operators + bytes(int(weights * 4)))
    found = measure.published(model)
    assert (found and (found["model"], found["frames_per_second"])) == expected


def test_a_model_of_another_size_has_no_figure(bundle):
    from runtime.model import open_bundle

    assert measure.published(open_bundle(bundle)) is None  # 320 x 320
