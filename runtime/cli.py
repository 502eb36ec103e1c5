"""The command rkyolo. Host commands join it where the package convert is installed."""

import json
import logging
import signal
import sys
from collections import Counter
from contextlib import ExitStack, closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from runtime import __version__
from runtime.bench.command import bench
from runtime.doctor.command import doctor
from runtime.errors import CheckFailedError, NpuError, UserError
from runtime.mqtt.command import request
from runtime.size import parse_size
from runtime.terminal import json_output, say

app = typer.Typer(
    name="rkyolo",
    help="YOLOv5 on Rockchip NPUs, with the same boxes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.command()(doctor)
app.command()(bench)
app.command()(request)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rkyolo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|BUNDLE", help="A .pt, .onnx, .rknn or bundle.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print plain data.")] = False,
) -> None:
    """Say what a model is: anchors, strides, classes, and where it comes from."""
    from runtime import inspection

    plain = inspection.inspect(path)
    if as_json:
        print(json.dumps(plain, indent=1))
    else:
        _show_inspection(path, plain)


@app.command()
def detect(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL|BUNDLE", help="A .pt, .onnx, .rknn or bundle.")
    ],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Pictures, folders, videos.")
    ],
    size: Annotated[
        str | None, typer.Option(help="640 or HxW; what the model was built for.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="auto, onnxruntime, opencv, simulator, rknnrt or rknnlite.")
    ] = "auto",
    anchors: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="For an ONNX that does not decode.")
    ] = None,
    score: Annotated[float | None, typer.Option(help="Score threshold, 0 to 1 [0.25].")] = None,
    iou: Annotated[float | None, typer.Option(help="IoU threshold, 0 to 1 [0.45].")] = None,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write JSON lines.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write annotated files.")
    ] = None,
) -> None:
    """Find objects in pictures and videos."""
    from runtime.backends import open_backend
    from runtime.detector import Detector
    from runtime.model import open_model
    from runtime.pictures import find_files, read_pictures
    from runtime.results import AnnotatedFiles, json_line

    files = find_files(inputs)
    opened = open_model(model, parse_size(size) if size else None, anchors)
    thresholds = opened.thresholds.model_copy(update=_chosen(score=score, iou=iou))
    names = opened.facts.class_names
    with ExitStack() as stack:
        lines = stack.enter_context(json_output(json_to))
        annotated = stack.enter_context(AnnotatedFiles(save, names, files)) if save else None
        running = stack.enter_context(closing(open_backend(backend, opened)))
        detector = Detector(running, opened.facts, thresholds)
        for picture in read_pictures(files):
            found = detector(picture.bgr)
            if lines:
                print(json_line(picture, found, names), file=lines)
            if json_to != "-":
                _show_found(picture, found, names)
            if annotated:
                annotated.write(picture, found)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")],
    check: Annotated[
        bool, typer.Option("--check", help="Say whether it is good, and touch no hardware.")
    ] = False,
) -> None:
    """Watch cameras and deliver detections, until told to end."""
    from runtime import daemon

    if check:
        say(daemon.check(config))
        return
    service = daemon.Daemon(config)
    logging.basicConfig(
        level=service.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    service.run()


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from runtime.config import schema

    print(schema())


def _chosen(**options: float | None) -> dict[str, float]:
    """The thresholds that were given."""
    chosen = {name: value for name, value in options.items() if value is not None}
    for name, value in chosen.items():
        if not 0 <= value <= 1:
            raise UserError(f"--{name} {value:g} is no threshold: give a number from 0 to 1")
    return chosen


def _show_found(picture: Any, found: Any, names: tuple[str, ...]) -> None:
    height, width = picture.bgr.shape[:2]
    counts = Counter(names[i] for i in found.class_id.tolist())
    what = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
    frame = "" if picture.frames_per_second is None else f" frame {picture.frame}"
    say(f"{picture.file}{frame} {width}x{height}: {what}")


def _show_inspection(path: Path, plain: dict[str, Any]) -> None:
    say(f"{path}: {plain['kind']}")
    hidden = {"kind", "anchors_px", "strides", "names", "outputs", "agreement", "source", "tools"}
    hidden |= {"cannot_run"}
    for key, value in plain.items():
        if key not in hidden and value not in (None, []):
            say(f"  {key}: {value}")
    if plain["names"]:
        say(f"  names: {', '.join(plain['names'])}")
    for output in plain.get("outputs", []):
        say(f"  output {output['name']}: {' x '.join(map(str, output['shape']))}")
    for reason in plain.get("cannot_run", []):
        say(f"  cannot be run here: {reason}")
    if plain.get("agreement"):
        say(f"  agreement with float: F1 {plain['agreement']['f1']:.4f}")
    if plain["anchors_px"]:
        table = Table("stride", "anchors, width x height in pixels")
        for stride, pairs in zip(plain["strides"], plain["anchors_px"], strict=True):
            table.add_row(str(stride), "  ".join(f"{w:g} x {h:g}" for w, h in pairs))
        Console().print(table)


_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end(number: int, _: object) -> NoReturn:
    """Leave as after an error, so that nothing is left half-written; a second signal is ignored,
    since that takes no time."""
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> NoReturn:
    """Run the command line. Exit codes: 0 fine, 1 a check failed, 2 bad input or configuration,
    3 the NPU failed."""
    sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal that has not all letters
    for number in _ENDINGS:
        signal.signal(number, _end)
    arguments = sys.argv[1:]
    if find_spec("convert") is not None:
        host = import_module("convert.cli")
        host.register(app)
        arguments = host.with_default_values(arguments)
    try:
        app(arguments)
        sys.exit(0)
    except UserError as error:
        say(f"error: {' '.join(str(error).split())}", sys.stderr)
        sys.exit(2)
    except CheckFailedError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except NpuError as error:
        say(f"error: {error}; start it again, and rkyolo doctor looks for a cause", sys.stderr)
        sys.exit(3)
