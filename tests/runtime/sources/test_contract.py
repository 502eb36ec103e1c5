"""What holds for every source: it closes what it opened however it ends, and begins anew."""

import sys
import threading
import time
from contextlib import closing
from threading import Event

import pytest
from rtsp import rtsp_server
from servers import wait_for

from runtime.errors import UserError
from runtime.sources import SourceLostError

FRAMES = "import os, time\nwhile True: os.write(1, bytes(640 * 360 * 3)); time.sleep(0.02)"
SILENT = "import time; time.sleep(300)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with rtsp_server(tmp_path_factory.mktemp("rtsp")) as running:
        yield running


@pytest.fixture(params=["files", "command", "rtsp"])
def working(request, source, demo):
    """A source that gives pictures of 640 x 360 without an end."""
    if request.param == "files":
        return source("files", paths=[demo / "shapes.mp4"], repeat=True)
    if request.param == "command":
        python = [sys.executable, "-c", FRAMES]
        return source("command", command=python, width=640, height=360)
    server = request.getfixturevalue("server")
    return source("rtsp", url=f"rtsp://127.0.0.1:{server.port}/video")


@pytest.fixture(params=["missing-file", "command", "missing-command", "rtsp", "camera"])
def failing(request, source, tmp_path):
    """A source that cannot give pictures, now or ever."""
    if request.param == "missing-file":
        return source("files", paths=[tmp_path / "a.png"])
    if request.param == "command":
        return source("command", command=["false"], width=8, height=8)
    if request.param == "missing-command":
        return source("command", command=[str(tmp_path / "a")], width=8, height=8)
    if request.param == "rtsp":
        return source("rtsp", url="rtsp://127.0.0.1:9/video")
    return source("camera", device="/dev/null")


def test_closed_early_it_holds_nothing(working, held):
    with closing(working.captures(Event())) as captures:  # libraries keep threads from now on
        next(captures)
    before = held()
    for _ in range(3):
        with closing(working.captures(Event())) as captures:
            assert next(captures).bgr.shape == (360, 640, 3)
            assert next(captures).bgr.shape == (360, 640, 3)
            assert held() != before
        assert held() == before


def test_stop_ends_it(working, held):
    stop = Event()
    with closing(working.captures(stop)) as captures:
        next(captures)
        stop.set()
        begun = time.monotonic()
        assert len(list(captures)) <= 1
        assert time.monotonic() - begun < 20
    before = held()
    stop.clear()
    threading.Timer(1.5, stop.set).start()
    assert len(list(working.captures(stop))) > 0
    wait_for(lambda: held() == before, "the end of all it held, and of the timer")


def test_stopped_before_it_began(working, held):
    stop = Event()
    stop.set()
    list(working.captures(stop))
    before = held()
    assert list(working.captures(stop)) == []
    assert held() == before


def test_abandoned_without_close(working, held):
    with closing(working.captures(Event())) as captures:
        next(captures)
    before = held()
    captures = working.captures(Event())
    next(captures)
    del captures
    assert held() == before


def test_failures_hold_nothing(failing, held):
    for _ in range(2):
        with pytest.raises((SourceLostError, UserError)):
            next(failing.captures(Event()))
    before = held()
    for _ in range(3):
        with pytest.raises((SourceLostError, UserError)) as caught:
            next(failing.captures(Event()))
        message = str(caught.value)
        assert message
        assert "\n" not in message
    del caught
    assert held() == before
