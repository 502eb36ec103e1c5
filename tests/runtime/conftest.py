"""A real bundle, built once, for the tests of what runs it."""

import os
import shutil
from pathlib import Path

import librknnrt as stand_in
import pytest

_WRONG = ("two threads", "weights gone", "no context")
"""What the stand-in notes where it is used as the vendor's must not be."""

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """The demo model as an int8 bundle for 320x320, from six of its calibration pictures."""
    from convert.bundle import Request, convert
    from convert.progress import Steps

    folder = tmp_path_factory.mktemp("built")
    calibration = folder / "calibration"
    calibration.mkdir()
    for picture in sorted((DEMO / "calibration").iterdir())[:6]:
        shutil.copy(picture, calibration)
    request = Request(
        model=DEMO / "shapes.pt", out=folder / "shapes", calibration=calibration, wh=(320, 320)
    )
    with Steps(quiet=True) as steps:
        return convert(request, steps).bundle


@pytest.fixture(autouse=True)
def environment_of_opencv():
    """RTSP sources set it for their whole process, which in a daemon they own."""
    before = {name: value for name, value in os.environ.items() if name.startswith("OPENCV_")}
    yield
    for name in [name for name in os.environ if name.startswith("OPENCV_")]:
        if name not in before:
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The stand-in for the vendor's librknnrt."""
    return stand_in.build(tmp_path_factory.mktemp("librknnrt"))


@pytest.fixture
def npu(library, tmp_path):
    """It in use; nothing may be left open in it, and nothing used in the wrong way."""
    folder = tmp_path / "npu"
    folder.mkdir()
    with stand_in.in_use(library, folder) as used:
        yield used
    assert used.still_open == set()
    assert [line for line in used.log if line.startswith(_WRONG)] == []


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium with a profile of its own."""
    from browser import Browser

    opened = Browser(tmp_path / "profile")
    yield opened
    opened.driver.quit()
