"""Results as the pipeline gives them to sinks, and disks that are full."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from runtime.detections import Detections
from runtime.pipeline.frames import Capture, Frame, Result

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("person", "дорожный знак", "a/b [red]")
NOON = 1795257000.123  # 2026-11-21T10:30:00.123Z


def found(*classes: int, score: float = 0.9) -> Detections:
    """A box for each class, of falling score."""
    count = len(classes)
    xyxy = np.float32([[4 + 9 * i, 4, 30 + 9 * i, 40] for i in range(count)]).reshape(-1, 4)
    scores = np.float32([score - 0.1 * i for i in range(count)])
    return Detections(xyxy, scores, np.int32(classes))


def result(
    index: int = 0,
    at: float = NOON,
    detections: Detections | None = None,
    source: str = "door",
    size_wh: tuple[int, int] = (64, 48),
    bgr: np.ndarray | None = None,
    **capture: object,
) -> Result:
    """A result of a grey frame, with one person in it; capture: file, frame, frames_per_second."""
    if bgr is None:
        bgr = np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)
    frame = Frame(source, index, Capture(bgr, at, **capture))
    return Result(frame, found(0) if detections is None else detections, NAMES)


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file of this process grows beyond that size: as on a disk that is full then."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def on_small_disk(folder: Path, megabytes: int, script: str) -> dict:
    """The JSON that a Python script prints, in which folder is a disk of its own of that size, and
    made_results can be imported. Skips where nobody may mount one; full_after works there."""
    root = os.geteuid() == 0
    mount = f'mount -t tmpfs -o size={megabytes}m none "$1" && shift && exec "$@"'
    enter = ["unshare", "-m" if root else "-rm", "sh", "-c", mount, "sh", str(folder)]
    if subprocess.run([*enter, "true"], capture_output=True, timeout=30).returncode:
        pytest.skip("needs to mount a small disk, as root or in a namespace of its own")
    done = subprocess.run(
        [*enter, sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
