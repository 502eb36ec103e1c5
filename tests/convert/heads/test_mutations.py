"""Changed ONNX files end in a UserError, or in a result that the changed file itself bears out."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("onnx_mutations.py")
ROOT = Path(__file__).resolve().parents[3]
PARTS, COUNT = 5, int(os.environ.get("ONNX_MUTATIONS", "125"))
"""500 were run, and can be again; the rest of the time is better spent elsewhere."""
MOST_S, MOST_MB, FEWEST_PROVEN = 10, 1024, COUNT // PARTS // 16
PROVEN = ("boxes", "head maps")


@pytest.fixture(scope="module")
def counted():
    """How the mutations ended, over all parts."""
    counts = Counter()
    yield counts
    print(f"\n{COUNT} mutations of golden files: {dict(counts)}")


@pytest.mark.parametrize("part", range(PARTS))
def test_a_changed_file_is_refused_or_proven(part, data, tmp_path, counted):
    first, last = (COUNT // PARTS * i for i in (part, part + 1))
    done = subprocess.run(
        [sys.executable, PROGRAM, data / "golden", tmp_path / "scratch", str(first), str(last)],
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["number"] for line in lines] == list(range(first, last))
    assert [line for line in lines if line["ended"] not in ("refused", *PROVEN)] == []
    assert max(line["seconds"] for line in lines) < MOST_S
    assert max(line["peak_mb"] for line in lines) < MOST_MB
    counts = Counter(line["ended"] for line in lines)
    print(dict(counts), f"slowest {max(line['seconds'] for line in lines):.1f} s")
    assert sum(counts[way] for way in PROVEN) >= FEWEST_PROVEN
    assert counts["refused"]
    assert all(line["more"].isprintable() for line in lines if line["ended"] == "refused")
    counted.update(counts)
