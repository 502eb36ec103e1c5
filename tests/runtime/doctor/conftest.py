"""Recorded boards: the files that say what a board is, and in dev.list, as ls would show them, the
device nodes, which cannot be kept as files."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.doctor.board import Board, Process
from runtime.doctor.disk import Absent, Disk
from runtime.doctor.user import named_user

RIGHTS = {"r": 4, "w": 2, "x": 1, "-": 0}
NOW = 1_790_000_000.0


def nodes(root: Path) -> dict[str, tuple[int, str, str]]:
    """(permission bits, owner, group) by path."""
    lines = (root / "dev.list").read_text().split("\n") if (root / "dev.list").exists() else []
    found = {}
    for shown, owner, group, path in (line.split() for line in lines if line):
        found[path] = (mode_of(shown), owner, group)
    return found


def mode_of(shown: str) -> int:
    """The bits of crw-rw----."""
    thirds = (shown[i : i + 3] for i in (1, 4, 7))
    first, second, third = (sum(RIGHTS[letter] for letter in letters) for letters in thirds)
    return first << 6 | second << 3 | third


class RecordedDisk(Disk):
    """A recorded board: its device nodes are what dev.list says, and hidden paths are closed."""

    def __init__(self, root: Path, hidden: tuple[str, ...] = ()):
        super().__init__(root)
        self.nodes = nodes(root)
        self.hidden = hidden

    def stat(self, path):
        if path.startswith(self.hidden):
            return Absent.UNREADABLE
        if path not in self.nodes:
            return super().stat(path)
        bits, owner, group = self.nodes[path]
        ids = (self._id("/etc/passwd", owner), self._id("/etc/group", group))
        return os.stat_result((stat.S_IFCHR | bits, 0, 0, 1, *ids, 0, 0, 0, 0))

    def names(self, folder):
        known = (Path(path) for path in self.nodes)
        extra = {path.name for path in known if str(path.parent) == folder}
        return sorted(extra | set(super().names(folder)))

    def _id(self, path: str, name: str) -> int:
        lines = (line.split(":") for line in self.text(path).splitlines())
        return next(int(fields[2]) for fields in lines if fields[0] == name)


class RecordedProcess(Process):
    """A process on Python 3.11 with rknn-toolkit-lite2 2.5.0, unless it is said otherwise."""

    def __init__(self, packages=None, **facts):
        super().__init__(**{"environ": {}, "python": (3, 11), "now": lambda: NOW} | facts)
        object.__setattr__(self, "packages", packages)

    def package(self, name):
        packages = {"rknn-toolkit-lite2": "2.5.0"} if self.packages is None else self.packages
        return packages.get(name)


@pytest.fixture
def boards(data) -> Path:
    return data / "boards"


@pytest.fixture
def recorded(boards, tmp_path) -> Callable[..., Board]:
    """recorded(name) gives a board whose files are a copy that the test may change;
    recorded.process makes another process for it."""

    def open_board(name, user=None, hidden=(), process=None, live=True) -> Board:
        root = tmp_path / name
        if not root.exists():
            shutil.copytree(boards / name, root)
        disk = RecordedDisk(root, hidden)
        first = (root / "etc" / "passwd").read_text().splitlines()[2].split(":")[0]
        whose = named_user(disk, user or first)
        return Board(disk, whose, (process or RecordedProcess()) if live else None)

    open_board.process = RecordedProcess
    return open_board


@pytest.fixture
def built(boards, tmp_path) -> Callable[[str], SimpleNamespace]:
    """built(name) gives a folder for --root, whose nodes are plain files of this process's group,
    there called render, and a user of that board for --user."""

    def build(name) -> SimpleNamespace:
        root = tmp_path / name
        shutil.copytree(boards / name, root)
        uid = os.getuid() + 4321
        for path, (bits, _, _) in nodes(root).items():
            node = root / path.lstrip("/")
            node.parent.mkdir(parents=True, exist_ok=True)
            node.touch()
            node.chmod(bits)
            os.chown(node, -1, os.getgid())
        passwd, group = root / "etc" / "passwd", root / "etc" / "group"
        name = passwd.read_text().splitlines()[2].split(":")[0]
        member = name if f"render:x:107:{name}" in group.read_text() else ""
        passwd.write_text(f"{name}:x:{uid}:{uid}:::\n")
        group.write_text(f"render:x:{os.getgid()}:{member}\n{name}:x:{uid}:\n")
        return SimpleNamespace(root=root, user=name)

    return build
