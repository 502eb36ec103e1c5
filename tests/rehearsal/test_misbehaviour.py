"""A library or an NPU that misbehaves, on the emulated board."""

import pytest
from daemons import daemon
from emulated import BACKENDS, PICTURES, SLOW_S, config
from servers import wait_for

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
