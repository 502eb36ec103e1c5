"""Bring a package to a board over ssh, and have it installed there."""

import shlex
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from convert.board.package import PYTHONS, write_package
from convert.board.remote import Asked, Board
from convert.progress import Steps
from runtime.errors import CheckFailedError, UserError
from runtime.model import open_bundle

_COMMANDS = ("python3", *(f"python{version}" for version in reversed(PYTHONS)))
"""Where a board may have its Python, the likeliest first."""


@dataclass(frozen=True)
class Options:
    """How to deploy. ssh: the command, with its options. python: the version to pack for, None for
    what is found. The rest is for install.sh: watch_s, how long the service has to stay up; root, a
    board's image on the machine, with the systemctl and the Python that are called there."""

    ssh: str = "ssh"
    python: str | None = None
    watch_s: int = 10
    root: str | None = None
    systemctl: str | None = None
    board_python: str | None = None


def bring(name: str, bundle: Path | None, options: Options, steps: Steps) -> tuple[Board, str]:
    """Bring a package with a bundle, or without one, to a board; gives the board, and the command
    that installs it there. Raises UserError, and until it knows that the board can take it, nothing
    is sent."""
    if bundle:
        open_bundle(bundle)
    board = Board(name, options.ssh)
    with steps.step(f"Ask {name} what it is"):
        asked = board.ask([options.board_python] if options.board_python else _COMMANDS)
    version, command = choose_python(name, asked, options)
    with tempfile.TemporaryDirectory(prefix="rkyolo-") as scratch:
        archive = write_package(bundle, Path(scratch), version, steps)
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        with steps.step(f"Send it to {name}"):
            place = board.send(Path(scratch) / archive.name.removesuffix(".tar.gz"))
    return board, installing(place, bundle is not None, command, asked, options)


def choose_python(name: str, asked: Asked, options: Options) -> tuple[str, str]:
    """(version, command) of the Python to install with. Raises UserError for a machine that can run
    no package, or cannot install one; below a root of its own that is left to whoever runs it."""
    if not options.root and asked.machine != "aarch64":
        raise UserError(f"{name} is {asked.machine or 'silent'}, and packages are for 64-bit ARM")
    if not asked.rsync:
        raise UserError(f"there is no rsync on {name}: sudo apt install rsync there")
    if not (options.root or asked.root or asked.sudo):
        raise UserError(f"sudo on {name} asks for a password: deploy as root, or allow NOPASSWD")
    wanted = (options.python,) if options.python else PYTHONS
    for version, command in asked.pythons:
        if version in wanted:
            return version, command
    there = ", ".join(dict.fromkeys(version for version, _ in asked.pythons)) or "none"
    raise UserError(f"{name} has no Python {' or '.join(wanted)}, but {there}: install one there")


def installing(place: str, bundle: bool, python: str, asked: Asked, options: Options) -> str:
    """The command that installs what was sent to a place, for the machine's shell."""
    sudo = [] if options.root or asked.root else ["sudo", "-n"]
    command = [
        *sudo,
        "./install.sh",
        "--start",
        "--watch",
        str(options.watch_s),
        "--python",
        python,
    ]
    if bundle:
        command += ["--bundle", "bundle"]
    if options.root:
        command += ["--root", options.root]
    if options.systemctl:
        command += ["--systemctl", options.systemctl]
    return f"cd {shlex.quote(place)} && exec {shlex.join(command)}"


def install(board: Board, command: str) -> None:
    """Install on a board. Raises CheckFailedError where the service did not come up, and UserError
    where nothing was installed."""
    code, error = board.run(command)
    if code == 1:
        raise CheckFailedError(f"{board.name}: {error or 'doctor found a fault, see above'}")
    if code == 255:
        raise UserError(
            f"{board.name} is no longer reached: what was begun there is finished, or put back;"
            " deploy again to see which"
        )
    if code != 0:
        raise UserError(f"{board.name}: {error or f'install.sh ended with code {code}'}")
