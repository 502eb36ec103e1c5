"""The host's commands. Heavy libraries are imported when a command runs, not before."""

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.table import Table

from runtime.cli import parse_size
from runtime.errors import UserError
from runtime.manifest import Activation, Algorithm, Precision, Target

Size = Annotated[str, typer.Option(metavar="640|HxW", help="Input size, height first.")]


def register(app: typer.Typer) -> None:
    """Add the host's commands."""
    app.command()(export)
    app.command()(convert)


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL.pt", help="A YOLOv5 checkpoint.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT.onnx", help="The file to write.")
    ],
    size: Size = "640",
    activation: Annotated[
        str, typer.Option(metavar="none|sigmoid", help="Behind each head.")
    ] = "none",
    simplify: Annotated[bool, typer.Option(help="Run onnxsim and its check.")] = True,
) -> None:
    """Write the deploy graph: ONNX with one output a head, before any reshape."""
    from convert.checkpoint import read_checkpoint
    from convert.export import export as export_graph
    from runtime.files import whole_file

    wh, chosen = parse_size(size), _choice("--activation", activation, Activation)
    if out.suffix.lower() != ".onnx":
        raise UserError(f"-o {out} should end in .onnx")
    facts, graph = export_graph(read_checkpoint(model), wh, chosen, simplify)
    with whole_file(out) as partial:
        partial.write_bytes(graph)
    for i, head in enumerate(facts.heads):
        print(f"{head.output}: {' x '.join(map(str, facts.head_shape(i)))}")
    print(f"wrote {out}")


def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL.pt", help="A YOLOv5 checkpoint.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="BUNDLE", help="The folder to write.")
    ],
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|LIST.txt|data.yaml|VIDEO", help="Pictures like the camera's."),
    ] = None,
    size: Size = "640",
    activation: Annotated[
        str, typer.Option(metavar="none|sigmoid", help="Behind each head.")
    ] = "sigmoid",
    target: Annotated[
        str, typer.Option(metavar="|".join(get_args(Target)), help="The chip.")
    ] = "rk3588",
    precision: Annotated[str, typer.Option(metavar="int8|fp16")] = "int8",
    algorithm: Annotated[
        str, typer.Option(metavar="|".join(get_args(Algorithm)), help="How int8 ranges are chosen.")
    ] = "normal",
    check: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Pictures to compare on [some of calibration]."),
    ] = None,
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="The F1 between float and built that passes.")
    ] = 0.9,
) -> None:
    """Build a bundle for the board, and prove it on the simulator."""
    from convert.bundle import Request
    from convert.bundle import convert as convert_model
    from convert.progress import Steps
    from convert.quantize import Options

    options = Options(
        _choice("--target", target, Target),
        _choice("--precision", precision, Precision),
        _choice("--algorithm", algorithm, Algorithm),
    )
    request = Request(
        model=model,
        out=out,
        calibration=calibration,
        check=check,
        wh=parse_size(size),
        activation=_choice("--activation", activation, Activation),
        options=options,
        least_f1=min_agreement,
    )
    with Steps() as steps:
        outcome = convert_model(request, steps)
    _show(outcome)


def _show(outcome) -> None:
    from convert.report import agreement_rows

    console = Console(highlight=False, markup=False)
    agreement = outcome.verdict.agreement
    table = Table("float against built", "", title="Agreement")
    for row in agreement_rows(agreement):
        table.add_row(*row)
    console.print(table)
    heads = Table("head", "cosine", "worst group", "its cosine")
    for head in agreement.heads:
        heads.add_row(
            head.output, f"{head.cosine:.4f}", head.worst_group, f"{head.worst_cosine:.4f}"
        )
    console.print(heads)
    for warning in outcome.verdict.warnings:
        console.print(f"warning: {warning}")
    console.print(outcome.verdict.headline())
    console.print(f"wrote {outcome.bundle}", soft_wrap=True)


def _choice(option: str, value: str, allowed: object) -> str:
    choices = get_args(allowed)
    if value not in choices:
        raise UserError(f"{option} {value} is not known: choose {', '.join(choices)}")
    return value
