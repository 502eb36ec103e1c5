"""The command rkyolo bench: a table for people, or plain data for programs."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from runtime.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def bench(
    model: Annotated[Path, typer.Argument(metavar="BUNDLE|MODEL", help="What to measure.")],
    backend: Annotated[str, typer.Option(help="As for detect.")] = "auto",
    contexts_per_core: Annotated[int, typer.Option(min=1, max=8)] = 2,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="To look at; else 1280x720 of noise.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="For each line.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain data.")] = False,
) -> None:
    """Measure frames a second and where the time goes: each core, and all together."""
    from runtime.bench.measure import bench, report
    from runtime.model import open_model

    opened, bgr = open_model(model), _picture(picture)
    rows = []
    for row in bench(opened, backend, contexts_per_core, bgr, seconds):
        print(f"{row.on}: {row.frames_per_second:.1f} frames a second", file=sys.stderr)
        rows.append(row)
    plain = report(opened, backend, bgr, seconds, rows)
    if as_json:
        print(json.dumps(plain, indent=1))
    else:
        _show(plain)


def _picture(path: Path | None) -> "np.ndarray":
    """A picture to measure with, uint8 (h, w, 3) BGR."""
    import numpy as np

    from runtime.pictures import read_picture

    if path is None:
        return np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    bgr = read_picture(path)
    if bgr is None:
        raise UserError(f"--picture {path} cannot be read: give a picture file")
    return bgr


_COLUMNS = ("on", "contexts", "frames/s", "letterbox", "infer", "decode", "CPU", "memory")


def _show(plain: dict[str, Any]) -> None:
    """The table: medians of each stage and CPU time a frame in ms, memory in MB."""
    # no wider than the narrowest terminal
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column(_COLUMNS[0], no_wrap=True)
    for column in _COLUMNS[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in plain["rows"]:
        stages = [f"{row['stages_ms'][stage]:.2f}" for stage in ("letterbox", "infer", "decode")]
        figures = [str(row["contexts"]), f"{row['frames_per_second']:.1f}", *stages]
        table.add_row(row["on"], *figures, f"{row['cpu_ms']:.2f}", f"{row['memory_mb']:.0f}")
    Console().print(table)
    print("letterbox, infer, decode, CPU: ms a frame; memory: MB")
    published = plain["published"]
    if published:
        name, rate = published["model"], published["frames_per_second"]
        print(
            f"the vendor's table, one RK3588 core, inference alone: {name} {rate:g} frames a second"
        )
