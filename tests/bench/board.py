"""Benchmark of the board's two ways to a model's outputs, on the stand-in for the vendor's library:
raw int8 (backend rknnrt), and float32 copies, as rknn-toolkit-lite2 hands them out."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from ctypes import byref, c_uint64, memmove
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from librknnrt import build, in_use
from made_files import rknn_bytes, rknn_description
from scenes import facts_of, scene

from runtime.backends import librknnrt, open_backend
from runtime.decode import Decoder, Tensor
from runtime.manifest import Facts, Thresholds
from runtime.model import Model
from runtime.nms import nms

_ROUNDS, _CALLS = 15, 30


@dataclass(frozen=True)
class Measured:
    """CPU ms a frame for outputs, decode and suppression, and bytes of outputs that are written."""

    raw_ms: float
    copied_ms: float
    reused_ms: float
    raw_bytes: int
    copied_bytes: int
    found: int


class Floats:
    """What rknn-toolkit-lite2 2.5.0 does after a run, as the stand-in saw it under an emulator: the
    library allocates each output as float32, and the package copies it into a new array, or with
    reuse_outputs=True into the same one again."""

    def __init__(self, model: Model, reused: bool):
        self._library = librknnrt.Library(librknnrt.library_path())
        self._context = c_uint64()
        data = model.compiled
        shapes = [shape for _, shape in model.facts.tensors]
        self._library.call("rknn_init", byref(self._context), data, len(data), 0, None)
        self._outputs = (librknnrt.Output * len(shapes))()
        for i, output in enumerate(self._outputs):
            output.index, output.want_float = i, 1
        self._memory = [np.empty(shape, np.float32) for shape in shapes]
        self._reused = reused

    def run(self, picture: np.ndarray) -> None:
        given = librknnrt.Input(size=picture.size, type=librknnrt.UINT8, fmt=librknnrt.NHWC)
        given.buf = picture.ctypes.data
        self._library.call("rknn_inputs_set", self._context, 1, byref(given))
        self._library.call("rknn_run", self._context, None)

    def outputs(self) -> list[Tensor]:
        if not self._reused:
            self._memory = [np.empty_like(array) for array in self._memory]
        count = len(self._memory)
        self._library.call("rknn_outputs_get", self._context, count, self._outputs, None)
        for output, array in zip(self._outputs, self._memory, strict=True):
            memmove(array.ctypes.data, output.buf, array.nbytes)
        self._library.call("rknn_outputs_release", self._context, count, self._outputs)
        return [Tensor(array) for array in self._memory]

    def close(self) -> None:
        self._library.call("rknn_destroy", self._context)


def measure() -> Measured:
    """On a sparse scene of 80 classes at 640, whose detections are the same on every way."""
    facts, picture = facts_of(activation="sigmoid"), np.ones((1, 640, 640, 3), np.uint8)
    logits = scene(facts, 5, 15, np.random.default_rng(0))
    codes = [np.rint(255 / (1 + np.exp(-t.array)) - 128).astype(np.int8) for t in logits]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        with in_use(library, folder) as npu:
            (folder / "log").unlink()
            npu.record([(picture, codes)])
            model = _compiled(facts, folder)
            with (
                closing(open_backend("rknnrt", model)) as raw,
                closing(Floats(model, reused=False)) as copied,
                closing(Floats(model, reused=True)) as reused,
            ):
                return _compare(facts, picture, raw, copied, reused)


def _compiled(facts: Facts, folder: Path) -> Model:
    description = rknn_description(facts.tensors)
    description["norm_tensor"][0]["size"] = [1, 3, facts.input.height, facts.input.width]
    path = folder / "model.rknn"
    return Model(path, facts, rknn=path, compiled=rknn_bytes(description))


def _compare(facts: Facts, picture: np.ndarray, *ways) -> Measured:
    thresholds = Thresholds()
    decoder = Decoder(facts, thresholds)

    def frame(way) -> tuple[np.ndarray, ...]:
        found = decoder(way.outputs())
        keep = nms(found.xyxy, found.score, found.class_id, thresholds.iou, 300)
        return found.xyxy[keep], found.score[keep], found.class_id[keep]

    for way in ways:
        way.run(picture)
    first, *others = [frame(way) for way in ways]
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    milliseconds = _cpu_ms([lambda way=way: frame(way) for way in ways])
    raw_bytes = sum(tensor.array.nbytes for tensor in ways[0].outputs())
    copied_bytes = 2 * sum(tensor.array.nbytes for tensor in ways[1].outputs())
    return Measured(*milliseconds, raw_bytes, copied_bytes, len(first[1]))


def _cpu_ms(candidates: list[Callable[[], object]]) -> list[float]:
    """Median CPU ms a call, the candidates in turns."""
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(_ROUNDS):
        for function, own in zip(candidates, times, strict=True):
            function()
            start = time.process_time()
            for _ in range(_CALLS):
                function()
            own.append((time.process_time() - start) / _CALLS * 1e3)
    return [statistics.median(own) for own in times]
