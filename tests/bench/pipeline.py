"""Benchmarks of the frame pipeline, on cores that take as long as an NPU's."""

import time
from pathlib import Path

import numpy as np
from scenes import facts_of, scene
from stand_in import Core, FramesOptions, StandIn

from runtime.decode import Decoder
from runtime.manifest import Facts, Thresholds
from runtime.memory import memory_mb
from runtime.options import Region
from runtime.pipeline.pipeline import Pipeline
from runtime.pipeline.pool import Pool, Recipe
from runtime.sources import SOURCES

HOLD_S, CORES, PER_CORE = 0.0151, 3, 2
"""The vendor's figure for a yolov5s_relu at 640 on one RK3588 core."""


def recorded(shared: Path) -> tuple[Facts, list[np.ndarray]]:
    """Decode facts and outputs of an 80-class model at 640: of a published one on a photograph
    where they are at hand, else of a drawn scene."""
    checkpoint, photograph = shared / "wild/jinyutong-yolov5n.pt", shared / "images"
    if checkpoint.is_file():
        import cv2

        from runtime.backends import open_backend
        from runtime.letterbox import letterbox
        from runtime.model import open_model

        model = open_model(checkpoint, (640, 640))
        bgr = cv2.imread(str(sorted(photograph.glob("*.jpg"))[0]))
        picture = letterbox(bgr, (640, 640))[None]
        tensors = open_backend("onnxruntime", model).infer(picture)
        return model.facts, [tensor.array for tensor in tensors]
    facts = facts_of()
    tensors = scene(facts, 5, 15, np.random.default_rng(0))
    return facts, [tensor.array for tensor in tensors]


class Run:
    """Frames through a pipeline on stand-in cores; what came out of it."""

    def __init__(self, facts: Facts, outputs: list[np.ndarray], options: FramesOptions):
        self.numbers: list[int] = []
        self.under_way_s: list[float] = []
        self.memory_mb: list[float] = []
        pipeline = Pipeline("bench")
        pipeline.subscribe(self._see)
        cores = [Core(HOLD_S) for _ in range(CORES)]
        backends = [
            (i, StandIn(core, outputs)) for _ in range(PER_CORE) for i, core in enumerate(cores)
        ]
        recipe = Recipe(Decoder(facts, Thresholds()), Thresholds(), Region())
        pipeline.use_pool(Pool(backends, facts, {options.name: recipe}), 1)
        cpu, start = time.process_time(), time.perf_counter()
        pipeline.use({options.name: options}, {}, 1)
        while len(self.numbers) < options.count and not pipeline.finished:
            time.sleep(0.05)
        self.seconds = time.perf_counter() - start
        self.cpu_s = time.process_time() - cpu
        self.state = pipeline.state()
        pipeline.close(5)

    def _see(self, result) -> None:
        self.numbers.append(result.frame.capture.frame)
        seconds = result.seconds
        self.under_way_s.append(sum(seconds.values()) - seconds["wait"])
        if len(self.numbers) % 1000 == 0:
            self.memory_mb.append(memory_mb())

    @property
    def growth_mb(self) -> float:
        """After the first thousand frames, which fill what is reused."""
        return self.memory_mb[-1] - self.memory_mb[0]

    @property
    def out_of_order(self) -> int:
        return sum(a != b for a, b in zip(self.numbers, range(len(self.numbers)), strict=True))

    @property
    def rate(self) -> float:
        return len(self.numbers) / self.seconds


def run(facts: Facts, outputs: list[np.ndarray], count: int, rate: float | None = None) -> Run:
    """count frames as fast as they are taken, or at a rate."""
    return Run(
        facts, outputs, FramesOptions(name="bench", count=count, every_s=1 / rate if rate else 0)
    )


SOURCES["frames"] = "stand_in:FramesSource"
