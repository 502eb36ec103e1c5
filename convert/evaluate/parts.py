"""Run a model over pictures on several workers, a part of the pictures each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from convert.evaluate.run import Predictions, predict
from convert.progress import Steps
from convert.workers import Workers
from runtime.errors import UserError
from runtime.manifest import Thresholds
from runtime.model import open_model

MOST_IN_PART = 500
"""Pictures: what is lost with a worker is run again."""


@dataclass(frozen=True)
class Work:
    """What to run over pictures, see runtime.model.open_model; paths that every worker has."""

    model: Path
    wh: tuple[int, int] | None
    anchors: str | None
    backend: str
    thresholds: Thresholds


def predict_in_parts(
    workers: Workers, work: Work, files: Sequence[Path], steps: Steps, text: str
) -> Predictions:
    """What convert.evaluate.run.predict gives. Times are those of all workers together. Raises
    UserError, also where workers die."""
    parts = _parts([file.absolute() for file in files], workers.count())
    found: dict[int, Predictions] = {}
    with steps.step(f"{text}, {len(parts)} parts"):
        for done in workers.each(_predict, [(work, part) for part in parts]):
            if done.lost:
                raise UserError(f"pictures were lost with a worker: {done.lost}")
            found[done.place] = done.result
    return Predictions.joined([found[place] for place in range(len(parts))])


def _parts(files: Sequence[Path], workers: int) -> list[Sequence[Path]]:
    """As many as there are workers, or more where they would be large, of about the same size."""
    least = -(-len(files) // MOST_IN_PART)
    count = min(len(files), max(least, workers, 1))
    ends = [i * len(files) // count for i in range(count + 1)]
    return [files[a:b] for a, b in pairwise(ends)]


def _predict(task: tuple[Work, Sequence[Path]]) -> Predictions:
    work, files = task
    model = open_model(work.model, work.wh, work.anchors)
    return predict(model, work.backend, files, work.thresholds)
