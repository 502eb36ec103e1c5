"""Models and bundles that several tests look at, built once."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from convert import calibrate
from convert.checkpoint import Checkpoint, read_checkpoint
from convert.compare import Comparison
from convert.network import deploy_graph, facts_for
from runtime.backends import open_backend
from runtime.detector import Detector
from runtime.letterbox import Letterbox
from runtime.manifest import Agreement, Facts, Thresholds
from runtime.model import open_model

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from runtime.cli import main; main()"]


@dataclass(frozen=True, eq=False)
class Exported:
    """A small deploy graph, its facts, and some inputs for it."""

    facts: Facts
    graph: bytes
    inputs: list[np.ndarray]


def golden(name: str) -> Checkpoint:
    return read_checkpoint(ROOT / "tests" / "data" / "golden" / "checkpoints" / name)


def exported(checkpoint: Checkpoint, wh: tuple[int, int], pictures: int = 2) -> Exported:
    """The graph with sigmoid heads, and noise."""
    facts = facts_for(checkpoint, wh, "sigmoid")
    graph = deploy_graph(checkpoint, facts).SerializeToString()
    shape = facts.input.height, facts.input.width, facts.input.channels
    rng = np.random.default_rng(0)
    return Exported(facts, graph, [rng.integers(0, 256, shape, np.uint8) for _ in range(pictures)])


@pytest.fixture(scope="session")
def small() -> Exported:
    """A YOLOv5n of 3 classes for pictures of 128 x 96."""
    return exported(golden("v70_n.pt"), (128, 96))


@pytest.fixture(scope="session")
def tiny() -> Exported:
    """A YOLOv3-tiny for pictures of 96 x 96."""
    return exported(golden("v70_v3tiny.pt"), (96, 96), pictures=1)


@pytest.fixture(scope="session")
def grey() -> Exported:
    """A model of one channel."""
    checkpoint = golden("v70_v3tiny.pt")
    conv = checkpoint.layers[0].module.children["conv"]
    conv.parameters["weight"] = conv.parameters["weight"].sum(axis=1, keepdims=True)
    conv.attributes["in_channels"] = 1
    return exported(dataclasses.replace(checkpoint, input_channels=1), (96, 96))


@dataclass(frozen=True)
class Converted:
    """A finished run of rkyolo convert on the demo model at 320: the bundle, the process, and the
    temporary folder it was given."""

    bundle: Path
    process: subprocess.CompletedProcess
    temporary: Path


@pytest.fixture(scope="session")
def convert_demo(tmp_path_factory) -> Callable[..., Converted]:
    """Converts the demo model at 320, calibrated on 12 pictures and checked on 4 others:
    convert_demo(*more_arguments, out=None)."""

    def run(*arguments: object, out: Path | None = None) -> Converted:
        folder = tmp_path_factory.mktemp("converted")
        (folder / "tmp").mkdir()
        out = out or folder / "bundle"
        pictures = ROOT / "models" / "demo" / "calibration"
        for name, first, last in (("calibration", 0, 12), ("check", 12, 16)):
            lines = [f"{pictures}/{i:03}.jpg\n" for i in range(first, last)]
            (folder / f"{name}.txt").write_text("".join(lines))
        options = ["--size", 320, "--out", out, "--calibration", folder / "calibration.txt"]
        options += ["--check", folder / "check.txt", *arguments]
        command = [*COMMAND, "convert", ROOT / "models" / "demo" / "shapes.pt", *options]
        process = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"TMPDIR": str(folder / "tmp")},
        )
        return Converted(out, process, folder / "tmp")

    return run


@pytest.fixture(scope="session")
def converted(convert_demo) -> Converted:
    """The run that passes."""
    return convert_demo()


@pytest.fixture(scope="session")
def measured_again() -> Callable[[Path], Agreement]:
    """How much the simulator of a bundle of convert_demo, rebuilt without the calibration pictures,
    agrees with its float graph."""

    def measure(bundle: Path) -> Agreement:
        model = open_model(bundle)
        comparison, facts = Comparison(model.facts), model.facts
        pictures = ROOT / "models" / "demo" / "calibration"
        samples = [calibrate.Sample(pictures / f"{i:03}.jpg") for i in range(12, 16)]
        checked = calibrate.load(samples, facts.input)
        with (
            closing(open_backend("onnxruntime", model)) as reference,
            closing(open_backend("simulator", model)) as simulator,
        ):
            detectors = [Detector(each, facts, Thresholds()) for each in (reference, simulator)]
            for i, picture in enumerate(checked.inputs):
                frame = Letterbox(checked.source_whs[i], facts.input.wh)
                tensors = [backend.infer(picture[None]) for backend in (reference, simulator)]
                comparison.add_maps(*([tensor.array for tensor in maps] for maps in tensors))
                found = [
                    d.from_tensors(maps, frame) for d, maps in zip(detectors, tensors, strict=True)
                ]
                comparison.add_detections(i, *found)
        return comparison.agreement()

    return measure
