"""rkyolo on the emulated board, through the vendor's own Python package and through librknnrt."""

import json

import numpy as np
import pytest
from daemons import daemon
from emulated import BACKENDS, PICTURES, SLOW_S, config
from servers import wait_for

ALL_CORES = {"1", "2", "4"}


def assert_same(lines, expected):
    """That JSON lines of the pictures say what the simulator found."""
    assert len(lines) == len(expected)
    for line, found in zip(lines, expected, strict=True):
        objects = line["detections"]
        assert [each["class"] for each in objects] == found.class_id.tolist()
        scores, boxes = zip(*[(each["score"], each["box"]) for each in objects], strict=True)
        np.testing.assert_allclose(scores, found.score, atol=6e-4)
        np.testing.assert_allclose(boxes, found.xyxy, atol=0.06)
    assert sum(map(len, expected)) > 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_detections_are_those_of_the_simulator(board, simulated, backend):
    done = board.run("detect", board.bundle, *PICTURES, "--backend", backend, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert_same([json.loads(line) for line in done.stdout.splitlines()], simulated[1])


def test_auto_is_the_direct_way(board):
    done = board.run("detect", board.bundle, PICTURES[0])
    assert done.returncode == 0, done.stderr
    assert any(line.startswith(("dup", "run")) for line in board.npu.log)
    assert "rknnlite" not in done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_daemon_on_three_cores(board, simulated, backend, tmp_path):
    plain = config(tmp_path, backend)
    plain["sources"][0] |= {"repeat": True, "rate": 20}
    out = tmp_path / "out.jsonl"
    options = {"rkyolo": board.rkyolo, **board.environment}
    with daemon(plain, tmp_path, SLOW_S, **options) as running:
        wait_for(lambda: running.source("pictures")["results"] >= 24, "results", SLOW_S)
        assert running.state()["model"]["backend"] == backend
        assert running.end(within_s=SLOW_S) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(len(lines)))
    assert_same(lines[:6], simulated[1])
    assert_same(lines[18:24], simulated[1])
    words = [line.split() for line in board.npu.log]
    assert {word[1] for word in words if word[0] == "mask"} == ALL_CORES
    assert len({word[1] for word in words if word[0] == "run"}) == 6
    assert not [line for line in board.npu.log if line.startswith("two threads")]


def test_bench(board):
    done = board.run("bench", board.bundle, "--seconds", "1", "--json", "--picture", PICTURES[0])
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 4 and all(row["frames_per_second"] > 0 for row in rows)
