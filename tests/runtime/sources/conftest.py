"""What the tests of several sources use."""

from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from runtime.sources import open_source
from runtime.sources.options import CameraOptions, CommandOptions, FilesOptions, RtspOptions

KINDS = {
    "files": FilesOptions,
    "camera": CameraOptions,
    "command": CommandOptions,
    "rtsp": RtspOptions,
}


@pytest.fixture
def source():
    """Makes a source as the daemon does: source("files", paths=[...])."""

    def make(kind, **options):
        return open_source(KINDS[kind](type=kind, name="cam", **options), "board")

    return make


@pytest.fixture
def first():
    """The first captures of a source, which is closed then."""

    def take(source, count):
        with closing(source.captures(Event())) as captures:
            return [next(captures) for _ in range(count)]

    return take


@pytest.fixture
def held():
    """What this process holds: open files, threads and child processes."""

    def count():
        me = Path("/proc/self")
        tasks = list((me / "task").iterdir())
        children = sum(len((task / "children").read_text().split()) for task in tasks)
        return {
            "files": len(list((me / "fd").iterdir())),
            "threads": len(tasks),
            "children": children,
        }

    return count
