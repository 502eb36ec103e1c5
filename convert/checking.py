"""Run the float graph and the built model over the same pictures, and warn of bad calibration."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from convert.calibrate import FEWEST_PICTURES, Loaded
from convert.compare import Comparison
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
_CONFIDENT = 0.5


def check_built(
    facts: Facts, graph: bytes, toolkit: Toolkit, checked: Loaded, steps: Steps
) -> tuple[Comparison, float]:
    """The float graph and what the toolkit built of it on every check picture, and the highest
    objectness the float graph gave. The simulator works on a picture while ONNX Runtime works on
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
            comparison.add_maps(reference, maps)
            comparison.add_detections(
                i,
                detector.from_tensors([Tensor(a) for a in reference], frame),
                detector.from_tensors([Tensor(a) for a in maps], frame),
            )
            peak = max(peak, _peak(facts, reference))
    backend.close()
    return comparison, peak


def objectness_peak(facts: Facts, graph: bytes, inputs: Sequence[np.ndarray]) -> float:
    """The highest objectness the float graph gives in inputs uint8 (h, w, c), as a probability."""
    backend = _float_backend(facts, graph)
    return max(
        _peak(facts, [tensor.array for tensor in backend.infer(picture[None])])
        for picture in inputs
    )


def _peak(facts: Facts, maps: list[np.ndarray]) -> float:
    """The highest objectness in a picture's head maps, as a probability."""
    planes = [
        array.reshape(len(head.anchors_px), 5 + facts.classes, -1)[:, 4]
        for array, head in zip(maps, facts.heads, strict=True)
    ]
    highest = max(float(plane.max()) for plane in planes)
    return 1 / (1 + np.exp(-highest)) if facts.activation == "none" else highest


def calibration_warnings(
    facts: Facts, toolkit: Toolkit, calibrated: Loaded | None, checked: Loaded, peak: float
) -> Iterable[str]:
    """What may be wrong with the pictures; peak: the highest objectness in the calibration set."""
    unreadable = {s.name for loaded in (calibrated, checked) if loaded for s in loaded.unreadable}
    if unreadable:
        names = ", ".join(sorted(unreadable)[:5])
        yield f"{len(unreadable)} pictures cannot be read and were left out: {names}"
    if calibrated is None:
        return
    if len(calibrated.inputs) < FEWEST_PICTURES:
        yield (
            f"only {len(calibrated.inputs)} calibration pictures:"
            f" {FEWEST_PICTURES} or more give steadier ranges"
        )
    if peak < _CONFIDENT:
        yield (
            f"in the calibration pictures objectness never gets above {peak:.2f}: they hold no"
            " object the model is sure of, so confident scores will be cut off on the board"
        )
    for head in facts.heads if facts.activation == "sigmoid" else ():
        bounds = toolkit.output_range(head.output)
        if bounds and bounds[1] < _CLIPPED:
            yield (
                f"{head.output} was calibrated to at most {bounds[1]:.2f}, and greater sigmoids"
                " will be cut off: add pictures with objects of this head's size"
            )


def _float_backend(facts: Facts, graph: bytes) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(Model(Path(ONNX), facts, onnx=graph))
