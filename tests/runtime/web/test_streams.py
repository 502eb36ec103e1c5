"""Live pictures and events, over real connections."""

import asyncio
import http.client
import json
import time

import cv2
import numpy as np
import pytest
from servers import wait_for

from runtime.draw import draw
from runtime.pipeline.frames import event
from runtime.web import stream


class Reader:
    """An endless answer, read part by part."""

    def __init__(self, server, path):
        self._connection = http.client.HTTPConnection(*server.address, timeout=10)
        self._connection.request("GET", path)
        self.answer = self._connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def picture(self):
        """The next picture, bgr."""
        line = self.answer.readline()
        while not line.startswith(b"Content-Length"):
            assert line, "the stream ended"
            line = self.answer.readline()
        self.answer.readline()
        data = self.answer.read(int(line.split(b":")[1]))
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

    def lines(self):
        """The next event, as its lines."""
        lines = []
        while (line := self.answer.readline().decode().rstrip("\n")) or not lines:
            lines.append(line)
        return lines

    def event(self):
        """The next event that has data of the kind all have."""
        while not (lines := self.lines())[0].startswith("data: "):
            pass
        return json.loads(lines[0].removeprefix("data: "))

    def close(self):
        self._connection.close()


@pytest.fixture
def reader():
    made = []

    def make(server, path):
        made.append(Reader(server, path))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def encoded(monkeypatch):
    """The results that were encoded, in order."""
    results = []
    real = stream.annotated_jpeg

    def counted(result):
        results.append(result)
        return real(result)

    monkeypatch.setattr(stream, "annotated_jpeg", counted)
    return results


def get(server, path):
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, answer.headers["Content-Type"], data


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_snapshot_is_the_newest_frame_as_drawn(make_view, serve):
    view = make_view(moving=False)
    with serve(view) as server:
        for index in (0, 7):
            result = view.result("door", index)
            view.give(result)
            time.sleep(0.11)  # pictures are made at most ten times a second
            status, kind, data = get(server, "/snapshot/door.jpg")
            assert (status, kind) == (200, "image/jpeg")
            wanted = draw(result.frame.capture.bgr, result.detections, result.names)
            assert np.abs(decoded(data).astype(int) - wanted).mean() < 3


@pytest.mark.parametrize(
    ("size_wh", "shown_wh"),
    [((2560, 1440), (1280, 720)), ((1000, 4000), (320, 1280)), ((1280, 64), (1280, 64)),
     ((5000, 1), (1280, 1)), ((1, 1), (1, 1))],
)  # fmt: skip
def test_large_pictures_are_made_smaller(make_view, size_wh, shown_wh):
    view = make_view(moving=False, size_wh=size_wh)
    result = view.result("door", 10)
    picture = decoded(stream.annotated_jpeg(result))
    assert (picture.shape[1], picture.shape[0]) == shown_wh
    assert result.detections.xyxy.max() <= max(size_wh)  # the result itself stays as it was


def test_boxes_are_made_smaller_with_their_picture(make_view):
    view = make_view(moving=False, size_wh=(2560, 1920))
    result = view.result("door", 20)
    picture = decoded(stream.annotated_jpeg(result))
    x1, y1, x2, _ = (result.detections.xyxy[2] / 2).astype(int)  # an empty, dark place, boxed
    edge = picture[y1 + 30 : y1 + 60, x1 - 3 : x1 + 4].max(axis=1).astype(int)
    inside = picture[y1 + 30 : y1 + 60, (x1 + x2) // 2].astype(int)
    assert (edge.max(axis=1) - inside.max(axis=1)).min() > 60


def test_a_stream_shows_what_moves(make_view, serve, reader):
    view = make_view()
    with serve(view, stream_rate=20) as server:
        pictures = reader(server, "/stream/door")
        kind = pictures.answer.headers["Content-Type"]
        assert kind == "multipart/x-mixed-replace; boundary=frame"
        first, second, third = (pictures.picture() for _ in range(3))
        assert first.shape == (480, 640, 3)
        assert (first != second).any() and (second != third).any()


def test_viewers_share_the_pictures(make_view, serve, reader, encoded):
    view = make_view()
    with serve(view, stream_rate=10) as server:
        begun = time.monotonic()
        viewers = [reader(server, "/stream/door") for _ in range(5)]
        for _ in range(6):
            for viewer in viewers:
                viewer.picture()
            assert get(server, "/snapshot/door.jpg")[0] == 200
        took = time.monotonic() - begun
    assert len({id(result) for result in encoded}) == len(encoded)  # none of them twice
    assert 6 <= len(encoded) <= took * 10 + 2


def test_who_asks_often_gets_the_same_picture(make_view, serve, encoded):
    view = make_view()
    wait_for(lambda: view.latest("door"), "a result")
    with serve(view, stream_rate=1) as server:
        begun, seen = time.monotonic(), view.latest("door").frame.index
        while view.latest("door").frame.index < seen + 15:
            assert get(server, "/snapshot/door.jpg")[0] == 200
        assert 1 <= len(encoded) <= time.monotonic() - begun + 1


def test_nobody_looks_so_nothing_is_encoded(make_view, serve, reader, encoded):
    view = make_view()
    with serve(view, stream_rate=20) as server:
        wait_for(lambda: view.state()["sources"]["door"]["results"] > 5, "results")
        assert not encoded
        viewer = reader(server, "/stream/door")
        viewer.picture()
        viewer.close()
        wait_for(lambda: _streams(server) == 0, "the viewer to be gone")
        count, results = len(encoded), view.state()["sources"]["door"]["results"]
        wait_for(lambda: view.state()["sources"]["door"]["results"] > results + 5, "results")
        assert len(encoded) == count


def _streams(server):
    return json.loads(get(server, "/api/state")[2])["web"]["streams"]


def test_a_stream_that_is_opened_too_early_begins_with_the_first_frame(make_view, serve, reader):
    view = make_view(moving=False)
    with serve(view, stream_rate=30) as server:
        viewer = reader(server, "/stream/door")
        view.give(view.result("door", 0))
        assert viewer.picture().shape == (480, 640, 3)


def test_a_viewer_that_is_slow_gets_the_newest_next(make_view, encoded):
    view = make_view(moving=False)

    async def watch():
        pictures = stream.Pictures(view, 1000)
        parts = pictures.mjpeg("door")
        assert await anext(parts) == b"--frame\r\n"
        for index in (0, 1, 2, 9):  # the viewer is away for all but the first and the last
            view.give(view.result("door", index))
            if index in (0, 9):
                await asyncio.wait_for(anext(parts), 10)
        pictures.close()
        assert [part async for part in parts] == []

    asyncio.run(watch())
    assert [result.frame.index for result in encoded] == [0, 9]


def test_a_frame_that_cannot_be_drawn_ends_its_stream_alone(make_view, serve, reader, caplog):
    view = make_view(sources=("door", "yard"), moving=False)
    view.give(view.result("yard", 0))
    bad = view.result("door", 0)
    bad.detections.class_id[:] = 99
    view._latest["door"] = bad
    with serve(view) as server:
        assert get(server, "/snapshot/door.jpg")[0] == 500
        assert reader(server, "/stream/yard").picture() is not None
    assert "GET /snapshot/door.jpg failed" in caplog.text


def test_events_are_the_results(make_view, serve, reader):
    view = make_view(sources=("door", "yard"), moving=False)
    with serve(view) as server:
        listener = reader(server, "/api/detections")
        assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
        assert listener.lines() == ["retry: 2000"]
        for name in ("door", "yard"):
            result = view.result(name, 3)
            view.give(result)
            assert listener.event() == json.loads(json.dumps(event(result)))


@pytest.mark.parametrize(
    ("query", "wanted"),
    [("?source=yard", ["yard"]), ("?source=yard&source=door", ["door", "yard"])],
)
def test_events_of_some_sources(make_view, serve, reader, query, wanted):
    view = make_view(sources=("door", "yard", "gate"), moving=False)
    with serve(view) as server:
        listener = reader(server, f"/api/detections{query}")
        listener.lines()
        for name in ("gate", "door", "yard"):
            view.give(view.result(name, 1))
        assert [listener.event()["source"] for _ in wanted] == wanted


def test_nobody_listens_so_nothing_is_asked_for(make_view, serve, reader):
    view = make_view()
    with serve(view) as server:
        assert view.callbacks == []
        listeners = [reader(server, "/api/detections") for _ in range(3)]
        for listener in listeners:
            listener.event()
        assert len(view.callbacks) == 1
        for listener in listeners:
            listener.close()
        wait_for(lambda: view.callbacks == [], "the end of the subscription")


def test_a_listener_that_is_slow_loses_the_oldest_and_is_told(make_view, serve, reader):
    view = make_view(moving=False)
    with serve(view) as server:
        listener, brisk = (reader(server, "/api/detections") for _ in range(2))
        result = view.result("door", 0)
        for _ in range(20_000):  # more than the sockets hold
            view.give(result)
            if json_dropped(server, every=_):
                break
        dropped = json_dropped(server)
        assert dropped > 0
        while (lines := listener.lines())[0] != "event: dropped":
            pass
        assert json.loads(lines[1].removeprefix("data: "))["dropped"] > 0
        assert brisk.event()["source"] == "door"


def json_dropped(server, every=0):
    """How many events were dropped; asked at every 500th only."""
    if every % 500:
        return 0
    return json.loads(get(server, "/api/state")[2])["web"]["events_dropped"]


def test_a_quiet_stream_is_kept_alive(make_view, serve, reader, monkeypatch):
    monkeypatch.setattr("runtime.web.events._KEEP_ALIVE_S", 0.05)
    with serve(make_view(moving=False)) as server:
        listener = reader(server, "/api/detections")
        assert [listener.lines() for _ in range(3)] == [["retry: 2000"], *[[": still here"]] * 2]


def test_a_still_picture_is_sent_again(make_view, serve, reader, monkeypatch):
    monkeypatch.setattr("runtime.web.stream._REPEAT_S", 0.05)
    view = make_view(moving=False)
    view.give(view.result("door", 0))
    with serve(view, stream_rate=30) as server:
        viewer = reader(server, "/stream/door")
        np.testing.assert_array_equal(viewer.picture(), viewer.picture())


def test_a_viewer_that_takes_nothing_is_let_go(make_view, serve, reader, monkeypatch):
    monkeypatch.setattr("runtime.web.endless.PATIENCE_S", 0.3)
    view = make_view(size_wh=(1280, 960))
    with serve(view, stream_rate=60) as server:
        reader(server, "/stream/door").picture()
        wait_for(lambda: _streams(server) == 0, "the viewer to be let go", 60)


def test_a_viewer_whose_turn_comes_after_the_close_gets_the_last_picture(make_view, encoded):
    view = make_view(moving=False)

    async def watch():
        pictures = stream.Pictures(view, 1000)
        view.give(view.result("door", 0))
        last = await pictures.newest("door")
        await asyncio.sleep(0.01)  # the next one is due
        view.give(view.result("door", 1))
        waiting = [asyncio.create_task(pictures.newest("door")) for _ in range(3)]
        pictures.close()
        assert await asyncio.gather(*waiting) == [last] * 3

    asyncio.run(watch())
    assert [result.frame.index for result in encoded] == [0]
