"""rkyolo run as a service: its start, its signals, its reload, its end, and what it says of it."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from conftest import DEMO
from daemons import ROOT, RUN, Daemon, daemon
from servers import free_port, program, wait_for

MODEL = str(DEMO / "shapes.pt")
VIDEO = str(DEMO / "shapes.mp4")

STAND_IN = """
import sys
sys.path.insert(0, {tests!r})
from runtime.backends import BACKENDS
BACKENDS["stand-in"] = "hanging:HangingBackend"
from runtime.cli import main
main()
"""


def video_source(**options):
    return {"name": "demo", "type": "files", "paths": [VIDEO]} | options


def config(**parts):
    """The demo video through the demo model. A deadline that a loaded machine does not miss."""
    plain = {"model": MODEL, "sources": [video_source()], "sinks": []}
    return plain | {"engine": {"deadline_s": 60}} | parts


def jsonl(folder, **options):
    return {"type": "jsonl", "path": str(folder / "out.jsonl")} | options


def lines(folder):
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def run(folder, plain, *options):
    path = folder / "rkyolo.yaml"
    path.write_text(json.dumps(plain))
    return subprocess.run(
        [*RUN, *options, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_every_frame_of_a_video_once_and_in_order(tmp_path):
    plain = config(
        sinks=[jsonl(tmp_path), {"type": "video", "folder": str(tmp_path / "videos")}],
        http={"port": free_port()},
    )
    done = run(tmp_path, plain)
    assert done.returncode == 0, done.stderr
    got = lines(tmp_path)
    assert [line["frame"] for line in got] == list(range(len(got)))
    assert [line["index"] for line in got] == [line["frame"] for line in got]
    capture = cv2.VideoCapture(VIDEO)
    assert len(got) == int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    (video,) = (tmp_path / "videos").iterdir()
    assert int(cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT)) == len(got)
    assert sum(len(line["detections"]) for line in got) > len(got)


def test_its_detections_are_those_of_detect(tmp_path, rkyolo):
    done = run(tmp_path, config(sinks=[jsonl(tmp_path)]))
    assert done.returncode == 0, done.stderr
    other = rkyolo("detect", MODEL, VIDEO, "--json", tmp_path / "detect.jsonl")
    assert other.returncode == 0, other.stderr
    detected = [json.loads(line) for line in (tmp_path / "detect.jsonl").read_text().splitlines()]
    assert [a["detections"] for a in lines(tmp_path)] == [b["detections"] for b in detected]


def test_check_touches_nothing(tmp_path):
    done = run(tmp_path, config(sinks=[jsonl(tmp_path)]), "--check")
    assert done.returncode == 0
    assert "is good: model" in done.stdout and "sources demo; sinks jsonl" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["rkyolo.yaml"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "/no/such/bundle"}, "/no/such/bundle does not exist"),
        ({"thresholds": {"classes": ["unicorn"]}}, "no class is called unicorn"),
        ({"sources": []}, "sources is empty"),
    ],
)
def test_what_cannot_run(tmp_path, change, says):
    for options in ([], ["--check"]):
        done = run(tmp_path, config(**change), *options)
        assert done.returncode == 2
        assert says in done.stderr and done.stderr.count("\n") == 1


def test_an_unknown_backend_is_named(tmp_path):
    done = run(tmp_path, config(engine={"backend": "gpu"}))
    assert done.returncode == 2 and "no backend is called gpu" in done.stderr


def test_a_source_that_cannot_be_read_is_told_at_the_end(tmp_path):
    missing = {"name": "gone", "type": "files", "paths": [str(tmp_path / "gone.mp4")]}
    done = run(tmp_path, config(sources=[missing, video_source()], sinks=[jsonl(tmp_path)]))
    assert done.returncode == 2
    assert f"source gone: {tmp_path / 'gone.mp4'} does not exist" in done.stderr.splitlines()[-1]
    assert len(lines(tmp_path)) > 10  # the other one was not disturbed


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(tmp_path, config(http={"port": port}))
    assert done.returncode == 2
    assert str(port) in done.stderr and "Traceback" not in done.stderr


def test_sigterm_under_load_drains(tmp_path):
    source = video_source(repeat=True)
    with daemon(config(sources=[source], sinks=[jsonl(tmp_path)]), tmp_path) as running:
        wait_for(lambda: running.source("demo")["results"] > 20, "some results")
        assert running.end() == 0
        got = lines(tmp_path)
        assert [line["index"] for line in got] == list(range(len(got)))
        assert "Traceback" not in running.log and "did not end in time" not in running.log


def test_a_second_signal_ends_it_at_once(tmp_path):
    hook = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    url = f"http://127.0.0.1:{hook.getsockname()[1]}/"
    plain = config(
        sources=[video_source(repeat=True)],
        sinks=[{"type": "webhook", "url": url, "timeout_s": 60, "empty": True}],
        drain_s=60,
    )
    with hook, daemon(plain, tmp_path) as running:
        wait_for(lambda: running.source("demo")["results"] > 3, "some results")
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "ending" in running.log, "the first signal")
        assert running.process.poll() is None
        assert running.end(within_s=5) == 128 + signal.SIGTERM


def test_reload_changes_what_is_asked_and_nothing_else(tmp_path):
    source = video_source(repeat=True, rate=30)
    with daemon(config(sources=[source], sinks=[jsonl(tmp_path)]), tmp_path) as running:
        wait_for(lambda: running.source("demo")["detections"] > 20, "detections")
        running.config["thresholds"] = {"classes": ["circle"]}
        running.reload()
        wait_for(lambda: running.state()["reload"]["at"], "the reload")
        wait_for(lambda: running.source("demo")["results"] > 60, "more results")
        state = running.state()
        assert state["reload"]["error"] is None
        assert state["sources"]["demo"]["connections"] == 1
        assert running.end() == 0
    got = lines(tmp_path)
    assert [line["index"] for line in got] == list(range(len(got)))
    names = [{found["name"] for found in line["detections"]} for line in got]
    assert {"square", "triangle"} & set().union(*names)
    assert set().union(*names[-10:]) <= {"circle"}


def test_a_bad_configuration_or_bundle_keeps_the_old_ones(tmp_path, bundle):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    plain = config(model=str(copy), sources=[video_source(repeat=True, rate=30)])
    with daemon(plain | {"sinks": [jsonl(tmp_path)]}, tmp_path) as running:
        wait_for(lambda: running.source("demo")["results"] > 5, "results")

        def refused(says):
            running.process.send_signal(signal.SIGHUP)
            wait_for(lambda: says in (running.state()["reload"]["error"] or ""), says)
            before = running.source("demo")["results"]
            wait_for(lambda: running.source("demo")["results"] > before + 5, "more results")
            assert running.get("/readyz")[0] == 200
            assert (
                f"the old configuration stays: {running.state()['reload']['error']}" in running.log
            )

        running.path.write_text("sources: [")
        refused("is not plain YAML")
        running.config["sources"][0]["rat"] = 3
        running.write()
        refused("sources.0.rat: there is no such key")
        del running.config["sources"][0]["rat"]
        running.write()
        for name in ("model.onnx", "model.rknn"):
            good = (copy / name).read_bytes()
            (copy / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
            refused(f"{name} is not the file manifest.yaml describes")
            (copy / name).write_bytes(good)
        (copy / "manifest.yaml").rename(copy / "hidden")
        refused("is no bundle")
        (copy / "hidden").rename(copy / "manifest.yaml")
        running.reload()
        wait_for(lambda: running.state()["reload"]["error"] is None, "the good one")
        assert running.end() == 0
    got = lines(tmp_path)
    assert [line["index"] for line in got] == list(range(len(got)))


def test_a_call_that_hangs_ends_the_process_with_code_3(tmp_path):
    engine = {"backend": "stand-in", "deadline_s": 0.5, "contexts_per_core": 1}
    plain = config(engine=engine, sinks=[jsonl(tmp_path)])
    path = tmp_path / "rkyolo.yaml"
    path.write_text(json.dumps(plain))
    code = STAND_IN.format(tests=str(ROOT / "tests"))
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "a call of the model has not returned for" in done.stderr
    assert [line["frame"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]


def test_it_tells_systemd(tmp_path):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    heard = []

    def hear(prefix):
        while not (heard and heard[-1].startswith(prefix)):
            heard.append(manager.recv(4096).decode())
        return heard[-1]

    plain = config(sources=[video_source(repeat=True, rate=20)])
    with manager, daemon(plain, tmp_path, **environment) as running:
        hear("READY=1")
        hear("STATUS=1 of 1 sources run")
        for _ in range(3):
            hear("WATCHDOG=1")
            heard.append("")
        running.reload()
        assert "MONOTONIC_USEC=" in hear("RELOADING=1")
        hear("READY=1")
        running.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert running.process.wait(30) == 0


SMALL_DISK = """
mount -t tmpfs -o size=256k tmpfs "$0" && head -c 250k /dev/zero > "$0/filler" && exec "$@"
"""


def test_states_of_what_fails_and_comes_back(tmp_path):
    """A camera that is not there, a place that cannot be written to, a full disk."""
    blocked, camera, disk = tmp_path / "blocked", tmp_path / "camera", tmp_path / "disk"
    blocked.write_text("a file, where a folder should be")
    disk.mkdir()
    plain = config(
        sources=[
            video_source(repeat=True, rate=20),
            {"name": "camera", "type": "camera", "device": str(camera)},
        ],
        sinks=[
            {"type": "jsonl", "name": "unwritable", "path": str(blocked / "out.jsonl")},
            {"type": "jsonl", "name": "full", "path": str(disk / "out.jsonl")},
            jsonl(tmp_path, name="good", sources=["demo"]),
        ],
    )
    # the disk is there for the daemon only, in a mount namespace of its own
    wrapper = [program("unshare"), "-rm", "sh", "-c", SMALL_DISK, str(disk)]
    with daemon(plain, tmp_path, wrapper=wrapper) as running:
        wait_for(lambda: running.sink("unwritable")["state"] == "failing", "the unwritable place")
        wait_for(lambda: running.sink("full")["state"] == "failing", "the full disk")
        wait_for(lambda: running.source("camera")["state"] == "waiting", "the camera's loss")
        assert str(camera) in running.source("camera")["detail"]
        assert "blocked" in running.sink("unwritable")["detail"]
        assert "no space left" in running.sink("full")["detail"].lower()
        assert running.get("/healthz")[0] == 200
        page = running.get("/metrics")[1].decode()
        assert 'rkyolo_sink_up{sink="full"} 0.0' in page

        seen = Path(f"/proc/{running.process.pid}/root")
        (seen / disk.relative_to("/") / "filler").unlink()
        blocked.unlink()
        for name in ("unwritable", "full"):
            wait_for(lambda name=name: running.sink(name)["state"] == "running", name, 30)
        written = (seen / disk.relative_to("/") / "out.jsonl").read_text().splitlines()
        indices = [json.loads(line)["index"] for line in written]
        assert (
            indices == list(range(len(indices))) and len(indices) > 0
        )  # nothing lost, nothing half
        assert (blocked / "out.jsonl").is_file()
        assert running.sink("good")["state"] == "running"
        assert running.end(within_s=30) == 0


def test_no_credential_is_shown_anywhere(tmp_path):
    secret = "hunter2-correct-horse"
    token = "t0ken-0123456789abcdef"
    port = free_port()

    def broker():
        host = {"host": "127.0.0.1", "port": port}
        return host | {"username": "me", "password": {"env": "PW"}}

    plain = config(
        sources=[
            video_source(repeat=True, rate=20),
            {"name": "gate", "type": "rtsp", "username": "u", "password": {"env": "PW"},
             "url": f"rtsp://127.0.0.1:{port}/x?key={secret}"},
            {"name": "yard", "type": "rtsp", "url": f"rtsp://u:{secret}@127.0.0.1:{port}/x"},
            {"name": "requests", "type": "mqtt", "broker": broker()},
        ],
        sinks=[
            {"type": "mqtt", "broker": broker(), "outbox": str(tmp_path / "outbox.db")},
            {"type": "webhook", "url": f"http://u:{secret}@127.0.0.1:{port}/?k={secret}",
             "headers": {"Authorization": {"env": "PW"}}},
        ],
        http={"port": free_port(), "token": token},
        log="debug",
    )  # fmt: skip
    running = Daemon(plain | {"board": "b"}, tmp_path, PW=secret)
    bearer = {"Authorization": f"Bearer {token}"}
    try:

        def up():
            assert running.process.poll() is None, running.log
            try:
                return running.get("/readyz", **bearer)[0] == 200
            except OSError:
                return False

        wait_for(up, "the daemon")
        time.sleep(2)  # for some of each failure
        shown = ""
        for route in ("/", "/api/state", "/metrics", "/healthz", "/readyz"):
            status, body = running.get(route, **bearer)
            assert status == 200, route
            assert running.get(route)[0] == 401, route
            shown += body.decode()
        assert running.end() == 0
    finally:
        running.process.kill()
        shown_out = running.process.stdout.read().decode()
        running.process.stdout.close()
    for text in (shown, running.log, shown_out):
        assert secret not in text and token not in text
    assert "gate" in running.log and "webhook" in running.log  # there was something to show
