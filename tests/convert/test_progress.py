"""Progress, on a terminal and off it."""

import os
import pty
import re
import subprocess
import sys

import pytest

CODE = """
from convert.progress import Steps
with Steps() as steps:
    with steps.step("Read [bold]a.pt"):
        pass
    for item in steps.track(range(3), "Compare"):
        pass
    with steps.step("Build"):
        raise SystemExit(3)
"""


def test_off_a_terminal_each_finished_step_is_a_line():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout == ""
    assert re.fullmatch(r"Read \[bold\]a\.pt: 0\.\d s\nCompare: 0\.\d s\n", done.stderr)


@pytest.mark.parametrize("columns", [80, 30])
def test_on_a_terminal_lines_are_redrawn_in_place(columns):
    """What is on the screen in the end is a line for each step, the last with no ok."""
    parent, child = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], stderr=child, stdout=child, env=environment
    )
    os.close(child)
    data = b""
    while chunk := _read(parent):
        data += chunk
    os.close(parent)
    assert process.wait() == 3
    lines = [line for line in screen(data.decode()) if line]
    assert [re.sub(r"[^\w\[\]. ]", "", line)[:18].strip() for line in lines] == [
        "ok Read [bold]a.pt",
        "ok Compare",
        "Build",
    ]
    assert all(len(line) <= columns for line in lines)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def screen(text: str) -> list[str]:
    """What a terminal shows after the few control sequences that rich uses."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part.endswith("K") and part.startswith("\x1b"):
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    return [line.rstrip() for line in lines]
