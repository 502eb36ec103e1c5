"""Run a model over pictures on one backend, and keep what it finds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from runtime.backends import BACKENDS, Backend, open_backend
from runtime.decode import Tensor
from runtime.detections import Detections
from runtime.detector import Detector
from runtime.letterbox import PAD_VALUE
from runtime.manifest import Facts, Thresholds
from runtime.model import Model
from runtime.pictures import read_picture

CONFIDENCE, IOU, MOST_DETECTIONS = 0.001, 0.6, 300
"""What YOLOv5's val runs with."""
STAGES = ("pre-process", "inference", "NMS")


def evaluation_thresholds(score: float = CONFIDENCE, iou: float = IOU) -> Thresholds:
    """Thresholds accuracy is measured with: nearly every box, and every class of it."""
    return Thresholds(score=score, iou=iou, max_detections=MOST_DETECTIONS, multi_label=True)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Detections of several pictures, one picture behind the other.

    backend: the name of what ran. wh: int32 (pictures, 2), each one's size, 0 where it could not be
    read. counts: int64 (pictures,), how many detections each has. xyxy: float32 (n, 4) in source
    pixels; score: float32 (n,); class_id: int32 (n,); highest score first in each picture. seconds:
    float64 (3,), of all pictures together, by stage.
    """

    backend: str
    wh: np.ndarray
    counts: np.ndarray
    xyxy: np.ndarray
    score: np.ndarray
    class_id: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.wh)

    @property
    def readable(self) -> np.ndarray:
        """bool (pictures,)."""
        return self.wh[:, 0] > 0

    def __iter__(self) -> Iterator[Detections]:
        """The detections of each picture."""
        ends = np.cumsum(self.counts)
        for first, end in zip((ends - self.counts).tolist(), ends.tolist(), strict=True):
            part = slice(first, end)
            yield Detections(self.xyxy[part], self.score[part], self.class_id[part])

    @classmethod
    def of_pictures(
        cls,
        backend: str,
        wh: Sequence[tuple[int, int]],
        found: Sequence[Detections],
        seconds: np.ndarray,
    ) -> "Predictions":
        """From the detections of each picture."""
        found_or_none = [Detections.empty(), *found]  # which numpy cannot join none of
        return cls(
            backend=backend,
            wh=np.array(wh, np.int32).reshape(-1, 2),
            counts=np.array([len(f) for f in found], np.int64),
            xyxy=np.concatenate([f.xyxy for f in found_or_none]),
            score=np.concatenate([f.score for f in found_or_none]),
            class_id=np.concatenate([f.class_id for f in found_or_none]),
            seconds=seconds,
        )

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Those of one backend, the pictures of the first part first; there is at least one."""
        return cls(
            backend=parts[0].backend,
            wh=np.concatenate([p.wh for p in parts]),
            counts=np.concatenate([p.counts for p in parts]),
            xyxy=np.concatenate([p.xyxy for p in parts]),
            score=np.concatenate([p.score for p in parts]),
            class_id=np.concatenate([p.class_id for p in parts]),
            seconds=np.sum([p.seconds for p in parts], axis=0),
        )


def predict(
    model: Model,
    backend: str,
    files: Sequence[Path],
    thresholds: Thresholds,
    track: Callable[[Sequence], Iterator] = iter,
) -> Predictions:
    """What a model finds in picture files. It shares nothing with other calls, and what goes in and
    comes out can be pickled (but for track, which wraps the loop to show progress), so that
    processes can take parts of the files. Raises UserError where the backend cannot run the model.
    """
    with closing(open_backend(backend, model)) as running:
        runner = _Runner(running, model.facts, thresholds)
        wh, found = [], []
        for file in track(files):
            bgr = read_picture(file)
            if bgr is None:
                wh.append((0, 0))
                found.append(Detections.empty())
            else:
                wh.append((bgr.shape[1], bgr.shape[0]))
                found.append(runner(bgr))
        return Predictions.of_pictures(_name(running, backend), wh, found, runner.seconds)


def _name(running: Backend, asked: str) -> str:
    """The name of what runs; asked may be "auto"."""
    kind = f"{type(running).__module__}:{type(running).__qualname__}"
    return next((name for name, entry in BACKENDS.items() if entry == kind), asked)


class _Timed:
    """A backend that notes when its last call began and ended."""

    def __init__(self, backend: Backend):
        self._backend = backend
        self.times = (0.0, 0.0)

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        began = perf_counter()
        tensors = self._backend.infer(picture)
        self.times = began, perf_counter()
        return tensors

    def close(self) -> None:
        self._backend.close()


class _Runner:
    """A Detector that adds up its stages' times."""

    def __init__(self, backend: Backend, facts: Facts, thresholds: Thresholds):
        self.seconds = np.zeros(len(STAGES))
        self._backend = _Timed(backend)
        self._detector = Detector(self._backend, facts, thresholds)
        # the first call is slower, and would be in the times
        self._detector(np.full((facts.input.height, facts.input.width, 3), PAD_VALUE, np.uint8))

    def __call__(self, bgr: np.ndarray) -> Detections:
        began = perf_counter()
        found = self._detector(bgr)
        self.seconds += np.diff([began, *self._backend.times, perf_counter()])
        return found
