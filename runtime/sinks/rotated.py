"""A file of lines that is begun anew when it is full."""

import json
import os
import stat
from contextlib import suppress
from pathlib import Path

from runtime.errors import UserError
from runtime.sinks.lost import cannot_write

_LONGEST_LINE = 2**20
_BEGINNING = b'{"source": '


class RotatedFile:
    """A file lines are appended to: FILE; when full it becomes FILE.1, that one FILE.2, and so on
    up to keep. One that others move away or remove is begun anew.

    largest: in bytes. Making one makes the folder, and mends a last line that a power cut left half
    written. That raises UserError where the file holds other things, or is none; SinkLostError
    where it cannot be opened.
    """

    def __init__(self, path: Path, largest: int, keep: int):
        self._path = Path(os.path.realpath(path))
        self._largest = largest
        self._keep = keep
        self._number: int | None = None
        self._open()

    def write(self, line: bytes) -> None:
        """Append a line, with its end; all of it or, with SinkLostError, nothing."""
        try:
            if self._has_moved():
                self.close()
            self._open()
            size = os.fstat(self._number).st_size
            if size and size + len(line) > self._largest:
                self._rotate()
                size = 0
            self._append(line, size)
        except OSError as error:
            self.close()
            raise cannot_write(str(self._path), error) from error

    def _append(self, line: bytes, size: int) -> None:
        try:
            while line:
                line = line[os.write(self._number, line) :]
        except OSError:
            with suppress(OSError):  # where this fails too, opening it again repairs it
                os.ftruncate(self._number, size)
            raise

    def _has_moved(self) -> bool:
        if self._number is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._number), self._path.stat())
        except FileNotFoundError:
            return True

    def _open(self) -> None:
        """Open it, if it is not; the folder is made. Raises UserError where it is none of ours."""
        if self._number is not None:
            return
        path = self._path
        try:
            if path.is_dir():
                raise UserError(f"{path} is a folder: give a file in it")
            path.parent.mkdir(parents=True, exist_ok=True)
            # without waiting, for a pipe without a reader
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._number = os.open(path, flags, 0o666)
            if not stat.S_ISREG(os.fstat(self._number).st_mode):
                raise UserError(f"{path} is no plain file: give one, or - for standard output")
            self._repair()
        except OSError as error:
            self.close()
            raise cannot_write(str(path), error) from error
        except UserError:
            self.close()
            raise

    def _repair(self) -> None:
        """Cut the half line, or the zeros, that a power cut left at the end, and finish one that
        lacks only its end. Raises UserError where the file ends with anything else."""
        size = os.fstat(self._number).st_size
        tail = os.pread(self._number, _LONGEST_LINE, max(0, size - _LONGEST_LINE))
        half = tail[tail.rfind(b"\n") + 1 :]
        text = half.rstrip(b"\0")
        if not half:
            return
        if len(half) == _LONGEST_LINE or not (
            text.startswith(_BEGINNING) or _BEGINNING.startswith(text)
        ):
            raise UserError(f"{self._path} holds other than lines of results: give another file")
        if _is_whole(text):
            os.ftruncate(self._number, size - len(half) + len(text))
            os.write(self._number, b"\n")
        else:
            os.ftruncate(self._number, size - len(half))

    def _rotate(self) -> None:
        self.close()
        if self._keep == 0:
            self._path.unlink()
        else:
            last = 1  # the first that is free, or goes
            while last < self._keep and self._older(last).exists():
                last += 1
            for number in range(last, 1, -1):
                self._older(number - 1).replace(self._older(number))
            self._path.replace(self._older(1))
        self._drop_beyond()
        self._open()

    def _drop_beyond(self) -> None:
        """Remove what an earlier, larger keep left."""
        number = self._keep + 1
        while self._older(number).is_file():
            self._older(number).unlink()
            number += 1

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None


def _is_whole(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
