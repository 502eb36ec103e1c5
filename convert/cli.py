"""The host's commands. Heavy libraries are imported when a command runs, not before."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from convert.arguments import (
    Behind,
    CalibrationPictures,
    Check,
    Chip,
    GivenAnchors,
    Heads,
    LeastAgreement,
    Model,
    NewBundle,
    Size,
    StemChoice,
    agreement_of,
    one_of,
    size_of,
)
from convert.board.command import board_package, deploy
from convert.evaluate.command import evaluate
from convert.tune.command import tune
from runtime.errors import UserError
from runtime.manifest import Activation, Algorithm, Outputs, Precision, Stem, Target

_PLUGIN = "tensorrt-plugin"


def register(app: typer.Typer) -> None:
    """Add the host's commands."""
    app.command()(export)
    app.command()(anchors)
    app.command()(convert)
    app.command()(evaluate)
    app.command()(cost)
    app.command()(tune)
    app.command()(board_package)
    app.command()(deploy)


def with_default_values(arguments: list[str]) -> list[str]:
    """Arguments with a value behind every --decode; it may stand alone, which typer cannot have."""
    completed = []
    for i, argument in enumerate(arguments):
        completed.append(argument)
        if argument == "--decode" and arguments[i + 1 : i + 2] not in (["yolov5"], [_PLUGIN]):
            completed.append("yolov5")
    return completed


def export(
    model: Model,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT.onnx", help="The file to write.")
    ],
    size: Size = None,
    anchors: GivenAnchors = None,
    activation: Behind = "none",
    heads: Heads = "one",
    decode: Annotated[
        str, typer.Option(metavar=f"[{_PLUGIN}]", help="Put the decode back behind the heads.")
    ] = "none",
    simplify: Annotated[bool, typer.Option(help="Run onnxsim and its check.")] = True,
) -> None:
    """Write the deploy graph: ONNX with one output a head, before any reshape."""
    from convert.export import Decode, export_decoded, outputs_of
    from convert.export import export as export_graph
    from convert.source import read_source
    from runtime.files import whole_file

    chosen, form, ending = (
        one_of("--activation", activation, Activation),
        one_of("--heads", heads, Outputs),
        one_of("--decode", decode, Decode),
    )
    if form != "one" and ending != "none":
        raise UserError("--decode puts heads together again: leave --heads split out")
    if out.suffix.lower() != ".onnx":
        raise UserError(f"-o {out} should end in .onnx")
    source = read_source(model, size_of(size), anchors)
    if ending == "none":
        facts, graph = export_graph(source, chosen, simplify, outputs=form)
        outputs = facts.tensors
    else:
        graph = export_decoded(source, ending, simplify)
        outputs = outputs_of(graph)
    with whole_file(out) as partial:
        partial.write_bytes(graph)
    for name, shape in outputs:
        print(f"{name}: {' x '.join(map(str, shape))}")
    print(f"wrote {out}")


def anchors(
    model: Model,
    style: Annotated[
        str, typer.Option("--format", metavar="yaml|rk-txt|c-header", help="How to write them.")
    ] = "yaml",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Where to [the terminal].")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw them beside a preset's.")
    ] = None,
    given: GivenAnchors = None,
) -> None:
    """Write a model's anchors, for the vendor's demos too."""
    from anchors import formats
    from convert.anchor_plot import write_plot
    from convert.source import read_source
    from runtime.files import whole_file

    writers = {
        "yaml": formats.to_yaml,
        "rk-txt": formats.to_rk_text,
        "c-header": formats.to_c_header,
    }
    if style not in writers:
        raise UserError(f"--format {style} is not known: choose {', '.join(writers)}")
    found = read_source(model, None, given).facts("none").anchors
    try:
        text = writers[style](found)
    except ValueError as error:
        raise UserError(f"{model} cannot be written as {style}: {error}") from error
    if plot:
        write_plot(plot, found)
    if out is None:
        print(text, end="")
        return
    with whole_file(out) as partial:
        partial.write_text(text, "utf-8")
    print(f"wrote {out}")
    if style == "c-header":
        print(f"rounding to whole pixels changes sizes by up to {formats.rounding_loss(found):.1%}")


def convert(
    model: Model,
    out: NewBundle,
    calibration: Annotated[Path | None, CalibrationPictures] = None,
    size: Size = None,
    anchors: GivenAnchors = None,
    activation: Behind = "sigmoid",
    stem: StemChoice = "none",
    heads: Heads = "one",
    target: Chip = "rk3588",
    precision: Annotated[str, typer.Option(metavar="int8|fp16")] = "int8",
    algorithm: Annotated[
        str, typer.Option(metavar="|".join(get_args(Algorithm)), help="How int8 ranges are chosen.")
    ] = "normal",
    hybrid_layers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Leave the N layers int8 serves worst in float16."),
    ] = None,
    auto_hybrid: Annotated[
        float | None,
        typer.Option(
            metavar="COSINE",
            help="Leave in float16 what the toolkit finds below that, like 0.99.",
        ),
    ] = None,
    hybrid: Annotated[
        list[str] | None,
        typer.Option(metavar="TENSOR", help="Leave a tensor in float16; may be given again."),
    ] = None,
    check: Check = None,
    min_agreement: LeastAgreement = 0.9,
) -> None:
    """Build a bundle for the board, and prove it on the simulator."""
    from convert.bundle import Request
    from convert.bundle import convert as convert_model
    from convert.options import Options
    from convert.progress import Steps

    options = Options(
        one_of("--target", target, Target),
        one_of("--precision", precision, Precision),
        one_of("--algorithm", algorithm, Algorithm),
        tuple(hybrid or ()),
        hybrid_layers,
        auto_hybrid,
    )
    options.check()
    request = Request(
        model=model,
        out=out,
        calibration=calibration,
        check=check,
        wh=size_of(size),
        anchors=anchors,
        activation=one_of("--activation", activation, Activation),
        stem=one_of("--stem", stem, Stem),
        outputs=one_of("--heads", heads, Outputs),
        options=options,
        least_f1=agreement_of(min_agreement),
    )
    with Steps() as steps:
        outcome = convert_model(request, steps)
    print(outcome.report)
    print(f"wrote {outcome.bundle}")


def cost(
    model: Annotated[
        Path, typer.Argument(metavar="BUNDLE|MODEL", help="A bundle, or a YOLOv5 .pt or .onnx.")
    ],
    size: Size = None,
    anchors: GivenAnchors = None,
    activation: Annotated[
        str | None, typer.Option(metavar="none|sigmoid", help="Behind each head [sigmoid].")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="|".join(get_args(Target)), help="The chip [rk3588].")
    ] = None,
    stem: Annotated[
        str | None, typer.Option(metavar="|".join(get_args(Stem)), help="How pictures are fed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain data.")] = False,
) -> None:
    """Say what a picture costs on the NPU, by the vendor's compiler's own model of it.

    A MODEL is built in both precisions for this, int8 on made-up pictures: cycles and sizes do not
    depend on them.
    """
    import json

    from convert.cost import as_plain, as_text
    from convert.estimate import estimate
    from convert.progress import Steps

    with Steps() as steps:
        costs, chip, hybrid = estimate(
            model,
            steps,
            size_of(size),
            anchors,
            activation and one_of("--activation", activation, Activation),
            target and one_of("--target", target, Target),
            stem and one_of("--stem", stem, Stem),
        )
    if as_json:
        print(json.dumps(as_plain(costs, chip, hybrid), indent=1))
    else:
        print(as_text(costs, chip, hybrid))
