"""Read a board's files below a root, and never write: what is missing and what cannot be read are
told apart."""

import enum
import os
import stat
from pathlib import Path


class Absent(enum.Enum):
    """Why there is nothing to read."""

    MISSING = "is missing"
    UNREADABLE = "cannot be read"


class Disk:
    """The files below a root folder: "/" on the board itself, or a copy of a board's files.

    Paths are absolute, as on the board. Anything but a regular file is never opened.
    """

    def __init__(self, root: Path = Path("/")):
        self.root = root

    @property
    def live(self) -> bool:
        """Whether these are the files of the machine this runs on."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read(self, path: str, limit: int = 2**16) -> bytes | Absent:
        """A file's first bytes."""
        facts = self.stat(path)
        if isinstance(facts, Absent):
            return facts
        if not stat.S_ISREG(facts.st_mode):
            return Absent.UNREADABLE
        try:
            with self.at(path).open("rb") as file:
                return file.read(limit)
        except OSError as error:
            return _why(error)

    def text(self, path: str) -> str | Absent:
        """A file's text, without the line break or NUL behind it."""
        data = self.read(path)
        return data if isinstance(data, Absent) else data.decode("utf-8", "replace").strip("\0\n ")

    def stat(self, path: str) -> os.stat_result | Absent:
        """What a path leads to: its mode, owner and group."""
        try:
            return self.at(path).stat()
        except (OSError, ValueError) as error:
            return _why(error)

    def exists(self, path: str) -> bool:
        return not isinstance(self.stat(path), Absent)

    def is_folder(self, path: str) -> bool:
        facts = self.stat(path)
        return not isinstance(facts, Absent) and stat.S_ISDIR(facts.st_mode)

    def is_link(self, path: str) -> bool:
        try:
            return self.at(path).is_symlink()
        except OSError:
            return False

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted; nothing where there is none or it cannot be read."""
        try:
            return sorted(path.name for path in self.at(folder).iterdir())
        except OSError:
            return []

    def place(self, path: str) -> str:
        """Where a path leads to after all links, as seen from the root."""
        real = os.path.realpath(self.at(path))
        return os.path.relpath(real, os.path.realpath(self.root))


def _why(error: Exception) -> Absent:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return Absent.MISSING if missing else Absent.UNREADABLE
