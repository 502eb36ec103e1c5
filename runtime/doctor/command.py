"""The command rkyolo doctor: a table for people, or plain data for programs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.errors import CheckFailedError, UserError

if TYPE_CHECKING:
    from runtime.doctor.board import Board
    from runtime.doctor.finding import Finding
    from runtime.doctor.model import CompiledModel

SCHEMA_VERSION = 1


def doctor(
    model: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE|RKNN", help="What is to run here.")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(metavar="DEVICE", help="Like /dev/video0; repeatable.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose permissions, like a service's user.")
    ] = None,
    root: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Look at a copy of a board's files instead.")
    ] = Path("/"),
    as_json: Annotated[bool, typer.Option("--json", help="Print plain data.")] = False,
) -> None:
    """Check this board, its libraries and a model, and say how to mend what is wrong."""
    from runtime.doctor.checks import examine
    from runtime.doctor.model import look_at_model

    for path in camera or []:
        if not path.startswith("/"):
            raise UserError(f"--camera {path} is no device: give one like /dev/video0")
    opened = look_at_model(model) if model else None
    board = _open_board(root, user)
    findings = examine(board, opened, camera or [])
    plain = summary(board, opened, findings)
    if as_json:
        print(json.dumps(plain, indent=1))
    else:
        _show(findings)
    if plain["faults"]:
        raise CheckFailedError(f"{plain['faults']} of {len(findings)} checks found a fault")


def _open_board(root: Path, user: str | None) -> "Board":
    from runtime.doctor.board import Board, Process
    from runtime.doctor.disk import Disk
    from runtime.doctor.user import current_user, named_user

    disk = Disk(root.absolute())
    if not disk.is_folder("/"):
        raise UserError(f"--root {root} is no folder: give a copy of a board's files")
    whose = named_user(disk, user) if user else current_user(disk)
    return Board(disk, whose, Process() if disk.live else None)


def summary(
    board: "Board", model: "CompiledModel | None", findings: "list[Finding]"
) -> dict[str, Any]:
    """Findings as plain data; its keys stay, new ones may come."""
    return {
        "schema_version": SCHEMA_VERSION,
        "soc": board.soc,
        "board": board.name,
        "kernel": board.kernel,
        "user": board.user.name,
        "model": str(model.path) if model else None,
        "faults": sum(finding.state == "fault" for finding in findings),
        "warnings": sum(finding.state == "warning" for finding in findings),
        "findings": [finding.plain() for finding in findings],
    }


def _show(findings: "list[Finding]") -> None:
    """A line each, and one for the fix; never broken, so that commands can be copied."""
    for finding in findings:
        _say(f"{finding.state:8} {finding.check:10} {finding.what}")
        if finding.fix:
            _say(f"{'':8} {'':10} -> {finding.fix}")


def _say(text: str) -> None:
    """Print a line. Names from files can hold anything, also what commands a terminal."""
    print("".join(letter if letter.isprintable() else "?" for letter in text))
