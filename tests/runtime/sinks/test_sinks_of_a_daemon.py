"""The sinks in a running daemon: all at once, with places that fail, and with a dead server."""

import json
import subprocess

import cv2
from conftest import DEMO
from daemons import ROOT, RUN, daemon
from hook_server import hook
from made_results import names
from servers import free_port, program, wait_for

VIDEO = DEMO / "shapes.mp4"


def config(*sinks, **source):
    files = {"name": "demo", "type": "files", "paths": [str(VIDEO)]} | source
    plain = {"model": str(DEMO / "shapes.pt"), "sources": [files], "sinks": list(sinks)}
    return plain | {"engine": {"deadline_s": 60}}


def live(rate=30):
    """A live source: ffmpeg plays the video again and again at its own pace."""
    play = [program("ffmpeg"), "-v", "error", "-re", "-stream_loop", "-1", "-i", str(VIDEO)]
    play += ["-vf", f"fps={rate},scale=320:240", "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    return {"name": "cam", "type": "command", "command": play, "width": 320, "height": 240}


def count(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_all_of_them_at_once(tmp_path):
    with hook() as server:
        plain = config(
            {"type": "jsonl", "path": "-"},
            {"type": "video", "folder": "videos"},
            {"type": "snapshots", "folder": "snapshots", "interval_s": 1},
            {"type": "webhook", "url": f"http://127.0.0.1:{server.port}/", "empty": True},
        )
        (tmp_path / "rkyolo.yaml").write_text(json.dumps(plain))
        command = [*RUN, str(tmp_path / "rkyolo.yaml")]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    capture = cv2.VideoCapture(str(VIDEO))
    frames, rate = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(frames))
    assert [body for _, _, body in server.got] == lines
    assert server.connections == 1
    (video,) = (tmp_path / "videos").iterdir()
    assert video.name.startswith("demo-") and video.name.endswith("Z-shapes.mp4")
    assert abs(len(names(tmp_path / "snapshots")) - frames / rate) <= 1


def test_places_that_fail_and_come_back_stop_nobody_else(tmp_path):
    (tmp_path / "file").touch()
    plain = config(
        {"type": "jsonl", "path": "file/out", "name": "blocked"},
        {"type": "snapshots", "folder": "file/s"},
        {"type": "webhook", "url": f"http://me:s3cret@127.0.0.1:{free_port()}/tok3n"},
        {"type": "jsonl", "path": "good"},
    )
    plain["sources"] = [live()]
    with daemon(plain, tmp_path) as running:
        wait_for(lambda: count(tmp_path / "good") > 100, "a hundred lines")
        state = {name: running.sink(name) for name in ("blocked", "snapshots", "webhook", "jsonl")}
        assert [one["state"] for one in state.values()] == ["failing"] * 3 + ["running"]
        assert "a file is where a folder should be; mend that" in state["blocked"]["detail"]
        assert "connection refused" in state["webhook"]["detail"]
        assert state["jsonl"]["dropped"] == 0
        (tmp_path / "file").unlink()
        wait_for(lambda: count(tmp_path / "file" / "out") > 0, "the path to be used")
        wait_for(lambda: (tmp_path / "file" / "s").exists(), "the folder to be used")
        running.end()
        assert "Traceback" not in running.log
        assert "s3cret" not in running.log and "tok3n" not in running.log


def test_a_reader_of_standard_output_that_goes_ends_nothing(tmp_path):
    plain = config({"type": "jsonl", "path": "-"}, {"type": "jsonl", "path": "out", "name": "file"})
    plain["sources"] = [live()]
    with daemon(plain, tmp_path) as running:
        running.process.stdout.readline()
        running.process.stdout.close()
        wait_for(lambda: running.sink("jsonl")["state"] == "failing", "the sink to fail")
        before = count(tmp_path / "out")
        wait_for(lambda: count(tmp_path / "out") > before + 30, "the other sink to go on")
        assert "nobody reads the standard output" in running.sink("jsonl")["detail"]
        running.end()
        assert "Traceback" not in running.log and "Exception ignored" not in running.log
