"""A board's root folder on this machine: Debian 12 for arm64, run by qemu's user emulation.

A path below / is looked for in the root first and then on the host, so everything that is written
names its place in the root in full.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import librknnrt as stand_in
from conftest import DATA
from servers import program

MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ["python3", "libgomp1", "libstdc++6", "libsqlite3-0"]
BOARD = "orangepi-5-plus"
PYTHON = "/usr/bin/python3.11"
BUNDLE = "/var/lib/rkyolo/bundle"
BACKENDS = ("rknnlite", "rknnrt")
PICTURES = sorted((DATA / "demo" / "val" / "images").iterdir())[:6]
SLOW_S = 120
"""An emulated daemon starts in some ten seconds on a quiet machine."""


def packages(folder: Path) -> list[Path]:
    """Debian's packages for arm64 with all they depend on, fetched into a folder once, however many
    test processes ask for them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            _fetch(folder)
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def _fetch(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR} bookworm main\n")
    apt = [
        program("apt-get"),
        "-qq",
        *_options(
            APT__Architecture="arm64",
            APT__Architectures="arm64",
            APT__Install_Recommends="0",
            APT__Sandbox__User="",
            Acquire__Languages="none",
            Debug__NoLocking="1",
            Dir__State__lists=folder / "lists",
            Dir__State__status="/dev/null",
            Dir__Cache=folder / "cache",
            Dir__Etc__sourcelist=sources,
            Dir__Etc__sourceparts="-",
        ),
    ]
    subprocess.run([*apt, "update"], check=True, timeout=300)
    install = [*apt, "install", "--yes", "--download-only", *PACKAGES]
    subprocess.run(install, check=True, timeout=600, stdout=subprocess.DEVNULL)
    (folder / "whole").touch()


def _options(**settings: object) -> list[str]:
    named = (
        (name.replace("__", "::").replace("_", "-"), value) for name, value in settings.items()
    )
    return [part for name, value in named for part in ("-o", f"{name}={value}")]


def unpack(archives: Sequence[Path], root: Path) -> None:
    root.mkdir()
    for archive in archives:
        subprocess.run([program("dpkg-deb"), "-x", archive, root], check=True, timeout=60)


def python(root: Path) -> list[str]:
    """The command that starts a root's Python. It writes no bytecode, which could land on the
    host."""
    return [_qemu(), "-L", str(root), f"{root}{PYTHON}", "-B"]


class Emulated:
    """A board on which rkyolo is installed. bytecode: a folder for Python's own cache, without
    which each start takes its time."""

    def __init__(self, root: Path, npu: stand_in.StandIn, bytecode: Path):
        self.root = root
        self.npu = npu
        self._bytecode = bytecode
        self.environment = {"RKNN_STAND_IN": npu.environment["RKNN_STAND_IN"]}

    @property
    def rkyolo(self) -> list[str]:
        """The command that starts the installed rkyolo, as its first line would on a board; what
        this process has for its own Python is not for that one."""
        current = "/opt/rkyolo/current/bin"
        python = [_qemu(), "-0", f"{current}/python3", "-L", str(self.root)]
        options = ["-I", "-X", f"pycache_prefix={self._bytecode}"]
        return [*python, f"{self.root}{PYTHON}", *options, f"{current}/rkyolo"]

    @property
    def bundle(self) -> Path:
        """By its place on the host: qemu 7 asks the host alone whether a path may be read, which
        is what commands ask of their arguments."""
        return self.root / "var" / "lib" / "rkyolo" / "bundle"

    def run(self, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess:
        """rkyolo on the emulated board, with no network."""
        return subprocess.run(
            [*offline(), *self.rkyolo, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | self.environment,
        )


def config(folder: Path, backend: str, **engine: object) -> dict[str, object]:
    """Of a daemon on the emulated board that reads the pictures and writes JSON lines."""
    source = {"name": "pictures", "type": "files", "paths": [str(path) for path in PICTURES]}
    sink = {"type": "jsonl", "path": str(folder / "out.jsonl")}
    engine = {"backend": backend, "cores": [0, 1, 2], "deadline_s": 60} | engine
    return {"model": BUNDLE, "sources": [source], "sinks": [sink], "engine": engine}


def offline() -> list[str]:
    """A command in front of another, which then has no network."""
    return [program("unshare"), "--map-root-user", "--net"]


def make_board(root: Path, version: str = "2.5.0") -> None:
    """Give a root what an RK3588 has: what its kernel says, its nodes, and librknnrt."""
    shutil.copytree(DATA / "boards" / BOARD, root, dirs_exist_ok=True)
    for line in (root / "dev.list").read_text().splitlines():
        node = root / line.split()[-1].lstrip("/")
        node.parent.mkdir(parents=True, exist_ok=True)
        node.symlink_to("/dev/null")  # a character device
    library = root / "usr" / "lib" / "librknnrt.so"
    library.unlink(missing_ok=True)
    shutil.move(stand_in.build(root, version, stand_in.cross_compiler()), library)


def _qemu() -> str:
    return shutil.which("qemu-aarch64-static") or program("qemu-aarch64")


def tree(root: Path) -> dict[str, str]:
    """Every path below a folder, with what it is: to compare a before and an after."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            facts = path.lstat()
            leads = f"-> {path.readlink()}" if path.is_symlink() else ""
            size = facts.st_size if path.is_file() and not leads else ""
            found[str(path.relative_to(root))] = f"{facts.st_mode:o} {size}{leads}"
    return found
