"""The commands that bring rkyolo to a board."""

from pathlib import Path
from typing import Annotated

import typer


def board_package(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="What the board is to run.")
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where to write.")
    ] = Path("dist"),
    python: Annotated[
        list[str] | None, typer.Option(metavar="X.Y", help="The board's Python; repeatable [all].")
    ] = None,
) -> None:
    """Write a package that installs on a board with no network."""
    from convert.board.package import PYTHONS, write_package
    from convert.progress import Steps

    with Steps() as steps:
        for version in python or PYTHONS:
            print(write_package(bundle, out, version, steps))
