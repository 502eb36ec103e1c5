"""Where the tests find their data."""

import fcntl
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
DEMO = ROOT / "models" / "demo"
SHARED = ROOT.parent / "shared"

T = TypeVar("T")


@pytest.fixture
def data() -> Path:
    """The project's own test data: golden checkpoints, the demo's validation pictures."""
    return DATA


@pytest.fixture
def demo() -> Path:
    """The demo model, its calibration pictures and its video."""
    return DEMO


@pytest.fixture
def shared() -> Path:
    """Other people's models, which are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with other people's models, which is not published")
    return SHARED


@pytest.fixture
def rkyolo():
    """Runs the command line as a user does: rkyolo(*arguments) gives the finished process."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
        code = "from runtime.cli import main; main()"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        options = {"capture_output": True, "text": True, "timeout": 300} | options
        return subprocess.run(command, **options)

    return run


@pytest.fixture(scope="session")
def common(tmp_path_factory) -> Path:
    """A folder that all test processes of a run share, for what takes long and is made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "common"
    folder.mkdir(exist_ok=True)
    return folder


def once(common: Path, name: str, make: Callable[[], T]) -> T:
    """What make() gives, made by the first process of a run that asks for it. The others wait."""
    kept = common / f"{name}.pickle"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(make()))
        return pickle.loads(kept.read_bytes())
