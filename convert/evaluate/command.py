"""The command evaluate."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convert.arguments import Pictures, SkipBadLabels, Split, size_of

if TYPE_CHECKING:
    from convert.evaluate.job import Outcome


def evaluate(
    model: Annotated[
        Path, typer.Argument(metavar="BUNDLE|MODEL", help="A bundle, .rknn, .pt or .onnx.")
    ],
    data: Annotated[
        Path, typer.Option(metavar="data.yaml|COCO.json", help="Pictures and their labels.")
    ],
    pictures: Pictures = None,
    split: Split = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="As in detect [auto]; several stand side by side.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="640 or HxW; what the model was built for.")
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="For an ONNX that does not decode.")
    ] = None,
    conf: Annotated[float, typer.Option(help="Score threshold, 0 to 1.")] = 0.001,
    iou: Annotated[float, typer.Option(help="IoU threshold, 0 to 1.")] = 0.6,
    skip_bad_labels: SkipBadLabels = False,
    workers: Annotated[
        int | None, typer.Option(help="Share the pictures among processes on this machine.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Share them among a Dask scheduler's workers, which see the same files at the same"
            " places. Whoever reaches it can run code on all of them: only in a network you trust.",
        ),
    ] = None,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the table as data.")
    ] = None,
    save_json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write detections as COCO's results.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write one page of it all.")
    ] = None,
    batch_report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw labels and predictions.")
    ] = None,
) -> None:
    """Measure precision, recall and mAP on labelled pictures, as YOLOv5's val does."""
    from convert.evaluate import job
    from convert.progress import Steps

    request = job.Request(
        model=model,
        data=data,
        pictures=pictures,
        split=split,
        backends=tuple(backend or ["auto"]),
        wh=size_of(size),
        anchors=anchors,
        confidence=conf,
        iou=iou,
        skip_bad_labels=skip_bad_labels,
        table_to=None if json_to in (None, "-") else Path(json_to),
        results_to=save_json,
        mosaics_to=batch_report,
        processes=workers,
        scheduler=scheduler,
        page_to=report,
    )
    with Steps() as steps:
        outcome = job.evaluate(request, steps)
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if json_to == "-":
        print(json.dumps(outcome.plain, indent=1))
    else:
        _show(outcome)
        for written in (request.table_to, save_json, report, batch_report):
            if written:
                print(f"wrote {written}")


def _show(outcome: "Outcome") -> None:
    from rich.console import Console

    from convert.evaluate.table import confidence_line, speed_line, table

    facts = outcome.model.facts
    # off a terminal there is no width to keep to
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    console.print(table(outcome.evaluations, facts.class_names))
    if outcome.background:
        console.print(f"{outcome.background} of the pictures are background: nothing is labelled")
    for evaluation in outcome.evaluations:
        console.print(confidence_line(evaluation), soft_wrap=True)
        console.print(speed_line(evaluation, facts.input.wh), soft_wrap=True)
