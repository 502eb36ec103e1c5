"""Arguments and options that several of the host's commands have, and what they are checked for."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from runtime.errors import UserError
from runtime.manifest import Outputs, Stem, Target
from runtime.size import parse_size

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A YOLOv5 .pt or .onnx.")]
NewBundle = Annotated[
    Path, typer.Option("-o", "--out", metavar="BUNDLE", help="The folder to write.")
]
Size = Annotated[
    str | None, typer.Option(metavar="640|HxW", help="Input size [640, or the ONNX file's own].")
]
GivenAnchors = Annotated[
    str | None, typer.Option("--anchors", metavar="PRESET|FILE", help="For an ONNX without them.")
]
Behind = Annotated[str, typer.Option(metavar="none|sigmoid", help="Behind each head.")]
StemChoice = Annotated[
    str, typer.Option("--stem", metavar="|".join(get_args(Stem)), help="How pictures are fed.")
]
Heads = Annotated[
    str, typer.Option("--heads", metavar="|".join(get_args(Outputs)), help="Outputs a head.")
]
Chip = Annotated[
    str, typer.Option("--target", metavar="|".join(get_args(Target)), help="The chip.")
]
CalibrationPictures = typer.Option(
    "--calibration", metavar="FOLDER|LIST.txt|data.yaml|VIDEO", help="Pictures like the camera's."
)
Check = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Pictures to compare on [some of calibration]."),
]
LeastAgreement = Annotated[
    float,
    typer.Option("--min-agreement", help="The F1 between float and built that passes, 0 to 1."),
]
Pictures = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where a COCO JSON's pictures are.")
]
Split = Annotated[
    str | None, typer.Option(metavar="val|test|train", help="Which of data.yaml's [val].")
]
SkipBadLabels = Annotated[
    bool, typer.Option("--skip-bad-labels", help="Leave pictures with bad labels out.")
]


def size_of(text: str | None) -> tuple[int, int] | None:
    """(width, height) of a --size, None where none was given. Raises UserError."""
    return parse_size(text) if text else None


def one_of(option: str, value: str, allowed: object) -> str:
    """A value that a Literal allows. Raises UserError."""
    choices = get_args(allowed)
    if value not in choices:
        raise UserError(f"{option} {value} is not known: choose {', '.join(choices)}")
    return value


def agreement_of(value: float) -> float:
    """An F1. Raises UserError."""
    if not 0 <= value <= 1:
        raise UserError(f"--min-agreement {value:g} is no F1: give 0 to 1")
    return value
