"""rkyolo bench: how many frames a second a model makes here, and where the time goes."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.backends import Opener, choose_backend, cores_of
from runtime.decode import Decoder
from runtime.memory import memory_mb
from runtime.model import Model
from runtime.options import Region
from runtime.pipeline.dispatch import Dispatcher
from runtime.pipeline.frames import Capture, Frame, Result
from runtime.pipeline.lane import Job, Lane
from runtime.pipeline.pool import Pool, Recipe, open_contexts

_PUBLISHED = {
    ("yolov5n", "silu"): 82.5,
    ("yolov5s", "silu"): 48.4,
    ("yolov5s", "relu"): 66.1,
    ("yolov5m", "silu"): 20.9,
}
"""Frames a second in the vendor's table (rknn_model_zoo): RK3588, int8, 640x640, 80 classes, one
core, inference alone."""

_SIZES = {"yolov5n": (1.6e6, 2.0e6), "yolov5s": (6.6e6, 7.5e6), "yolov5m": (20e6, 22e6)}
"""Weights of the stock models, from a single class to 80."""

_WARM_UP_S = 0.5


@dataclass(frozen=True)
class Row:
    """One measurement. stages_ms: medians; cpu_ms: of the whole process, for each frame."""

    on: str
    contexts: int
    frames_per_second: float
    stages_ms: dict[str, float]
    cpu_ms: float
    memory_mb: float


def bench(
    model: Model, backend: str, per_core: int, bgr: np.ndarray, seconds: float
) -> Iterator[Row]:
    """Measure each core alone, and then all of them, on a picture uint8 (h, w, 3) BGR that comes as
    fast as it is taken. Raises UserError where the backend cannot run the model."""
    cores = cores_of(backend, model)
    for core in cores if len(cores) > 1 else ():
        yield _measure(f"core {core}", model, backend, (core,), per_core, bgr, seconds)
    on = f"{len(cores)} cores" if len(cores) > 1 else choose_backend(backend, model)
    yield _measure(on, model, backend, cores, per_core, bgr, seconds)


def _measure(
    on: str,
    model: Model,
    backend: str,
    cores: tuple[int | None, ...],
    per_core: int,
    bgr: np.ndarray,
    seconds: float,
) -> Row:
    recipe = Recipe(Decoder(model.facts, model.thresholds), model.thresholds, Region())
    contexts = open_contexts(Opener(backend, model), cores, per_core)
    pool, dispatcher = Pool(contexts, model.facts, {"bench": recipe}), Dispatcher()
    pool.start(dispatcher)
    try:
        _feed(dispatcher, bgr, _WARM_UP_S)
        cpu, start = time.process_time(), time.perf_counter()
        lane = _feed(dispatcher, bgr, seconds)
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
    finally:
        pool.close(10)
    state = lane.state()
    frames, stages = state["results"], state["stages"]
    medians = {name: stages[name]["median_ms"] or 0.0 for name in ("letterbox", "infer", "decode")}
    return Row(
        on,
        len(contexts),
        round(frames / took, 2),
        medians,
        round(cpu / max(frames, 1) * 1e3, 2),
        memory_mb(),
    )


def _feed(dispatcher: Dispatcher, bgr: np.ndarray, seconds: float) -> Lane:
    """Hand the picture on again and again, and wait for the last result."""
    lane, never = Lane("bench", False, _ignore), threading.Event()
    dispatcher.add_lane(lane)
    until, index = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        frame = Frame("bench", index, Capture(bgr, time.time()))
        dispatcher.put(Job(lane, frame, ()), never)
        index += 1
    while lane.under_way:
        time.sleep(0.001)
    dispatcher.remove_lane(lane)
    return lane


def _ignore(job: Job, result: Result | None) -> None:
    pass


def published(model: Model) -> dict[str, Any] | None:
    """The vendor's figure for a bundle that looks like one of the stock models, None for others."""
    manifest = model.manifest
    if manifest is None or model.onnx is None:
        return None
    if (manifest.target, manifest.precision, model.facts.input.wh) != (
        "rk3588",
        "int8",
        (640, 640),
    ):
        return None
    weights = len(model.onnx) / 4  # float32, and little else in the file
    # a node's field 4 is its type, in protobuf a tag and a length before the text
    relu = model.onnx.count(b'"\x04Relu') > model.onnx.count(b'"\x07Sigmoid')
    for name, (least, most) in _SIZES.items():
        rate = _PUBLISHED.get((name, "relu" if relu else "silu"))
        if least <= weights <= most and rate is not None:
            return {"model": f"{name}_relu" if relu else name, "frames_per_second": rate}
    return None


def report(
    model: Model, backend: str, bgr: np.ndarray, seconds: float, rows: list[Row]
) -> dict[str, Any]:
    """Everything measured as plain data, and what it was measured with."""
    return {
        "model": str(model.path),
        "backend": choose_backend(backend, model),
        "input_wh": list(model.facts.input.wh),
        "picture_wh": [bgr.shape[1], bgr.shape[0]],
        "seconds": seconds,
        "rows": [vars(row) for row in rows],
        "published": published(model),
    }
