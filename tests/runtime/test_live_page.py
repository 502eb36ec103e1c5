"""The whole way: a bundle, a video, files, and the live page in a browser."""

import json

import cv2
import pytest
from browser import DESKTOP, PHONE
from conftest import DEMO
from daemons import daemon
from servers import wait_for

VIDEO = str(DEMO / "shapes.mp4")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_of_a_running_daemon(browser, bundle, tmp_path, size):
    frames = int(cv2.VideoCapture(VIDEO).get(cv2.CAP_PROP_FRAME_COUNT))
    config = {
        "model": str(bundle),
        "engine": {"backend": "onnxruntime", "deadline_s": 60},
        "sources": [
            {"name": "once", "type": "files", "paths": [VIDEO]},
            {"name": "looped", "type": "files", "paths": [VIDEO], "repeat": True, "rate": 10},
        ],
        "sinks": [
            {"type": "jsonl", "path": str(tmp_path / "out.jsonl"), "sources": ["once"]},
            {"type": "video", "folder": str(tmp_path / "videos"), "sources": ["once"]},
        ],
    }
    with daemon(config, tmp_path) as running:
        browser.open(f"http://127.0.0.1:{running.port}/", size)
        wait_for(lambda: browser.pictures() == 2, "the pictures")
        wait_for(lambda: browser.count("#found tbody tr") > 0, "detections")
        browser.shows("testboard")
        for name in ("once", "looped"):
            assert name in browser.text("#sources")
        assert "onnxruntime" in browser.text("#model")
        wait_for(lambda: running.source("once")["state"] == "ended", "the end of the video")
        wait_for(lambda: running.sink("jsonl")["written"] == frames, "its results")
        browser.shows("ended")
        browser.screenshot(tmp_path / f"live-{size[0]}.png")
        assert browser.fits()
        assert browser.errors() == []
        browser.leave()
        assert running.end() == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(frames))
    (video,) = (tmp_path / "videos").iterdir()
    assert int(cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT)) == frames
