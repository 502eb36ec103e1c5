"""A real bundle, built once, for the tests of what runs it."""

import shutil
from pathlib import Path

import pytest

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


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium with a profile of its own."""
    from browser import Browser

    opened = Browser(tmp_path / "profile")
    yield opened
    opened.driver.quit()
