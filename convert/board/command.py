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


def deploy(
    board: Annotated[str, typer.Argument(metavar="USER@HOST", help="As ssh is told it.")],
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="What to run from now on.")
    ] = None,
    ssh: Annotated[
        str, typer.Option(metavar="COMMAND", help='Such as "ssh -p 2222 -i key".')
    ] = "ssh",
    watch: Annotated[
        int, typer.Option(metavar="SECONDS", min=0, help="How long the service has to stay up.")
    ] = 10,
    python: Annotated[
        str | None, typer.Option(metavar="X.Y", help="The board's Python [what is found].")
    ] = None,
    board_python: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="The Python there to install with.")
    ] = None,
    root: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="A board's image there, instead of itself.")
    ] = None,
    systemctl: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="With --root, what to call there.")
    ] = None,
) -> None:
    """Install on a board over ssh and start it there; what ran before is put back if need be."""
    from convert.board.deploy import Options, bring, install
    from convert.progress import Steps

    options = Options(ssh, python, watch, root, systemctl, board_python)
    with Steps() as steps:
        reached, command = bring(board, bundle, options, steps)
    install(reached, command)
