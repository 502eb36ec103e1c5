"""What holds of the project as a whole: its requirements, and what they install."""

import re
from importlib.metadata import distributions

import pytest
from conftest import ROOT

REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+-]+(; python_version < \"3\.\d+\")?")


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_are_pins_and_nothing_else(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("word", ["index-url", "find-links", "file:", "://"])
def test_requirements_name_no_place_to_install_from(word):
    assert len(REQUIREMENTS) >= 4
    assert [path.name for path in REQUIREMENTS if word in path.read_text()] == []


def test_the_only_opencv_is_the_headless_one():
    names = {distribution.metadata["Name"].lower() for distribution in distributions()}
    assert {name for name in names if name.startswith("opencv")} == {"opencv-python-headless"}
