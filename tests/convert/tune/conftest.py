"""A small search on the demo model, and how to run it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import DEMO, ROOT, once
from tune_runs import MARK, work_of

NAMES = ("circle", "square", "triangle", "star", "cross")
PICTURES = 4


@dataclass(frozen=True)
class Small:
    """A search over heads and activation at 160, on few pictures: five trials or less."""

    calibration: Path
    data: Path | None
    kept: tuple[str, ...] = ("stem", "algorithm", "hybrid", "calibration")

    def command(self, out: Path, *more: object) -> list[str]:
        options = ["--calibration", self.calibration, "--size", 160]
        options += ["--data", self.data] if self.data else []
        # at 160 even a good build finds other small objects than the float model
        options += ["--min-agreement", 0.5, "-o", out, *more]
        for choice in self.kept:
            options += ["--keep", choice]
        code = "from runtime.cli import main; main()"
        return [sys.executable, "-c", code, "tune", *map(str, [DEMO / "shapes.pt", *options])]

    def run(self, out: Path, *more: object, timeout: int = 300) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(out, *more), capture_output=True, text=True, timeout=timeout, cwd=ROOT
        )

    def start(self, out: Path, *more: object) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(out, *more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {MARK: str(out)},  # by which its processes are found
        )


@pytest.fixture(scope="session")
def small(common) -> Small:
    return Small(*once(common, "small", lambda: _small(common / "small")))


def _small(folder: Path) -> tuple[Path, Path]:
    """Written once: a search of another process may be reading it."""
    folder.mkdir()
    calibration, data = folder / "calibration.txt", folder / "data.yaml"
    pictures, images = DEMO / "calibration", ROOT / "tests" / "data" / "demo" / "val" / "images"
    calibration.write_text("".join(f"{pictures}/{i:03}.jpg\n" for i in range(8)))
    chosen = "".join(f"{images}/{i:03}.jpg\n" for i in range(PICTURES))
    (folder / "val.txt").write_text(chosen)
    data.write_text(yaml.safe_dump({"val": "val.txt", "names": dict(enumerate(NAMES))}))
    return calibration, data


@dataclass(frozen=True)
class Tuned:
    """A finished search."""

    bundle: Path
    process: subprocess.CompletedProcess

    @property
    def work(self) -> Path:
        return work_of(self.bundle)

    @property
    def plain(self) -> dict:
        return json.loads((self.work / "tune.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def tuned(small, common) -> Tuned:
    """The small search, undisturbed."""
    bundle = common / "tuned" / "bundle"
    bundle.parent.mkdir(exist_ok=True)
    return Tuned(bundle, once(common, "tuned", lambda: small.run(bundle)))


@pytest.fixture
def few_yaml(tmp_path) -> Path:
    """Eight labelled pictures."""
    images = ROOT / "tests" / "data" / "demo" / "val" / "images"
    (tmp_path / "few.txt").write_text("".join(f"{images}/{i:03}.jpg\n" for i in range(8)))
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump({"val": "few.txt", "names": dict(enumerate(NAMES))}))
    return path
