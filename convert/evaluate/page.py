"""The page of an evaluation."""

from dataclasses import dataclass
from typing import Any

from convert.evaluate.accuracy import METRICS
from convert.evaluate.run import STAGES
from convert.evaluate.table import Evaluation, difference_text
from convert.report import svg
from convert.report.page import render, sentence
from runtime.model import Model
from runtime.terminal import printable

_KEPT, _NEARLY = 0.01, 0.03
"""A model that loses less mAP50-95 than this has kept it, or nearly."""
_MOST_BARS = 80
"""Of more classes only the first get bars; the table has them all."""
_METRIC = METRICS[-1]
_TUNE = "MODEL --calibration PICTURES --data data.yaml -o BUNDLE"


@dataclass(frozen=True, eq=False)
class Outcome:
    """Each backend's accuracy, the model that ran, the table as data, how many pictures have
    nothing labelled, and warnings."""

    model: Model
    evaluations: tuple[Evaluation, ...]
    plain: dict[str, Any]
    background: int
    warnings: tuple[str, ...]


def page(outcome: Outcome) -> str:
    """The report as one HTML file."""
    first, plain = outcome.evaluations[0], outcome.plain
    word, level = _verdict(outcome)
    return render(
        "evaluation.html",
        title=f"{_name(plain['model'])} on {_name(plain['data'])}",
        word=word,
        level=level,
        outcome=outcome,
        first=first,
        metrics=METRICS,
        figures=dict(zip(METRICS, first.accuracy.mean.tolist(), strict=True)),
        warnings=[sentence(warning) for warning in outcome.warnings],
        steps=_next_steps(outcome),
        classes=_classes(outcome),
        most_bars=_MOST_BARS,
        metric=_METRIC,
        plots=[_plot(evaluation) for evaluation in outcome.evaluations],
        stages=STAGES,
        confidence=f"{plain['conf']:g}",
        iou=f"{plain['iou']:g}",
        model=_name(plain["model"]),
        data=_name(plain["data"]),
    )


def _name(path: str) -> str:
    """The last part of a path, for people."""
    return printable(path.rstrip("/").rpartition("/")[2] or path)


def _losses(outcome: Outcome) -> list[tuple[Evaluation, float]]:
    """How much mAP each backend but the first has more than the first."""
    first, *others = outcome.evaluations
    return [(each, float((each.accuracy.mean - first.accuracy.mean)[-1])) for each in others]


def _verdict(outcome: Outcome) -> tuple[str, str]:
    """In words, and how good that is. One backend alone is measured and not judged."""
    first, losses = outcome.evaluations[0], _losses(outcome)
    if not losses:
        return f"{_METRIC} {first.accuracy.mean[-1]:.3f}", "calm"
    worst, change = min(losses, key=lambda item: item[1])
    if change > -_KEPT:
        return f"{worst.name} keeps the accuracy of {first.name}", "good"
    if change > -_NEARLY:
        return f"{worst.name} loses a little accuracy to {first.name}", "warn"
    return f"{worst.name} loses accuracy to {first.name}", "bad"


def _next_steps(outcome: Outcome) -> list[tuple[str, str]]:
    """What to try, in words and as an option."""
    accuracy, steps = outcome.evaluations[0].accuracy, []
    if any(change <= -_KEPT for _, change in _losses(outcome)):
        steps += [
            ("Calibrate on more pictures, like those the camera will see:", "--calibration"),
            ("Have all that can be chosen tried and weighed:", f"rkyolo tune {_TUNE}"),
            ("Keep the detections at about half the speed or less:", "--precision fp16"),
        ]
    elif outcome.model.manifest and len(outcome.evaluations) == 1:
        backends = "--backend onnxruntime --backend simulator"
        steps.append(("See what quantization costs, side by side:", backends))
    if len(accuracy.class_id) > 1:
        steps.append((_weakest(outcome), ""))
    where = f"confidence {accuracy.confidence:.2f}"
    return [*steps, (f"For the best balance of precision and recall detect at {where}.", "")]


def _weakest(outcome: Outcome) -> str:
    first = outcome.evaluations[0]
    values = first.accuracy.values[:, -1]
    i = int(values.argmin())
    name = printable(outcome.model.facts.class_names[int(first.accuracy.class_id[i])])
    return (
        f"The weakest class in {first.name} is {name}, {_METRIC} {values[i]:.3f}: more training"
        " pictures of it help most."
    )


def _classes(outcome: Outcome) -> list[dict[str, Any]]:
    """A row a class, all of them first, with a line for each backend and each difference."""
    results, differences = outcome.plain["results"], outcome.plain["differences"]
    labels, rows = _labels(outcome), []
    for i, row in enumerate(results[0]["rows"]):
        lines = []
        for j, result in enumerate(results):
            values = [result["rows"][i][metric] for metric in METRICS]
            lines.append({"name": labels[j], "values": values, "less": False})
            if j:
                change = [differences[j - 1]["rows"][i][metric] for metric in METRICS]
                told = [difference_text(value) for value in change]
                lines.append({"name": "difference", "values": told, "less": True})
        rows.append({"name": row["class"], "instances": row["instances"], "lines": lines})
    return rows


def _labels(outcome: Outcome) -> list[str]:
    """What to call each backend in a narrow table: by precision where that tells them apart."""
    precisions = [each.precision for each in outcome.evaluations]
    if len({*precisions, ""}) == len(precisions) + 1:
        return precisions
    return [each.backend for each in outcome.evaluations]


def _plot(evaluation: Evaluation) -> dict[str, Any]:
    curves = evaluation.accuracy.curves
    lines = [] if curves is None else [("shade0", curves[0]), ("shade1", curves[1])]
    title = f"Precision and recall by confidence, {evaluation.name}"
    return {
        "name": evaluation.name,
        "svg": svg.curves(lines, evaluation.accuracy.confidence, title),
        "confidence": evaluation.accuracy.confidence,
    }
