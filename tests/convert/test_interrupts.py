"""A conversion that is stopped, or runs out of room, ends at once and leaves nothing behind."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


class Running:
    """rkyolo convert on the demo model, in a process of its own."""

    def __init__(self, demo: Path, folder: Path):
        self.temporary, self.out = folder / "tmp", folder / "models" / "mine"
        self.temporary.mkdir()
        code = "from runtime.cli import main; main()"
        options = ["--calibration", demo / "calibration", "--size", "320", "-o", "models/mine"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "convert", demo / "shapes.pt", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | {"TMPDIR": str(self.temporary)},
        )

    def wait_for(self, step: str) -> None:
        """Until a step is done."""
        for line in self.process.stderr:
            if line.startswith(step):
                return
        raise AssertionError(f"{step} never came")

    def toolkits(self) -> list[int]:
        """Processes that work in the temporary folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "cwd").readlink().is_relative_to(self.temporary):
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
        return found

    def assert_nothing_left(self) -> None:
        deadline = time.monotonic() + 5  # a killed process takes a moment to go
        while self.toolkits() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.toolkits() == []
        assert list(self.temporary.iterdir()) == []
        assert not self.out.parent.exists() or list(self.out.parent.iterdir()) == []


@pytest.fixture
def running(demo, tmp_path) -> Running:
    started = Running(demo, tmp_path)
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.mark.parametrize(
    ("signals", "after", "reason"),
    [
        ([signal.SIGINT], "Read", "while the graph is exported"),
        ([signal.SIGINT], "Letterbox", "while the toolkit builds"),
        ([signal.SIGINT, signal.SIGINT], "Letterbox", "an impatient user"),
        ([signal.SIGTERM], "Letterbox", "a service manager"),
        ([signal.SIGTERM], "Build", "while models are compared"),
    ],
)
def test_a_signal_ends_it_and_leaves_nothing(running, signals, after, reason):
    running.wait_for(after)
    if after == "Letterbox":
        time.sleep(0.7)
        assert len(running.toolkits()) == 1
    started = time.monotonic()
    for number in signals:
        running.process.send_signal(number)
        time.sleep(0.02)
    out, errors = running.process.communicate(timeout=20)
    assert time.monotonic() - started < 5, reason
    assert running.process.returncode not in (0, 2)
    assert out == "" and "Traceback" not in errors
    running.assert_nothing_left()


def test_a_full_disk_leaves_nothing_half_written(running):
    """Of the bundle's files the manifest, the ranges and the texts would still fit."""
    running.wait_for("Build")
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    out, errors = running.process.communicate(timeout=60)
    assert running.process.returncode == 2
    assert errors.splitlines()[-1].startswith("error: cannot write models/mine: file too large")
    assert out == ""
    running.assert_nothing_left()


def test_a_full_temporary_folder_is_told(running):
    running.wait_for("Read")
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    out, errors = running.process.communicate(timeout=60)
    assert running.process.returncode == 2
    assert errors.splitlines()[-1].startswith("error: cannot write to the temporary folder: ")
    assert out == ""
    running.assert_nothing_left()
