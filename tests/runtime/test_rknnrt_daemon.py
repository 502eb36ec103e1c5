"""rkyolo run on the stand-in for the vendor's library."""

import json

import librknnrt as stand_in
import numpy as np
from conftest import DEMO
from daemons import daemon
from servers import wait_for

from runtime.model import open_model


def config(bundle, folder, **engine):
    source = {"name": "demo", "type": "files", "paths": [str(DEMO / "shapes.mp4")]}
    sink = {"type": "jsonl", "path": str(folder / "out.jsonl")}
    return {
        "model": str(bundle),
        "sources": [source | {"repeat": True, "rate": 60}],
        "sinks": [sink],
        "engine": {"backend": "rknnrt", "deadline_s": 60} | engine,
    }


def test_a_daemon_on_six_contexts(bundle, npu, tmp_path, data):
    opened = open_model(bundle)
    shapes = [shape for _, shape in opened.facts.tensors]
    maps = [np.full(shape, -128, np.int8) for shape in shapes]
    maps[2][0, :10, 4, 5] = 0, 0, 0, 0, 120, 127, -128, -128, -128, -128  # a circle
    npu.record([(np.zeros((1, 320, 320, 3), np.uint8), maps)])
    npu.tell("first 0", "slow 2")
    with daemon(config(bundle, tmp_path), tmp_path, **npu.environment) as running:
        wait_for(lambda: running.source("demo")["results"] > 60, "results")
        state = running.state()
        assert state["model"]["backend"] == "rknnrt"
        assert running.end() == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(len(lines)))
    assert {found["name"] for line in lines for found in line["detections"]} == {"circle"}
    words = [line.split() for line in npu.log]
    assert [word[0] for word in words].count("init") == 1
    assert {word[1] for word in words if word[0] == "run"} == set("123456")
    assert {word[1] for word in words if word[0] == "mask"} == {"1", "2", "4"}


def test_a_call_that_hangs_ends_the_daemon(bundle, library, tmp_path):
    folder = tmp_path / "npu"
    folder.mkdir()
    used = stand_in.StandIn(library, folder)
    plain = config(bundle, tmp_path, deadline_s=1)
    with daemon(plain, tmp_path, **used.environment) as running:
        wait_for(lambda: running.source("demo")["results"] > 10, "results")
        used.tell("hang 0")
        assert running.process.wait(30) == 3
    assert "a call of the model has not returned for" in running.log


def test_calls_that_fail_one_after_the_other_end_the_daemon(bundle, library, tmp_path):
    folder = tmp_path / "npu"
    folder.mkdir()
    used = stand_in.StandIn(library, folder)
    with daemon(config(bundle, tmp_path), tmp_path, **used.environment) as running:
        wait_for(lambda: running.source("demo")["results"] > 10, "results")
        used.tell("run -2")
        assert running.process.wait(30) == 3
    assert "RKNN_ERR_TIMEOUT" in running.log


def test_a_daemon_that_cannot_start(bundle, library, tmp_path, rkyolo, monkeypatch):
    used = stand_in.StandIn(library, tmp_path)
    used.tell("init -3")
    for name, value in used.environment.items():
        monkeypatch.setenv(name, value)
    done = rkyolo("detect", bundle, DEMO / "calibration" / "000.jpg", "--backend", "rknnrt")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "RKNN_ERR_DEVICE_UNAVAILABLE" in done.stderr and "rkyolo doctor" in done.stderr
