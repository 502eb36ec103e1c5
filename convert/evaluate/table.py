"""What was measured, as YOLOv5's table, as plain data, and as COCO's results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from convert.evaluate.accuracy import METRICS, Accuracy
from convert.evaluate.dataset import Dataset
from convert.evaluate.run import STAGES, Predictions
from runtime.terminal import printable


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One backend's accuracy. precision: float32, int8 or fp16, or nothing where that is not known;
    ms: of STAGES, a picture."""

    backend: str
    precision: str
    accuracy: Accuracy
    ms: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.backend} {self.precision}".strip()


def milliseconds(predictions: Predictions) -> tuple[float, ...]:
    """The mean times of the stages, of pictures that could be read."""
    return tuple((1000 * predictions.seconds / predictions.readable.sum()).tolist())


def table(evaluations: Sequence[Evaluation], names: Sequence[str]) -> Table:
    """A row a class, all of them first; of several backends a row each, and below every one but the
    first how much it differs from the first."""
    several = len(evaluations) > 1
    columns = ["class", "images", "instances", *(["backend"] if several else []), *METRICS]
    made = Table(box=None, padding=(0, 1 if several else 3, 0, 0), pad_edge=False)
    for column in columns:
        left = column in ("class", "backend")
        # of what a narrow terminal has no room for, names are folded and numbers stay
        made.add_column(
            column,
            justify="left" if left else "right",
            no_wrap=column != "class",
            min_width=8 if column == "class" else None,
            overflow="fold",
        )
    for row, (name, instances) in enumerate(_titles(evaluations[0].accuracy, names)):
        told = [name, f"{evaluations[0].accuracy.pictures}", f"{instances}"]
        if several:
            made.add_row()
        for backend, values in _lines(evaluations, row):
            made.add_row(*map(Text, [*told, *([backend] if several else []), *values]))
            told = [""] * len(told)
    return made


def _titles(accuracy: Accuracy, names: Sequence[str]) -> list[tuple[str, int]]:
    classes = zip(accuracy.class_id.tolist(), accuracy.instances.tolist(), strict=True)
    rows = [(printable(names[i]), instances) for i, instances in classes]
    return [("all", int(accuracy.instances.sum())), *rows]


def _rows(accuracy: Accuracy) -> np.ndarray:
    """float64 (1 + k, 4), all classes first."""
    return np.vstack([accuracy.mean, accuracy.values])


def _lines(evaluations: Sequence[Evaluation], row: int) -> list[tuple[str, list[str]]]:
    first = _rows(evaluations[0].accuracy)[row]
    lines = []
    for i, evaluation in enumerate(evaluations):
        values = _rows(evaluation.accuracy)[row]
        lines.append((evaluation.name, [f"{value:.3f}" for value in values]))
        if i:
            lines.append(("difference", [difference_text(value) for value in values - first]))
    return lines


def difference_text(value: float) -> str:
    """With its sign, but for what rounds to 0."""
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text


def confidence_line(evaluation: Evaluation) -> str:
    """Where on the curve P and R were taken."""
    return f"P and R are at confidence {evaluation.accuracy.confidence:.3f} ({evaluation.name})"


def speed_line(evaluation: Evaluation, wh: tuple[int, int]) -> str:
    """As YOLOv5 prints it."""
    stages = ", ".join(
        f"{ms:.1f} ms {stage}" for ms, stage in zip(evaluation.ms, STAGES, strict=True)
    )
    which = evaluation.name
    if evaluation.backend == "simulator":
        which += ", which says nothing of the NPU's speed"
    return f"Speed: {stages} per picture at {wh[0]}x{wh[1]} ({which})"


def as_plain(evaluations: Sequence[Evaluation], names: Sequence[str]) -> dict[str, Any]:
    """The table as data: a result for each backend, and for each but the first its difference from
    the first."""
    first = _rows(evaluations[0].accuracy)
    return {
        "results": [_plain(evaluation, names) for evaluation in evaluations],
        "differences": [
            {
                "backend": evaluation.backend,
                "from": evaluations[0].backend,
                "rows": _plain_rows(evaluation.accuracy, names, _rows(evaluation.accuracy) - first),
            }
            for evaluation in evaluations[1:]
        ],
    }


def _plain(evaluation: Evaluation, names: Sequence[str]) -> dict[str, Any]:
    accuracy = evaluation.accuracy
    return {
        "backend": evaluation.backend,
        "precision": evaluation.precision or None,
        "images": accuracy.pictures,
        "confidence": round(accuracy.confidence, 6),
        "ms": {s: round(ms, 3) for s, ms in zip(STAGES, evaluation.ms, strict=True)},
        "rows": _plain_rows(accuracy, names, _rows(accuracy)),
    }


def _plain_rows(
    accuracy: Accuracy, names: Sequence[str], values: np.ndarray
) -> list[dict[str, Any]]:
    return [
        {"class": name, "instances": instances}
        | {m: round(v, 6) for m, v in zip(METRICS, row, strict=True)}
        for (name, instances), row in zip(_titles(accuracy, names), values.tolist(), strict=True)
    ]


def coco_results(dataset: Dataset, predictions: Predictions) -> list[dict[str, Any]]:
    """Detections as COCO's evaluation takes them: x, y, width, height in pixels of the picture."""
    return [
        {
            "image_id": image_id,
            "category_id": dataset.category_ids[class_id],
            "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(score, 5),
        }
        for image_id, found in zip(dataset.image_ids, predictions, strict=True)
        for (x1, y1, x2, y2), score, class_id in zip(
            found.xyxy.tolist(), found.score.tolist(), found.class_id.tolist(), strict=True
        )
    ]
