"""A daemon to look at that we wrote, and the real server over it."""

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from runtime.config import HttpOptions
from runtime.detections import Detections
from runtime.pipeline.frames import STAGES, Capture, Frame, Result
from runtime.web.server import WebServer

HOSTILE = "<img src=x onerror=\"document.title='broken in'\">"
NAMES = ("circle", "square", "triangle", "star", HOSTILE)
BUCKETS = (0.001, 0.005, 0.025, 0.1)


class FakeView:
    """Sources that really give drawn pictures, at 20 a second, in threads of their own."""

    def __init__(self, sources=("door",), size_wh=(640, 480)):
        self.size_wh = size_wh
        self.started_at = time.time()
        self.is_healthy = self.is_ready = True
        self.reload = {"at": None, "error": None}
        self.npu_load = [61.0, 48.0, 12.0]
        self.sources = {name: _source(name) for name in sources}
        self.sinks = {"jsonl": _sink(), "broker": _sink(type="mqtt", to="mqtt://hub:1883/rkyolo")}
        self.callbacks: list[Callable[[Result], None]] = []
        self._latest: dict[str, Result] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self):
        for name in self.sources:
            thread = threading.Thread(target=self._run, args=(name,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(5)

    def _run(self, name):
        index = 0
        while not self._stop.wait(0.05):
            if self.sources.get(name, {}).get("state") == "running":
                self.give(self.result(name, index))
                index += 1

    def result(self, source, index):
        """A grey picture with a moving square, a circle, and what was found there."""
        w, h = self.size_wh
        bgr = np.full((h, w, 3), 70, np.uint8)
        bgr += np.linspace(0, 60, h, dtype=np.uint8)[:, None, None]
        x, y = w * (index % 60) // 75, h // 4 + (len(source) * 7) % (h // 4 + 1)
        s = min(w, h) // 5
        cv2.rectangle(bgr, (x, y), (x + s, y + s), (180, 120, 40), -1)
        cv2.circle(bgr, (w // 2, h * 3 // 4), s // 2, (60, 160, 90), -1)
        boxes = [
            [x, y, x + s, y + s],
            [w / 2 - s / 2, h * 0.75 - s / 2, w / 2 + s / 2, h * 0.75 + s / 2],
            [w * 0.7, h * 0.15, w * 0.9, h * 0.4],
        ]
        found = Detections(
            np.array(boxes, np.float32),
            np.array([0.97, 0.83, 0.41], np.float32),
            np.array([1, 0, 4], np.int32),
        )
        seconds = dict(zip(STAGES, (0.004, 0.002, 0.018, 0.003, 0.001), strict=True))
        return Result(Frame(source, index, Capture(bgr, time.time())), found, NAMES, seconds)

    def give(self, result):
        """Have a source give a result now."""
        of = self.sources[result.frame.source]
        of["frames"] += 1
        of["results"] += 1
        of["detections"] += len(result.detections)
        for class_id in result.detections.class_id:
            name = result.names[class_id]
            of["per_class"] = of["per_class"] | {name: of["per_class"].get(name, 0) + 1}
        of["last_frame_at"] = result.frame.capture.captured_at
        of["size_wh"] = list(self.size_wh)
        of["frames_per_second"] = 20.0
        self._latest[result.frame.source] = result
        for callback in tuple(self.callbacks):
            callback(result)

    def state(self):
        return {
            "board": "porch-board",
            "version": "0.1.0",
            "started_at": self.started_at,
            "now": time.time(),
            "ready": self.is_ready,
            "reload": dict(self.reload),
            "model": {
                "path": "/srv/models/shapes",
                "target": "rk3588",
                "precision": "int8",
                "toolkit": "2.5.0",
                "classes": list(NAMES),
                "input_wh": [640, 640],
                "backend": "rknnlite",
            },
            "sources": {name: dict(of) for name, of in self.sources.items()},
            "sinks": {name: dict(of) for name, of in self.sinks.items()},
            "contexts": [
                {"core": core, "busy": core < 2, "frames": 100 * core, "errors": 0}
                for core in (0, 0, 1, 1, 2, 2)
            ],
            "npu_load": self.npu_load,
            "memory_mb": 214.5,
            "threads": 17,
        }

    def latest(self, source):
        return self._latest.get(source)

    def subscribe(self, callback):
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def healthy(self):
        return self.is_healthy

    def ready(self):
        return self.is_ready


def _source(name):
    medians = dict(zip(STAGES, (3.9, 1.8, 17.6, 2.7, 0.4), strict=True))
    stages = {
        stage: {
            "median_ms": ms,
            "p95_ms": ms * 1.6,
            "count": 40,
            "seconds": 40 * ms / 1000,
            "buckets": [[le, 40 if ms / 1000 < le else 0] for le in BUCKETS],
        }
        for stage, ms in medians.items()
    }
    return {
        "type": "rtsp",
        "from": f"rtsp://192.168.7.20:554/{name}",
        "state": "running",
        "detail": None,
        "live": True,
        "connections": 1,
        "frames": 0,
        "dropped": 0,
        "skipped": 0,
        "failed": 0,
        "results": 0,
        "detections": 0,
        "per_class": {},
        "frames_per_second": 0.0,
        "last_frame_at": None,
        "size_wh": None,
        "stages": stages,
    }


def _sink(**different):
    return {
        "type": "jsonl",
        "to": "/var/lib/rkyolo/found.jsonl",
        "state": "running",
        "detail": None,
        "written": 1234,
        "dropped": 0,
        "failed": 0,
        "queued": 2,
        "queue": 64,
        "more": {"outbox": 7} if different else {},
    } | different


@contextmanager
def _running(view, **options):
    server = WebServer(HttpOptions(**({"port": 0} | options)), view)
    server.start()
    try:
        yield server
    finally:
        server.close(5)


@pytest.fixture
def make_view():
    """Makes running views: make_view(sources=..., size_wh=...)."""
    made = []

    def make(moving=True, **options):
        view = FakeView(**options)
        made.append(view)
        if moving:
            view.start()
        return view

    yield make
    for view in made:
        view.stop()


@pytest.fixture
def serve():
    """A context manager: serve(view, **http options) gives the server, which answers."""
    return _running
