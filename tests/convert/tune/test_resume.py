"""A search that is killed, in part or as a whole, goes on where it was; on machines of a scheduler
too."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import worker_tasks
from conftest import ROOT
from tune_runs import MARK, work_of

from convert.workers import open_workers
from runtime.errors import UserError
from runtime.model import open_model

PATIENCE_S = 240


def until(condition, process=None):
    """Wait for it, but not for ever."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)
    return found


def finished(bundle: Path) -> dict[Path, tuple[int, str]]:
    """Each finished trial's file, when it was written, and what it says."""
    files = work_of(bundle).glob("*/*.json")
    return {path: (path.stat().st_mtime_ns, path.read_text()) for path in files}


def trials(bundle: Path) -> int:
    return sum(path.name != "float.json" for path in finished(bundle))


def processes_of(bundle: Path) -> dict[int, str]:
    """Command lines of the processes of a search, itself too, by number."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            if os.fsencode(f"{MARK}={bundle}") in environment:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode()
        except OSError:  # it has ended
            continue
    return found


def workers_of(bundle: Path) -> list[int]:
    return [pid for pid, command in processes_of(bundle).items() if "spawn_main" in command]


@pytest.fixture
def started(small):
    """Starts the small search; it is killed in the end."""
    running = []

    def start(bundle: Path, *more: object) -> subprocess.Popen:
        running.append(small.start(bundle, *more))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_killed_twice_it_ends_with_the_same_winner(started, small, tuned, tmp_path):
    bundle = tmp_path / "bundle"
    process = started(bundle, "--workers", 2)
    until(lambda: len(workers_of(bundle)) == 2, process)
    until(lambda: finished(bundle), process)
    victim = workers_of(bundle)[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in processes_of(bundle), process)
    before = trials(bundle)
    until(lambda: trials(bundle) > before, process)  # the other one, or a new one, goes on
    process.kill()
    out, errors = process.communicate(timeout=20)
    assert out == "" and "Traceback" not in errors
    until(lambda: not processes_of(bundle))  # nobody works on without it
    kept = finished(bundle)
    assert 0 < trials(bundle) < 4 and not bundle.exists()

    done = small.run(bundle)
    assert done.returncode == 0, done.stderr
    after = finished(bundle)
    assert {path: after[path] for path in kept} == kept  # not one was run again
    count = sum(path.name != "float.json" for path in kept)
    assert f"{count} of the trials were finished by an earlier run\n" in done.stdout
    assert done.stderr.count("Trial ") == len(tuned.plain["trials"]) - count
    plain = json.loads((work_of(bundle) / "tune.json").read_text())
    assert numbers(plain) == numbers(tuned.plain)
    made, first = open_model(bundle), open_model(tuned.bundle)
    assert made.onnx == first.onnx and made.extra == first.extra
    assert not [p for p in work_of(bundle).rglob(".*") if p.name != ".rkyolo-tune"]


def numbers(plain: dict) -> list:
    """All of a table that does not depend on how long things took, and where."""
    varying = ("seconds", "worker", "finished")
    rows = [{k: v for k, v in row.items() if k not in varying} for row in plain["trials"]]
    return [rows, plain["winner"], plain["reason"], plain["float"]["accuracy"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_says_how_to_go_on(started, tmp_path, number):
    bundle = tmp_path / "bundle"
    process = started(bundle, "--workers", 1)
    until(lambda: workers_of(bundle), process)
    until(lambda: any("convert.toolkit" in c for c in processes_of(bundle).values()), process)
    # a terminal's Ctrl-C goes to all
    for pid in [process.pid, *(workers_of(bundle) if number == signal.SIGINT else ())]:
        os.kill(pid, number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == "" and "Traceback" not in errors
    assert f"stopped; finished trials are in {bundle}.tune, and the same command goes on" in errors
    until(lambda: not processes_of(bundle))
    assert not bundle.exists() and not (work_of(bundle) / "workers").exists()


@dataclass
class Scheduler:
    """A Dask scheduler's address, and its process."""

    address: str
    process: subprocess.Popen


@pytest.fixture
def scheduler(tmp_path):
    """A Dask scheduler on loopback, and two workers in processes of their own."""
    running, lines = [], []
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONWARNINGS": "default",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
        )
        running.append(process)
        reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
        reader.start()
        return process

    start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-jupyter")

    def address():
        found = [re.search(r"Scheduler at: *(tcp://127\.0\.0\.1:\d+)", line) for line in lines]
        return next((match[1] for match in found if match), None)

    try:
        where = until(address, running[0])
        for _ in range(2):
            start("dask_worker", where, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        until(lambda: sum("Registered to" in line for line in lines) >= 2, running[0])
        yield Scheduler(where, running[0])
    finally:
        for process in reversed(running):
            process.kill()
            process.wait(20)
            process.stderr.close()


def test_it_uses_all_workers_of_a_scheduler(small, scheduler, tmp_path):
    bundle = tmp_path / "bundle"
    done = small.run(bundle, "--scheduler", scheduler.address, "--trials", 2)
    assert done.returncode == 0, done.stderr
    told = [json.loads(text) for _, text in finished(bundle).values()]
    trials_workers = {one["worker"] for one in told if one["trial"]}
    assert len(trials_workers) == 2
    assert all(worker.startswith("tcp://127.0.0.1:") for worker in trials_workers)
    assert open_model(bundle)

    # the same workers measure: the picture's parts go to both
    arguments = ["evaluate", bundle, "--data", small.data, "--json", "-", "--scheduler"]
    arguments.append(scheduler.address)
    code = "from runtime.cli import main; main()"
    measured = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), "--backend", "simulator"],
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    assert "backend simulator, 2 parts: " in measured.stderr
    (result,) = json.loads(measured.stdout)["results"]
    plain = json.loads((work_of(bundle) / "tune.json").read_text())
    assert result["rows"][0]["mAP50-95"] == plain["trials"][plain["winner"] - 1]["score"]


def test_a_scheduler_that_goes_away_is_told(scheduler, tmp_path):
    started = time.monotonic()
    with (
        pytest.raises(UserError, match="the Dask scheduler is gone, and what ran with it"),
        open_workers(scheduler.address, 1, tmp_path / "workers") as workers,
    ):
        for _ in workers.each(
            worker_tasks.slow_pid, [60, 60], began=lambda place: place and scheduler.process.kill()
        ):
            pass
    assert time.monotonic() - started < 50  # not the sleepers' minute
