"""rkyolo on the emulated board, through the vendor's own Python package and through librknnrt."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from daemons import daemon
from servers import wait_for

BUNDLE = "/var/lib/rkyolo/bundle"
PICTURES = sorted((DATA / "demo" / "val" / "images").iterdir())[:6]
BACKENDS = ("rknnlite", "rknnrt")
ALL_CORES = {"1", "2", "4"}
SLOW_S = 120
"""An emulated daemon starts in some ten seconds on a quiet machine."""


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


def config(folder: Path, backend: str, **engine) -> dict:
    source = {"name": "pictures", "type": "files", "paths": [str(path) for path in PICTURES]}
    sink = {"type": "jsonl", "path": str(folder / "out.jsonl")}
    engine = {"backend": backend, "cores": [0, 1, 2], "deadline_s": 60} | engine
    return {"model": BUNDLE, "sources": [source], "sinks": [sink], "engine": engine}


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


# a library or an NPU that misbehaves

FAILURES = [
    pytest.param("rknnrt", "init -3", 2, "RKNN_ERR_DEVICE_UNAVAILABLE", id="init-rknnrt"),
    pytest.param("rknnlite", "init -3", 2, "the NPU does not take", id="init-rknnlite"),
    pytest.param("rknnrt", "version 4", 2, "librknnrt is 1.4.0", id="version-rknnrt"),
    pytest.param("rknnrt", "run -2", 3, "RKNN_ERR_TIMEOUT", id="run-rknnrt"),
    pytest.param("rknnlite", "run -2", 3, "the NPU refused a picture", id="run-rknnlite"),
    pytest.param("rknnrt", "outputs_get -9", 3, "RKNN_ERR_OUTPUT_INVALID", id="outputs-rknnrt"),
]


@pytest.mark.parametrize(("backend", "told", "code", "said"), FAILURES)
def test_what_fails_is_told(board, backend, told, code, said):
    board.npu.tell(told)
    done = board.run("detect", board.bundle, PICTURES[0], "--backend", backend)
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert lines[-1].startswith("error: ") and said in lines[-1]
    if backend == "rknnrt":  # the vendor's package says much by itself
        assert len(lines) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_npu_that_hangs_ends_the_daemon_and_a_new_one_runs(board, backend, tmp_path):
    plain = config(tmp_path, backend, deadline_s=10)
    plain["sources"][0] |= {"repeat": True, "rate": 5}
    options = {"rkyolo": board.rkyolo, **board.environment}
    with daemon(plain, tmp_path, SLOW_S, **options) as running:
        wait_for(lambda: running.source("pictures")["results"] > 5, "results", SLOW_S)
        board.npu.tell("hang 0")
        assert running.process.wait(SLOW_S) == 3
    assert "a call of the model has not returned for" in running.log
    board.npu.tell()  # as a new process finds it, which systemd starts
    with daemon(plain, tmp_path, SLOW_S, **options) as running:
        wait_for(lambda: running.source("pictures")["results"] > 5, "results", SLOW_S)
        board.npu.tell("run -2")
        assert running.process.wait(SLOW_S) == 3


def test_one_that_is_slow_or_gives_noise_stops_nothing(board, tmp_path):
    plain = config(tmp_path, "rknnrt")
    plain["sources"][0] |= {"repeat": True, "rate": 5}
    with daemon(plain, tmp_path, SLOW_S, rkyolo=board.rkyolo, **board.environment) as running:
        board.npu.tell("slow 300", "corrupt 1")
        before = running.source("pictures")["results"]
        wait_for(lambda: running.source("pictures")["results"] > before + 12, "more", SLOW_S)
        assert running.end(within_s=SLOW_S) == 0
