"""The daemon on a network camera that goes away again and again."""

import random
import time

from conftest import DEMO
from daemons import daemon
from rtsp import rtsp_server
from servers import wait_for

RESTARTS = 10
WITHIN_S = 5.0


def frames(running):
    return running.source("cam")["frames"]


def wait_for_frames(running, within_s):
    before = frames(running)
    wait_for(lambda: frames(running) > before, "frames of the camera", within_s)


def lost(running):
    return running.source("cam")["state"] in ("waiting", "connecting")


def test_the_camera_dies_and_returns_ten_times(tmp_path):
    """The daemon is back within seconds each time, and neither its memory nor its threads grow."""
    chance = random.Random(20)
    with rtsp_server(tmp_path) as server:
        url = f"rtsp://me:sesame@127.0.0.1:{server.port}/video"
        camera = {"name": "cam", "type": "rtsp", "url": url, "rate": 5}
        engine = {"backend": "onnxruntime", "contexts_per_core": 1, "deadline_s": 60}
        plain = {"model": str(DEMO / "shapes.pt"), "engine": engine, "sources": [camera]}
        with daemon(plain, tmp_path) as running:
            wait_for_frames(running, 30)
            took, memory, threads = [], [], []
            for _ in range(RESTARTS):
                server.kill()
                wait_for(lambda: lost(running), "the loss to be seen", 20)
                time.sleep(chance.uniform(0, 4))
                server.start()
                begun = time.monotonic()
                wait_for_frames(running, 60)
                took.append(time.monotonic() - begun)
                state = running.state()
                memory.append(state["memory_mb"])
                threads.append(state["threads"])
            after = running.source("cam")
            assert running.end() == 0
    assert max(took) < WITHIN_S, took
    assert after["connections"] > RESTARTS
    assert max(threads) <= threads[1] + 1, threads  # the page's own come and go
    # what grows with every loss would do so in the second half too
    assert memory[-1] - memory[RESTARTS // 2] < 20, memory
    assert "sesame" not in running.log
    assert running.log.count("ended the stream") >= RESTARTS
