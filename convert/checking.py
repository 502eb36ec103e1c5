"""Run the float graph and the built model over the same pictures, and warn of bad calibration."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from convert.calibrate import FEWEST_PICTURES, Loaded, spread
from convert.compare import Comparison
from convert.confidence import Confidence
from convert.histograms import tensor_of
from convert.network.split import whole_maps
from convert.progress import Steps
from convert.quantize import Toolkit
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.decode import Tensor
from runtime.detector import Detector
from runtime.letterbox import Letterbox
from runtime.manifest import Facts, Thresholds
from runtime.model import ONNX, Model

_CLIPPED = 0.9
"""A sigmoid output whose range ends below this was calibrated without a confident object."""
_CUT_OFF = 0.1
"""Raw values of the check pictures may pass an output's range by so much of its width."""


def check_built(
    facts: Facts, graph: bytes, toolkit: Toolkit, checked: Loaded, steps: Steps
) -> tuple[Comparison, Confidence]:
    """The float graph and what the toolkit built of it on every check picture, and how sure the
    float graph was of what it found. The simulator works on a picture while ONNX Runtime works on
    the same."""
    comparison, peak = Comparison(facts), 0.0
    backend = _float_backend(facts, graph)
    detector = Detector(backend, facts, Thresholds())
    with ThreadPoolExecutor(1) as other:
        for i in steps.track(range(len(checked.inputs)), "Compare float and built"):
            picture = checked.inputs[i][None]
            simulated = other.submit(toolkit.infer, picture)
            reference = [tensor.array for tensor in backend.infer(picture)]
            maps = simulated.result()
            frame = Letterbox(checked.source_whs[i], facts.input.wh)
            comparison.add_maps(whole_maps(facts, reference), whole_maps(facts, maps))
            comparison.add_detections(
                i,
                detector.from_tensors([Tensor(a) for a in reference], frame),
                detector.from_tensors([Tensor(a) for a in maps], frame),
            )
            peak = max(peak, _peak(facts, reference))
    backend.close()
    return comparison, Confidence.of([p.reference for p in comparison.pictures], peak)


def float_confidence(facts: Facts, graph: bytes, loaded: Loaded, most: int) -> Confidence:
    """How sure the float graph is of what it finds in at most so many of the pictures."""
    backend, found, peak = _float_backend(facts, graph), [], 0.0
    detector = Detector(backend, facts, Thresholds())
    for picture, wh in spread(list(zip(loaded.inputs, loaded.source_whs, strict=True)), most):
        tensors = backend.infer(picture[None])
        found.append(detector.from_tensors(tensors, Letterbox(wh, facts.input.wh)))
        peak = max(peak, _peak(facts, [tensor.array for tensor in tensors]))
    backend.close()
    return Confidence.of(found, peak)


def _peak(facts: Facts, maps: list[np.ndarray]) -> float:
    """The highest objectness in a picture's outputs, as a probability."""
    planes = [
        array.reshape(len(head.anchors_px), 5 + facts.classes, -1)[:, 4]
        for array, head in zip(whole_maps(facts, maps), facts.heads, strict=True)
    ]
    highest = max(float(plane.max()) for plane in planes)
    return 1 / (1 + np.exp(-highest)) if facts.activation == "none" else highest


def picture_warnings(calibrated: Loaded | None, checked: Loaded) -> Iterable[str]:
    """Pictures that cannot be read, and too few of them."""
    unreadable = {s.name for loaded in (calibrated, checked) if loaded for s in loaded.unreadable}
    if unreadable:
        names = ", ".join(sorted(unreadable)[:5])
        yield f"{len(unreadable)} pictures cannot be read and were left out: {names}"
    if calibrated and len(calibrated.inputs) < FEWEST_PICTURES:
        yield (
            f"only {len(calibrated.inputs)} calibration pictures:"
            f" {FEWEST_PICTURES} or more give steadier ranges"
        )


def range_warnings(facts: Facts, toolkit: Toolkit, comparison: Comparison) -> Iterable[str]:
    """Outputs whose calibrated range does not hold what the model says, and float16 that was asked
    for where there is none."""
    options = toolkit.options
    if options.is_hybrid and not toolkit.hybrid:
        yield (
            f"--auto-hybrid {options.auto_hybrid:g} left no tensor in float16, so that this is"
            " plain int8: a value closer to 1 leaves more"
        )
    if facts.activation == "none" and options.algorithm == "normal":
        yield from _cut_off(facts, toolkit, comparison)
    names = [name for name, _ in facts.tensors if not name.endswith("_box")]
    for name in names if facts.activation == "sigmoid" else ():
        bounds = toolkit.output_range(name)
        if bounds and bounds[1] < _CLIPPED:
            yield (
                f"{name} was calibrated to at most {bounds[1]:.2f}, and greater sigmoids"
                " will be cut off: add calibration pictures with objects of this head's size"
            )


def _cut_off(facts: Facts, toolkit: Toolkit, comparison: Comparison) -> Iterable[str]:
    """Raw outputs that go further up on the check pictures than on the calibration pictures."""
    greatest: dict[str, float] = {}
    for i, pairs in enumerate(comparison.histograms.pairs):
        for group, (reference, _) in pairs.items():
            name = tensor_of(facts, i, group)
            greatest[name] = max(greatest.get(name, -np.inf), reference.greatest)
    for name, highest in greatest.items():
        low, high = toolkit.output_range(name) or (0, np.inf)
        if highest > high + _CUT_OFF * (high - low):
            yield (
                f"{name} was calibrated to at most {high:.3g}, and goes up to {highest:.3g} in the"
                " check pictures, which will be cut off: use calibration pictures like those"
            )


def _float_backend(facts: Facts, graph: bytes) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(Model(Path(ONNX), facts, onnx=graph))
