"""The command tune."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convert.arguments import (
    CalibrationPictures,
    Check,
    Chip,
    GivenAnchors,
    LeastAgreement,
    Model,
    NewBundle,
    Pictures,
    Size,
    SkipBadLabels,
    Split,
    agreement_of,
    one_of,
    size_of,
)
from runtime.errors import UserError
from runtime.manifest import Target

if TYPE_CHECKING:
    from convert.tune.job import Result

_MOST_PROCESSES = 4
"""By default; each takes about 2 GB."""


def tune(
    model: Model,
    out: NewBundle,
    calibration: Annotated[Path, CalibrationPictures],
    data: Annotated[
        Path | None,
        typer.Option(metavar="data.yaml|COCO.json", help="Labelled pictures, for the mAP."),
    ] = None,
    pictures: Pictures = None,
    split: Split = None,
    skip_bad_labels: SkipBadLabels = False,
    val_pictures: Annotated[
        int, typer.Option(help="A trial is measured on so many of them, evenly spread.")
    ] = 200,
    check: Check = None,
    size: Size = None,
    anchors: GivenAnchors = None,
    target: Chip = "rk3588",
    min_agreement: LeastAgreement = 0.9,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHOICE",
            help="Leave a choice as convert has it: activation, heads, stem, algorithm, hybrid,"
            " calibration; may be given again.",
        ),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Try mmse too, minutes a trial.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no trial after so many minutes.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Try at most so many.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials again that failed.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine [its cores, at most 4].")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="A Dask scheduler, whose workers see the same files at the same places. Whoever"
            " reaches it can run code on all of them: only in a network you trust.",
        ),
    ] = None,
) -> None:
    """Search for the best way to convert, and write the best bundle.

    Trials are converted and measured on the simulator, and weighed by the vendor's compiler's
    cycles. They are kept in BUNDLE.tune: the same command again goes on where it was stopped.
    """
    from convert.evaluate import job as evaluation
    from convert.progress import Steps
    from convert.tune import job

    if data is None and (pictures or split or skip_bad_labels):
        raise UserError("--pictures, --split and --skip-bad-labels belong to --data: give that too")
    if scheduler and workers:
        raise UserError("--workers are processes here, --scheduler has its own: leave one out")
    labelled = data and evaluation.Request(
        model, data, pictures, split, skip_bad_labels=skip_bad_labels
    )
    request = job.Request(
        model=model,
        out=out,
        calibration=calibration,
        data=labelled,
        check=check,
        wh=size_of(size),
        anchors=anchors,
        target=one_of("--target", target, Target),
        least_f1=agreement_of(min_agreement),
        most_pictures=val_pictures,
        keep=tuple(keep or ()),
        thorough=thorough,
        minutes=minutes,
        trials=trials,
        retry_failed=retry_failed,
        processes=_processes() if workers is None else workers,
        scheduler=scheduler,
    )
    try:
        with Steps() as steps:
            result = job.tune(request, steps)
    except (KeyboardInterrupt, SystemExit):
        print(
            f"stopped; finished trials are in {out}.tune, and the same command goes on from there",
            file=sys.stderr,
        )
        raise
    _show(result, out)


def _processes() -> int:
    import os

    return min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


def _show(result: "Result", out: Path) -> None:
    from rich.console import Console

    from convert.tune.table import closing_lines, table

    # off a terminal there is no width to keep to
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    console.print(table(result.found, result.measure))
    print("bought is what a choice changed; cycles are the vendor's compiler's, not a measurement")
    for line in closing_lines(result.found, result.reference):
        print(line)
    if result.resumed:
        print(f"{result.resumed} of the trials were finished by an earlier run")
    print(f"wrote {out}")
    print(f"the table and the finished trials are in {out}.tune, which may be removed")
