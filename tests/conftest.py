"""Where the tests find their data."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
DEMO = ROOT / "models" / "demo"
SHARED = ROOT.parent / "shared"


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
