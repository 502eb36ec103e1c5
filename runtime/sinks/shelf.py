"""A folder of pictures or videos named by source and time, of which the newest stay."""

import logging
import re
import shutil
import tempfile
import time
from collections import deque
from datetime import datetime, timezone
from pathlib import Path

from runtime.errors import UserError
from runtime.sinks.lost import cannot_write

log = logging.getLogger(__name__)

_LEFTOVER_S = 86_400
_LONGEST_WORD = 100


class Shelf:
    """Files SOURCE-TIME-WORD.mp4, or another suffix, in a folder: at most keep of each source. The
    folder is looked through once a source; files that are named otherwise are left alone.

    Making one makes the folder, and removes what a power cut more than a day ago left of a file.
    Raises UserError where it is a file, SinkLostError where it cannot be written to.
    """

    def __init__(self, folder: Path, suffix: str, keep: int):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file: give a folder")
        self._folder = folder
        self._suffix = suffix
        self._keep = keep
        self._kept: dict[str, deque[Path]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            self._remove_leftovers()
        except OSError as error:
            raise cannot_write(folder, error) from error

    def _remove_leftovers(self) -> None:
        """Remove files of whole_file, which have its random names, that nobody writes any more."""
        ours = re.compile(rf"\.[a-z0-9_]{{8}}{re.escape(self._suffix)}")
        for path in self._folder.iterdir():
            if ours.fullmatch(path.name) and path.lstat().st_mtime < time.time() - _LEFTOVER_S:
                path.unlink(missing_ok=True)
                log.info("removed %s, which was never finished", path)

    def free_mb(self) -> float:
        """Megabytes free in the folder, which is made again where it has gone. Raises
        SinkLostError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self._folder).free / 1e6
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def target(self, source: str, captured_at: float, word: str = "", digits: int = 0) -> Path:
        """A path that is not taken, for a picture or video of that time, in unix seconds; so many
        digits of its fraction are in the name."""
        name = f"{source}-{_stamp(captured_at, digits)}"
        if word:
            name += f"-{_in_a_name(word)}"
        path, count = self._folder / f"{name}{self._suffix}", 2
        while path.exists():
            path, count = self._folder / f"{name}-{count}{self._suffix}", count + 1
        return path

    def add(self, source: str, path: Path) -> None:
        """A file of that source is there now: the oldest beyond the limit go."""
        try:
            if source not in self._kept:
                self._kept[source] = deque(p for p in self._found(source) if p != path)
            kept = self._kept[source]
            kept.append(path)
            while len(kept) > self._keep:
                kept.popleft().unlink(missing_ok=True)
        except OSError as error:  # the new file is there: no reason to write it once more
            log.warning("cannot remove old files of %s: %s", source, error)

    def _found(self, source: str) -> list[Path]:
        """The files of that source, oldest first by what their names say."""
        stamp = r"(\d{8}T\d{6}(?:\.\d+)?Z)"
        ours = re.compile(rf"{re.escape(source)}-{stamp}(?:-.*)?{re.escape(self._suffix)}", re.S)
        found = []
        for path in self._folder.iterdir():
            match = ours.fullmatch(path.name)
            if match and path.is_file() and not path.is_symlink():
                found.append((match[1], path.stat().st_mtime, path))
        return [path for *_, path in sorted(found)]


def _stamp(unix_s: float, digits: int) -> str:
    """The UTC time as a part of file names that sorts: 20261121T103000.123Z."""
    whole, fraction = divmod(round(unix_s * 1000), 1000)
    text = datetime.fromtimestamp(whole, timezone.utc).strftime("%Y%m%dT%H%M%S")
    return f"{text}.{fraction:03d}"[: len(text) + 1 + digits].rstrip(".") + "Z"


def _in_a_name(word: str) -> str:
    """A word, such as a class's name, as a part of file names: letters and digits of any script."""
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in word)
    return kept.encode()[:_LONGEST_WORD].decode(errors="ignore")
