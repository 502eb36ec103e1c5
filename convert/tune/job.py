"""A search from end to end: read, try, choose, write the winner."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from time import monotonic

from convert.evaluate import job
from convert.evaluate.dataset import Dataset
from convert.progress import Steps
from convert.source import chosen_facts, read_source
from convert.tune.outcome import Outcome
from convert.tune.pictures import check_pictures, find_pictures, write_lists
from convert.tune.runner import Runner
from convert.tune.search import Found, search
from convert.tune.space import CHOICES, Space, Trial, space_for
from convert.tune.store import Store, work_folder
from convert.tune.study import Study, digest
from convert.tune.table import as_plain
from convert.workers import open_workers
from runtime.errors import UserError
from runtime.files import whole_file, whole_folder
from runtime.manifest import Facts, Target
from runtime.model import MANIFEST, RKNN, explained_imports

TABLE = "tune.json"


@dataclass(frozen=True)
class Request:
    """What to search, and where to write the winner; see the command's options."""

    model: Path
    out: Path
    calibration: Path
    data: job.Request | None = None
    check: Path | None = None
    wh: tuple[int, int] | None = None
    anchors: str | None = None
    target: Target = "rk3588"
    least_f1: float = 0.9
    most_pictures: int = 200
    keep: tuple[str, ...] = ()
    thorough: bool = False
    minutes: float | None = None
    trials: int | None = None
    retry_failed: bool = False
    processes: int = 2
    scheduler: str | None = None


@dataclass(frozen=True)
class Result:
    """What was found, what trials were compared by, the float model's outcome where there are
    labels, and how many trials an earlier run had finished."""

    found: Found
    measure: str
    reference: Outcome | None
    resumed: int
    table: Path


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Everything that workers need."""

    study: Study
    store: Store
    space: Space


def tune(request: Request, steps: Steps) -> Result:
    """Search, and write the best bundle. Raises UserError for bad input, before the long work
    wherever that can be told, and CheckFailedError where no trial passed."""
    if request.out.name in ("", ".."):
        raise UserError(f"-o {request.out} is no name for a new folder: give one, like models/mine")
    request = _absolute(request)
    _check(request)
    with ExitStack() as stack:
        work = stack.enter_context(work_folder(request.out))
        prepared = _prepare(request, work, steps)
        with steps.step("Start workers"):
            workers = stack.enter_context(
                open_workers(request.scheduler, request.processes, work / "workers")
            )
            workers.wait_for_one()
        until = None if request.minutes is None else monotonic() + 60 * request.minutes
        runner = Runner(prepared.study, prepared.store, workers, steps, until, request.retry_failed)
        # the float model's turn comes with the first trials, so that no worker waits for it
        first = [None] if request.data else []

        def run(trials: Sequence[Trial]) -> Sequence[Outcome | None]:
            return runner([*first, *trials])[len(first) :]

        found = search(Trial(), prepared.space, run, request.trials)
        bundle = prepared.store.bundle(found.winner.trial)
        if not (bundle / MANIFEST).is_file():
            runner.bundle_again(found.winner.trial)
        with whole_folder(request.out) as partial:
            shutil.copytree(bundle, partial, dirs_exist_ok=True)
        reference = prepared.store.find(None)
        return _written(request, work, found, reference, runner.found_finished)


def _written(
    request: Request, work: Path, found: Found, reference: Outcome | None, resumed: int
) -> Result:
    measure = "mAP50-95" if request.data else "agreement"
    with whole_file(work / TABLE) as partial:
        plain = as_plain(found, measure, reference)
        partial.write_text(json.dumps(plain, indent=1) + "\n", "utf-8")
    return Result(found, measure, reference, resumed, work / TABLE)


def _absolute(request: Request) -> Request:
    """With paths that other processes find too."""
    anchors, data = request.anchors, request.data
    if anchors and Path(anchors).is_file():
        anchors = str(Path(anchors).absolute())
    if data:
        pictures = data.pictures and data.pictures.absolute()
        data = replace(data, data=data.data.absolute(), pictures=pictures)
    return replace(
        request,
        model=request.model.absolute(),
        out=request.out.absolute(),
        anchors=anchors,
        data=data,
    )


def _check(request: Request) -> None:
    for option, value, least in (
        ("--minutes", request.minutes, 0),
        ("--trials", request.trials, 1),
        ("--workers", request.processes, 1),
        ("--val-pictures", request.most_pictures, 1),
    ):
        if value is not None and not value >= least:
            raise UserError(f"{option} {value:g} is too few: give {least} or more")
    for name in request.keep:
        if name not in CHOICES:
            raise UserError(f"--keep {name} is no choice: choose {', '.join(CHOICES)}")
    out = request.out
    whole = (out / MANIFEST).is_file() and (out / RKNN).is_file()
    if out.exists() and not whole and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is no bundle: give another -o, or move it away")
    with explained_imports("tune needs"):
        for needed in ("distributed", "pycocotools.cocoeval"):
            import_module(needed)  # told now and not after the long work


def _prepare(request: Request, work: Path, steps: Steps) -> _Prepared:
    """Read everything once, so that what is wrong is told before trials are run."""
    with steps.step("Read the model"):
        source = read_source(request.model, request.wh, request.anchors)
        facts = chosen_facts(source, "sigmoid")
    study = Study(
        request.model,
        work,
        request.wh,
        request.anchors,
        request.target,
        request.least_f1,
        request.data,
        request.most_pictures,
    )
    dataset = _dataset(study, facts, steps)
    with steps.step("Read the pictures"):
        calibration = find_pictures(request.calibration, work / "frames")
        given = find_pictures(request.check, work / "frames") if request.check else None
        check = check_pictures(calibration, given, labelled=dataset is not None)
        name = digest(study, source.sha256, dataset, [*calibration, *check])
    store = Store(work / name)
    store.folder.mkdir(exist_ok=True)
    store.tidy()
    write_lists(store.folder, calibration, check)
    space = space_for(len(calibration), facts.input.wh, request.thorough, request.keep)
    return _Prepared(replace(study, lists=store.folder), store, space)


def _dataset(study: Study, facts: Facts, steps: Steps) -> Dataset | None:
    if study.data is None:
        return None
    with steps.step("Read the labels"):
        job.check_data(study.data)
        return study.dataset(facts.class_names)
