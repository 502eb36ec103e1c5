"""What commands write: lines for people, and streams of JSON lines."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from runtime.errors import UserError


def printable(text: str) -> str:
    """A line for people: file and class names can hold line breaks, bytes that are not UTF-8, and
    what commands a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one line."""
    print(printable(text), file=stream or sys.stdout)


def json_output(target: str | None) -> AbstractContextManager[TextIO | None]:
    """A context that gives the stream for JSON lines, or None."""
    if target is None:
        return nullcontext()
    return nullcontext(sys.stdout) if target == "-" else _json_file(Path(target))


@contextmanager
def _json_file(path: Path) -> Iterator[TextIO]:
    from runtime.files import whole_file
    from runtime.pictures import is_known

    if is_known(path):  # the first input, where the file's name was forgotten
        raise UserError(f"--json {path} is the name of a picture or video: give another, or -")
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as stream:
        yield stream
