"""Bundles with folded pictures or split heads find what plain ones find."""

import json
import re
from dataclasses import dataclass

import numpy as np
import pytest

from convert.compare import Comparison
from runtime.backends import open_backend
from runtime.decode import Tensor
from runtime.detector import Detector
from runtime.feed import Feed
from runtime.model import open_model
from runtime.pictures import read_picture
from runtime.rknn_file import obstacles, read_rknn

FORMS = {
    "stem": ["--stem", "space-to-depth"],
    "split": ["--heads", "split"],
    "both": ["--stem", "space-to-depth", "--heads", "split"],
}


@dataclass(frozen=True)
class Formed:
    """A finished conversion, and what it was asked for."""

    bundle: object
    process: object
    stem: str
    outputs: str


@pytest.fixture(scope="module", params=FORMS)
def formed(request, convert_demo):
    done = convert_demo(*FORMS[request.param])
    return Formed(
        done.bundle,
        done.process,
        "none" if request.param == "split" else "space-to-depth",
        "one" if request.param == "stem" else "split",
    )


@pytest.fixture(scope="module")
def pictures(request):
    folder = request.config.rootpath / "tests" / "data" / "demo" / "val" / "images"
    return [read_picture(path) for path in sorted(folder.iterdir())[:12]]


def found_by(bundle, backend, pictures):
    model = open_model(bundle)
    running = open_backend(backend, model)
    try:
        detector = Detector(running, model.facts, model.thresholds)
        return [detector(bgr) for bgr in pictures]
    finally:
        running.close()


def test_the_bundle_says_so(formed, converted):
    assert formed.process.returncode == 0, formed.process.stderr
    model, before = open_model(formed.bundle), open_model(converted.bundle)
    assert (model.facts.input.stem, model.facts.outputs) == (formed.stem, formed.outputs)
    assert model.facts.input.wh == (320, 320) and model.facts.heads == before.facts.heads
    header = read_rknn(model.rknn.read_bytes(), model.rknn)
    assert obstacles(header) == []
    assert [tuple(output.shape) for output in header.outputs] == [
        shape for _, shape in model.facts.tensors
    ]
    lone = open_model(model.rknn).facts
    assert (lone.input, lone.heads, lone.outputs) == (
        model.facts.input,
        model.facts.heads,
        formed.outputs,
    )
    assert model.manifest.agreement.f1 >= before.manifest.agreement.f1 - 0.03


def test_folding_saves_cycles(formed, converted):
    before, cost = (open_model(b).manifest.cost for b in (converted.bundle, formed.bundle))
    if formed.stem == "none":
        assert cost.int8.cycles <= 1.1 * before.int8.cycles
    else:
        assert cost.int8.cycles <= 0.6 * before.int8.cycles


@pytest.mark.parametrize("backend", ["onnxruntime", "opencv"])
def test_float_detections_are_the_same(formed, converted, pictures, backend):
    expected = found_by(converted.bundle, backend, pictures)
    found = found_by(formed.bundle, backend, pictures)
    assert sum(map(len, expected)) > 20
    for a, b in zip(expected, found, strict=True):
        assert a.class_id.tolist() == b.class_id.tolist()
        np.testing.assert_allclose(a.score, b.score, atol=1e-4)
        np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-2)


def test_simulated_detections_are_the_same_but_for_rounding(formed, converted, pictures):
    comparison = Comparison(open_model(formed.bundle).facts)
    both = (found_by(b, "simulator", pictures) for b in (converted.bundle, formed.bundle))
    for i, (a, b) in enumerate(zip(*both, strict=True)):
        comparison.add_detections(i, a, b)
    assert comparison.agreement().f1 >= 0.97


def test_every_part_has_a_scale_of_its_own(formed, pictures):
    """What the simulator gives is a multiple of the step that the saved ranges say."""
    if formed.outputs == "one":
        pytest.skip("one tensor a head has one scale")
    model = open_model(formed.bundle)
    table = json.loads(model.extra["quantization/ranges.json"])
    backend = open_backend("simulator", model)
    tensors: list[Tensor] = backend.infer(Feed(model.facts.input)(pictures[0])[0])
    backend.close()
    for (name, shape), tensor in zip(model.facts.tensors, tensors, strict=True):
        entry = table.get(f"{name}_int8") or table[name]
        assert tensor.array.shape == shape
        steps = tensor.array / entry["scale"][0]
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_commands_know_it(formed, demo, rkyolo):
    picture = demo / "calibration" / "001.jpg"
    done = rkyolo("detect", formed.bundle, picture, "--json", "-")
    assert done.returncode == 0 and json.loads(done.stdout)["detections"]
    done = rkyolo("inspect", formed.bundle)
    assert done.returncode == 0
    assert ("\n  stem: space-to-depth\n" in done.stdout) == (formed.stem != "none")
    assert ("output head0_stride8_objectness: " in done.stdout) == (formed.outputs == "split")
    if formed.stem != "none":
        done = rkyolo("cost", formed.bundle, "--stem", "none")
        assert done.returncode == 2
        assert re.search("was built for space-to-depth: leave the option out", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--stem depth", "--stem depth is not known: choose none, space-to-depth"),
        ("--heads three", "--heads three is not known: choose one, split"),
        ("--stem space-to-depth", r"it begins with a 3x3 convolution of stride 1x1 .*leave --stem"),
    ],
)
def test_what_cannot_be_had_is_told_before_the_long_work(
    arguments, message, data, demo, tmp_path, rkyolo
):
    options = ["--calibration", demo / "calibration", "--size", "96", "-o", tmp_path / "out"]
    model = data / "golden" / "checkpoints" / "v70_v3tiny.pt"
    done = rkyolo("convert", model, *options, *arguments.split())
    assert done.returncode == 2 and done.stdout == ""
    assert re.search(rf"\nerror: .*{message}.*\n$", "\n" + done.stderr), done.stderr
    assert "Build" not in done.stderr and list(tmp_path.iterdir()) == []
