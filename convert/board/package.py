"""The board's package: everything it needs, for one version of Python, in one archive."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from gzip import GzipFile
from pathlib import Path

from convert.progress import Steps
from runtime import __version__
from runtime.errors import UserError
from runtime.files import whole_file
from runtime.manifest import sha256_of
from runtime.model import open_bundle

PYTHONS = ("3.10", "3.11", "3.12")
"""The CPython versions there are wheels for, the vendor's among them."""

_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
"""What runs on the boards' systems: glibc is 2.31 on Debian 11, and newer later."""

_PROJECT = Path(__file__).resolve().parent.parent.parent
_REQUIREMENTS = _PROJECT / "requirements" / "board.txt"
_ON_BOARD = ("anchors", "runtime", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
_SERVICE = ("install.sh", "rkyolo.service", "rkyolo.yaml")
_EPOCH = 1577836800
"""2020-01-01: all files have this date, so that the same content is the same archive."""


def write_package(bundle: Path | None, folder: Path, python: str, steps: Steps) -> Path:
    """Write rkyolo-board-VERSION-pyXY-aarch64.tar.gz, which unpacks to a folder of that name, into
    a folder; gives its path.

    bundle: what the board is to run; None where it has one or gets it later. python: one of
    PYTHONS. Raises UserError for what is no bundle, where wheels cannot be had, and where this is
    not the project's clone.
    """
    if python not in PYTHONS:
        raise UserError(f"--python {python} has no board package: choose {', '.join(PYTHONS)}")
    if not _REQUIREMENTS.is_file():
        raise UserError("a board package is made from rkyolo's clone: run make board-package there")
    toolkit = open_bundle(bundle).toolkit if bundle else None
    stem = f"rkyolo-board-{__version__}-py{python.replace('.', '')}-aarch64"
    path = folder / f"{stem}.tar.gz"
    with tempfile.TemporaryDirectory(prefix="rkyolo-") as scratch, whole_file(path) as archive:
        root = Path(scratch) / stem
        wheels = root / "wheels"
        wheels.mkdir(parents=True)
        with steps.step(f"Fetch wheels for Python {python} on aarch64"):
            _fetch(wheels, python)
        with steps.step("Build rkyolo's wheel"):
            _build(wheels, Path(scratch) / "source")
        for file in _SERVICE:
            shutil.copy(_PROJECT / "runtime" / "service" / file, root)
        (root / "package.env").write_text(_facts(root, python, toolkit), "ascii")
        if bundle:
            shutil.copytree(bundle, root / "bundle")
        with steps.step(f"Write {path}"):
            _pack(root, archive)
    return path


def _fetch(wheels: Path, python: str) -> None:
    platforms = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    chosen = ["--implementation", "cp", "--python-version", python, "--only-binary=:all:"]
    _pip("download", "--no-deps", *chosen, *platforms, "-d", str(wheels), "-r", str(_REQUIREMENTS))


def _build(wheels: Path, source: Path) -> None:
    """rkyolo's own wheel, of what the board needs alone."""
    source.mkdir()
    for name in _ON_BOARD:
        if (_PROJECT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(_PROJECT / name, source / name, ignore=ignored)
        else:
            shutil.copy(_PROJECT / name, source)
    for path in source.rglob("*"):  # whatever the clone's umask was
        path.chmod(0o755 if path.is_dir() else 0o644)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(wheels), str(source))


def _pip(*arguments: str) -> None:
    """Run pip. Raises UserError with the last thing it said."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(_EPOCH)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, umask=0o022)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = said[0].removeprefix("ERROR: ") if said else f"exit code {done.returncode}"
        raise UserError(f"pip cannot {arguments[0]} what the board needs: {why}")


def _facts(root: Path, python: str, toolkit: str | None) -> str:
    """What install.sh has to know, as its shell reads it."""
    facts = {
        "VERSION": __version__,
        "ID": f"{__version__}-{_digest(root)}",
        "PYTHON": python,
        "TOOLKIT": toolkit or "",
        "PLATFORMS": " ".join(_PLATFORMS),
    }
    return "".join(f"{name}='{value}'\n" for name, value in facts.items())


def _digest(root: Path) -> str:
    """Of the wheels and what is beside them: another one is another release."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = "".join(f"{path.name} {sha256_of(path.read_bytes())}\n" for path in files)
    return hashlib.sha256(names.encode()).hexdigest()[:8]


def _pack(root: Path, archive: Path) -> None:
    """The folder as .tar.gz; nothing in it says when or by whom it was made."""
    with archive.open("wb") as file, GzipFile("", "wb", 1, file, mtime=_EPOCH) as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in [root, *sorted(root.rglob("*"))]:
                tar.add(path, path.relative_to(root.parent), recursive=False, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = _EPOCH
    member.mode = 0o755 if member.isdir() or member.name.endswith(".sh") else 0o644
    return member
