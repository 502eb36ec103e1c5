"""One trial, in a worker: convert, and measure what was built on the simulator."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic, time

from convert.bundle import convert
from convert.evaluate.accuracy import measure
from convert.evaluate.run import evaluation_thresholds, predict
from convert.progress import Steps
from convert.tune.outcome import Accuracy, Outcome
from convert.tune.space import Trial
from convert.tune.study import Study
from runtime.errors import CheckFailedError, UserError
from runtime.model import Model, open_model

_ALONE = Lock()
"""What converts redirects this process's output, so one at a time."""


@dataclass(frozen=True)
class Task:
    """A trial of a study, None for its float model, and where its bundle goes."""

    study: Study
    trial: Trial | None
    out: Path | None


def run_trial(task: Task) -> Outcome:
    """The outcome, which is a failed one where the conversion or the measuring cannot be done."""
    with _ALONE:
        started = monotonic()
        try:
            numbers = _float_numbers(task.study) if task.trial is None else _numbers(task)
        except (UserError, CheckFailedError) as error:
            numbers = {"failed": _reason(error)}
        seconds = round(monotonic() - started, 1)
        return Outcome(trial=task.trial, seconds=seconds, finished=time(), **numbers)


def _numbers(task: Task) -> dict[str, object]:
    study = task.study
    made = convert(study.request(task.trial, task.out), Steps(quiet=True))
    model = open_model(made.bundle)
    agreement, cost = model.manifest.agreement, model.manifest.cost
    hybrid = model.manifest.hybrid
    if task.trial.hybrid != "none" and not hybrid:
        return {}  # it is the trial without, whose numbers are known
    return {
        "hybrid": hybrid,
        "f1": agreement.f1,
        "mean_iou": agreement.mean_iou,
        "cycles": cost.int8.cycles if cost and cost.int8 else None,
        "accuracy": _accuracy(study, model, "simulator") if study.data else None,
    }


def _float_numbers(study: Study) -> dict[str, object]:
    model = open_model(study.model, study.wh, study.anchors)
    return {"accuracy": _accuracy(study, model, "onnxruntime")}


def _accuracy(study: Study, model: Model, backend: str) -> Accuracy:
    dataset = study.dataset(model.facts.class_names)
    found = predict(model, backend, dataset.files, evaluation_thresholds())
    map50, map50_95 = measure(dataset, found).mean[2:].round(6).tolist()
    return Accuracy(map50=map50, map50_95=map50_95)


def _reason(error: Exception) -> str:
    """What a report says first, or what else went wrong, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("FAIL:")), lines[0])
    return told.removeprefix("FAIL: ")
