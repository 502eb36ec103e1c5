"""One evaluation from end to end: open, read, predict, measure, write."""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convert.evaluate.accuracy import measure
from convert.evaluate.coco_json import read_coco_json
from convert.evaluate.dataset import SPLITS, Dataset, is_data_yaml, read_data_yaml
from convert.evaluate.labels import check_size
from convert.evaluate.mosaics import write_mosaics
from convert.evaluate.page import Outcome, page
from convert.evaluate.parts import Work, predict_in_parts
from convert.evaluate.run import CONFIDENCE, IOU, Predictions, evaluation_thresholds, predict
from convert.evaluate.table import Evaluation, as_plain, coco_results, milliseconds
from convert.progress import Steps
from convert.workers import Workers, open_workers
from runtime.backends import BACKENDS
from runtime.errors import UserError
from runtime.files import whole_file
from runtime.model import Model, explained_imports, open_model
from runtime.pictures import read_picture
from runtime.terminal import printable

COMPILED = ("rknnlite", "simulator")
"""The backends that run what was built, and not the float graph."""


@dataclass(frozen=True)
class Request:
    """What to measure, on what, and where to write it; see the command's options."""

    model: Path
    data: Path
    pictures: Path | None = None
    split: str | None = None
    backends: tuple[str, ...] = ("auto",)
    wh: tuple[int, int] | None = None
    anchors: str | None = None
    confidence: float = CONFIDENCE
    iou: float = IOU
    skip_bad_labels: bool = False
    table_to: Path | None = None
    results_to: Path | None = None
    mosaics_to: Path | None = None
    page_to: Path | None = None
    processes: int | None = None
    scheduler: str | None = None


def evaluate(request: Request, steps: Steps) -> Outcome:
    """Measure a model on all backends asked for, and write the files asked for. Raises UserError
    for bad input, before the long work wherever that can be told."""
    _check(request)
    with explained_imports("evaluate needs"):
        import_module("pycocotools.cocoeval")  # told now and not after the long work
    model = open_model(request.model, request.wh, request.anchors)
    with ExitStack() as stack:
        targets = [
            path and stack.enter_context(whole_file(path))
            for path in (request.table_to, request.results_to, request.page_to)
        ]
        dataset = read_dataset(request, model.facts.class_names, steps)
        _check_mosaics(request.mosaics_to, dataset)
        _check_sizes(dataset, steps)
        workers = _open_workers(request, stack, steps)
        runs = _predict_all(request, model, dataset, steps, workers)
        evaluations = tuple(_measure(model, dataset, found, steps) for found in runs.values())
        plain = _plain(request, model, evaluations)
        warnings = tuple(_warnings(dataset, runs.values()))
        outcome = Outcome(model, evaluations, plain, dataset.background, warnings)
        makers = (
            lambda: json.dumps(plain, indent=1) + "\n",
            lambda: json.dumps(coco_results(dataset, *runs.values()), indent=1) + "\n",
            lambda: page(outcome),
        )
        for path, make in zip(targets, makers, strict=True):
            if path:
                path.write_text(make(), "utf-8")
        if request.mosaics_to:
            with steps.step("Draw"):
                write_mosaics(request.mosaics_to, dataset, runs, model.facts.class_names)
    return outcome


def read_dataset(request: Request, names: Sequence[str], steps: Steps) -> Dataset:
    """The labelled pictures; names are the model's classes. Raises UserError."""
    data = request.data
    if data.suffix.lower() == ".json":
        with steps.step(f"Read {printable(data.name)}"):
            return read_coco_json(data, request.pictures, names)
    track = partial(steps.track, text="Read labels")
    return read_data_yaml(data, request.split or "val", names, request.skip_bad_labels, track)


def _check(request: Request) -> None:
    for name, value in (("conf", request.confidence), ("iou", request.iou)):
        if not 0 <= value <= 1:
            raise UserError(f"--{name} {value:g} is no threshold: give a number from 0 to 1")
    for i, name in enumerate(request.backends):
        if name not in ("auto", *BACKENDS):
            raise UserError(f"no backend is called {name}: choose auto, {', '.join(BACKENDS)}")
        if name in request.backends[:i]:
            raise UserError(f"--backend {name} is given twice: leave one out")
    check_data(request)
    _check_workers(request)
    _check_targets(request)


def check_data(request: Request) -> None:
    """Raises UserError for options that name no labelled pictures."""
    data = request.data
    if not data.is_file():
        raise UserError(f"--data {data} does not exist: give a data.yaml or a COCO JSON")
    if data.suffix.lower() == ".json":
        if request.pictures is None:
            raise UserError("--pictures FOLDER is needed with a COCO JSON: where its pictures are")
        if request.split is not None or request.skip_bad_labels:
            raise UserError("--split and --skip-bad-labels are for a data.yaml: leave them out")
        return
    if not is_data_yaml(data):
        raise UserError(f"--data {data} is no data.yaml and no COCO .json")
    if request.pictures is not None:
        raise UserError("--pictures is for a COCO JSON, a data.yaml names its own: leave it out")
    if request.split not in (None, *SPLITS):
        raise UserError(f"--split {request.split} is not known: choose {', '.join(SPLITS)}")


def _check_workers(request: Request) -> None:
    if request.processes is not None and request.scheduler:
        raise UserError("--workers are processes here, --scheduler has its own: leave one out")
    if request.processes is not None and request.processes < 1:
        raise UserError(f"--workers {request.processes} is too few: give 1 or more")


def _check_targets(request: Request) -> None:
    """Nothing a user measures with is written over."""
    taken = {request.data.resolve(): "--data"}
    for option, path, suffix in (
        ("--json", request.table_to, ".json"),
        ("--save-json", request.results_to, ".json"),
        ("--report", request.page_to, ".html"),
    ):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise UserError(f"{option} {path} should end in {suffix}")
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise UserError(f"{option} {path} would write over {other}: give another name")
    if request.results_to and len(request.backends) > 1:
        raise UserError("--save-json holds the detections of one backend: give one --backend")


def _check_mosaics(folder: Path | None, dataset: Dataset) -> None:
    if folder and folder.resolve() in {file.parent.resolve() for file in dataset.files}:
        raise UserError(f"--batch-report {folder} is where the pictures are: give another folder")
    if folder and folder.exists() and not folder.is_dir():
        raise UserError(f"--batch-report {folder} is no folder: give another name")


def _check_sizes(dataset: Dataset, steps: Steps) -> None:
    """Raises UserError where a picture has another size than its labels say. Reading them twice
    costs little beside finding that out at the end."""
    told = [
        (file, labels)
        for file, labels in zip(dataset.files, dataset.labels, strict=True)
        if labels.source_wh is not None
    ]
    for file, labels in steps.track(told, "Compare sizes") if told else ():
        bgr = read_picture(file)
        if bgr is not None:
            check_size(labels, (bgr.shape[1], bgr.shape[0]), file)


def _open_workers(request: Request, stack: ExitStack, steps: Steps) -> Workers | None:
    """Those asked for; they end with the stack."""
    if request.processes is None and request.scheduler is None:
        return None
    with steps.step("Start workers"):
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rkyolo-")))
        opening = open_workers(request.scheduler, request.processes or 1, folder / "workers")
        workers = stack.enter_context(opening)
        workers.wait_for_one()
    return workers


def _predict_all(
    request: Request, model: Model, dataset: Dataset, steps: Steps, workers: Workers | None
) -> dict[str, Predictions]:
    """By backend, as they were asked for. Those that need most, and may fail for it, go first."""
    order = sorted(request.backends, key=lambda name: name not in COMPILED)
    runs = {name: _predict(request, model, name, dataset, steps, workers) for name in order}
    return {name: runs[name] for name in request.backends}


def _predict(
    request: Request,
    model: Model,
    backend: str,
    dataset: Dataset,
    steps: Steps,
    workers: Workers | None,
) -> Predictions:
    text = f"Detect in {len(dataset.files)} pictures, backend {backend}"
    thresholds = evaluation_thresholds(request.confidence, request.iou)
    if workers is None:
        return predict(model, backend, dataset.files, thresholds, partial(steps.track, text=text))
    anchors = request.anchors
    if anchors and Path(anchors).is_file():
        anchors = str(Path(anchors).absolute())
    work = Work(request.model.absolute(), request.wh, anchors, backend, thresholds)
    return predict_in_parts(workers, work, dataset.files, steps, text)


def _measure(model: Model, dataset: Dataset, found: Predictions, steps: Steps) -> Evaluation:
    track = partial(steps.track, text=f"Measure {found.backend}")
    accuracy = measure(dataset, found, track)
    compiled = model.manifest.precision if model.manifest else ""
    precision = compiled if found.backend in COMPILED else "float32"
    return Evaluation(found.backend, precision, accuracy, milliseconds(found))


def _plain(request: Request, model: Model, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    width, height = model.facts.input.wh
    head = {
        "model": str(request.model),
        "data": str(request.data),
        "width": width,
        "height": height,
        "conf": request.confidence,
        "iou": request.iou,
    }
    return head | as_plain(evaluations, model.facts.class_names)


def _warnings(dataset: Dataset, runs: Iterable[Predictions]) -> Iterable[str]:
    if dataset.warning:
        yield dataset.warning
    lost = [
        printable(str(file))
        for file, *readable in zip(dataset.files, *(r.readable for r in runs), strict=True)
        if not all(readable)
    ]
    if lost:
        yield f"{len(lost)} pictures cannot be read and are left out: {', '.join(lost[:5])}"
