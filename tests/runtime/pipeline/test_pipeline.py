"""Frames through the pipeline: order, fairness, what may be dropped, and exchange while it runs."""

import threading
import time
from collections import Counter

import numpy as np
import pytest
from scenes import facts_of, scene
from servers import wait_for
from stand_in import CollectOptions, CollectSink, Core, FramesOptions, StandIn

from runtime.decode import Decoder
from runtime.manifest import Thresholds
from runtime.options import Region, ThresholdOptions
from runtime.pipeline.pipeline import Pipeline
from runtime.pipeline.pool import Pool, Recipe
from runtime.sinks import SINKS, SinkLostError
from runtime.sources import SOURCES

FACTS = facts_of(wh=(64, 64), classes=3)
OUTPUTS = [tensor.array for tensor in scene(FACTS, 2, 6, np.random.default_rng(1))]

WHOLE = Region()


class Backends:
    """Makes contexts on cores of their own, and keeps them for a look at the end."""

    def __init__(self, cores, hold_s, kind=StandIn):
        self.made = [(i, kind(Core(hold_s), OUTPUTS)) for i in range(cores)]

    def pool(self, *names, region=WHOLE):
        thresholds = Thresholds()
        recipe = Recipe(Decoder(FACTS, thresholds), thresholds, region)
        return Pool(self.made, FACTS, dict.fromkeys(names, recipe))


@pytest.fixture
def collected(monkeypatch):
    """The list into which the sinks of a test put what they get."""
    got = []
    monkeypatch.setitem(SOURCES, "frames", "stand_in:FramesSource")
    monkeypatch.setitem(SINKS, "collect", "stand_in:CollectSink")
    monkeypatch.setattr(CollectSink, "got", got, raising=False)
    return got


@pytest.fixture
def pipeline():
    running = Pipeline("board")
    yield running
    running.close(5)


def frames(name, count, **options):
    options = {"wh": (64, 48)} | options
    return FramesOptions(name=name, count=count, **options)


def use(pipeline, sources, sinks, drain_s=5):
    pipeline.use({source.name: source for source in sources}, sinks, drain_s)


class Uneven(StandIn):
    """A context that takes now long, now short."""

    def infer(self, picture):
        time.sleep(np.random.default_rng().uniform(0, 0.01))
        return super().infer(picture)


def test_every_frame_of_a_file_arrives_once_and_in_order(pipeline, collected):
    pipeline.use_pool(Backends(6, 0.001, Uneven).pool("a"), 5)
    use(pipeline, [frames("a", 300)], {"c": CollectOptions(queue=4)})
    wait_for(lambda: pipeline.finished, "the last frame")
    assert collected == [("a", n) for n in range(300)]
    state = pipeline.state()
    assert state["sources"]["a"]["results"] == state["sinks"]["c"]["written"] == 300
    assert state["sources"]["a"]["stages"]["infer"]["count"] == 300
    assert sum(context["frames"] for context in state["contexts"]) == 300
    assert pipeline.incomplete() == []


def test_contexts_on_idle_cores_get_the_frames_first(pipeline, collected):
    cores = [Core(0.02) for _ in range(3)]
    made = [(i, StandIn(cores[i], OUTPUTS)) for _ in range(2) for i in range(3)]
    thresholds = Thresholds()
    pool = Pool(made, FACTS, {"a": Recipe(Decoder(FACTS, thresholds), thresholds, Region())})
    pipeline.use_pool(pool, 5)
    times = []
    pipeline.subscribe(lambda result: times.append(result.seconds["infer"]))
    # two thirds of what three cores can do: with the right core each time, nobody waits for one
    use(pipeline, [frames("a", 60, every_s=0.01)], {})
    wait_for(lambda: pipeline.finished, "the last frame")
    assert np.median(times) < 0.03


def test_sources_take_turns(pipeline, collected):
    pipeline.use_pool(Backends(1, 0.002).pool("a", "b", "c"), 5)
    sources = [frames(name, 100) for name in "abc"]
    use(pipeline, sources, {"sink": CollectOptions(queue=400)})
    wait_for(lambda: pipeline.finished, "the last frame")
    middle = Counter(name for name, _ in collected[60:240])
    assert all(50 <= middle[name] <= 70 for name in "abc"), middle


def test_of_a_live_source_the_newest_frame_wins(pipeline, collected):
    pipeline.use_pool(Backends(1, 0.05).pool("a"), 5)
    use(pipeline, [frames("a", 100, live=True, every_s=0.002)], {"c": CollectOptions()})
    wait_for(lambda: ("a", 99) in collected, "the newest frame")
    numbers = [number for _, number in collected]
    assert numbers == sorted(numbers) and len(numbers) < 20
    state = pipeline.state()["sources"]["a"]
    assert state["frames"] == 100 and state["dropped"] == 100 - len(numbers)


def test_a_slow_sink_does_not_slow_a_live_source(pipeline, collected):
    pipeline.use_pool(Backends(2, 0.001).pool("a"), 5)
    source = frames("a", 200, live=True, every_s=0.005)
    use(pipeline, [source], {"slow": CollectOptions(each_s=0.1, queue=5)})
    wait_for(lambda: pipeline.state()["sources"]["a"]["frames"] == 200, "the last frame", 12)
    wait_for(lambda: ("a", 199) in collected, "the newest result")
    sink = pipeline.state()["sinks"]["slow"]
    assert sink["dropped"] > 100
    assert [number for _, number in collected] == sorted(number for _, number in collected)


def test_a_file_waits_for_a_slow_sink(pipeline, collected):
    pipeline.use_pool(Backends(2, 0.001).pool("a"), 5)
    use(pipeline, [frames("a", 40)], {"slow": CollectOptions(each_s=0.01, queue=2)})
    wait_for(lambda: pipeline.finished, "the last frame")
    assert collected == [("a", n) for n in range(40)]


def test_a_file_and_a_camera_share_a_slow_sink(pipeline, collected):
    """The camera's results make room for each other, never for the file's."""
    pipeline.use_pool(Backends(2, 0.001).pool("file", "camera"), 5)
    sources = [frames("file", 50), frames("camera", 500, live=True, every_s=0.001)]
    use(pipeline, sources, {"slow": CollectOptions(each_s=0.01, queue=4)})
    wait_for(lambda: sum(name == "file" for name, _ in collected) == 50, "the file")
    assert [n for name, n in collected if name == "file"] == list(range(50))
    assert pipeline.state()["sinks"]["slow"]["dropped"] > 0


class Stuck(CollectSink):
    release = threading.Event()

    def write(self, result):
        self.release.wait(30)
        super().write(result)


def test_a_stuck_sink_is_dead_after_its_deadline(pipeline, collected, monkeypatch):
    monkeypatch.setattr(Stuck, "release", threading.Event())
    monkeypatch.setitem(SINKS, "collect", f"{__name__}:Stuck")
    monkeypatch.setattr("runtime.sinks.load_entry", lambda entry: Stuck)
    pipeline.use_pool(Backends(2, 0.001).pool("a"), 5)
    use(pipeline, [frames("a", 30)], {"stuck": CollectOptions(queue=3, deadline_s=0.3)})
    wait_for(lambda: pipeline.finished, "the source, in spite of the sink")
    sink = pipeline.state()["sinks"]["stuck"]
    assert sink["state"] == "dead" and sink["written"] == 0 and sink["dropped"] == 29
    assert pipeline.incomplete() == ["stuck"]
    Stuck.release.set()
    wait_for(lambda: pipeline.state()["sinks"]["stuck"]["state"] == "running", "its return")


class Moody(CollectSink):
    """Fails now and then, and takes the same result the next time."""

    calls = 0

    def write(self, result):
        Moody.calls += 1
        if Moody.calls % 3 == 0:
            raise SinkLostError("nobody is at home: come back later")
        super().write(result)


def test_what_a_sink_could_not_take_comes_again(pipeline, collected, monkeypatch):
    monkeypatch.setattr("runtime.sinks.load_entry", lambda entry: Moody)
    monkeypatch.setattr("runtime.pipeline.backoff.random.uniform", lambda a, b: 0.01)
    pipeline.use_pool(Backends(2, 0.001).pool("a"), 5)
    use(pipeline, [frames("a", 20)], {"moody": CollectOptions(queue=3)})
    wait_for(lambda: pipeline.finished, "the last frame")
    assert collected == [("a", n) for n in range(20)]
    assert pipeline.state()["sinks"]["moody"]["written"] == 20


class Faulty(CollectSink):
    def write(self, result):
        if result.frame.index == 3:
            raise ZeroDivisionError("of its own")
        super().write(result)


def test_a_result_that_breaks_a_sink_is_dropped_and_counted(
    pipeline, collected, monkeypatch, caplog
):
    monkeypatch.setattr("runtime.sinks.load_entry", lambda entry: Faulty)
    pipeline.use_pool(Backends(1, 0.001).pool("a"), 5)
    use(pipeline, [frames("a", 6)], {"faulty": CollectOptions()})
    wait_for(lambda: pipeline.finished, "the last frame")
    assert [n for _, n in collected] == [0, 1, 2, 4, 5]
    assert pipeline.state()["sinks"]["faulty"]["failed"] == 1
    assert "ZeroDivisionError: of its own" in caplog.text


class FailsOften(StandIn):
    def infer(self, picture):
        if np.random.default_rng().random() < 0.3:
            raise RuntimeError("the NPU refused a picture")
        return super().infer(picture)


def test_failed_frames_keep_the_order_and_are_counted(pipeline, collected):
    pipeline.use_pool(Backends(3, 0.001, FailsOften).pool("a"), 5)
    use(pipeline, [frames("a", 100)], {"c": CollectOptions(queue=4)})
    wait_for(lambda: pipeline.finished, "the last frame")
    numbers = [n for _, n in collected]
    assert numbers == sorted(set(numbers))
    state = pipeline.state()["sources"]["a"]
    assert state["failed"] == 100 - len(numbers) > 0
    assert sum(context["errors"] for context in pipeline.state()["contexts"]) == state["failed"]


class Broken(StandIn):
    def infer(self, picture):
        raise RuntimeError("the NPU refused a picture")


class Hung(StandIn):
    def infer(self, picture):
        time.sleep(1)
        return super().infer(picture)


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [(StandIn, None), (Broken, "calls of the model failed"), (Hung, "has not returned for")],
)
def test_trouble_with_the_backend_is_told(pipeline, collected, kind, trouble):
    pool = Backends(1, 0.001, kind).pool("a")
    pipeline.use_pool(pool, 5)
    use(pipeline, [frames("a", 20, live=True, every_s=0.005)], {})
    if trouble is None:
        wait_for(lambda: pipeline.state()["sources"]["a"]["results"] > 3, "results")
        assert pool.trouble(0.5) is None
    else:
        wait_for(lambda: trouble in (pool.trouble(0.2) or ""), trouble)


def test_a_pool_is_exchanged_under_load_and_no_frame_is_lost(pipeline, collected):
    first, second = Backends(3, 0.002), Backends(2, 0.001)
    pipeline.use_pool(first.pool("a"), 5)
    use(pipeline, [frames("a", 400)], {"c": CollectOptions(queue=8)})
    wait_for(lambda: len(collected) > 50, "some frames")
    pipeline.use_pool(second.pool("a"), 5)
    assert all(backend.closed for _, backend in first.made)
    wait_for(lambda: pipeline.finished, "the last frame")
    assert collected == [("a", n) for n in range(400)]
    assert not any(backend.closed for _, backend in second.made)


def test_sources_and_sinks_are_exchanged_and_the_rest_goes_on(pipeline, collected):
    pipeline.use_pool(Backends(2, 0.001).pool("a", "b"), 5)
    same = CollectOptions(queue=8)
    use(pipeline, [frames("a", 300, every_s=0.002)], {"same": same, "old": CollectOptions(queue=9)})
    wait_for(lambda: len(collected) > 20, "some frames")
    threads = {thread.name for thread in threading.enumerate()}
    assert {"source a", "sink same", "sink old"} <= threads
    changed = frames("a", 300, every_s=0.002, thresholds=ThresholdOptions(score=0.9))
    use(pipeline, [changed, frames("b", 50)], {"same": same, "new": CollectOptions(queue=9)})
    wait_for(lambda: pipeline.finished, "the last frames")
    state = pipeline.state()
    # a went on from where it was, since only its thresholds changed
    assert state["sources"]["a"]["results"] == 300 and state["sources"]["a"]["connections"] == 1
    assert state["sinks"]["same"]["written"] == 350
    assert set(state["sinks"]) == {"same", "new"}
    assert Counter(collected)[("b", 49)] == 2


def test_closing_lets_what_is_under_way_arrive(pipeline, collected):
    pipeline.use_pool(Backends(2, 0.002).pool("a"), 5)
    use(pipeline, [frames("a", 100_000)], {"c": CollectOptions(queue=8)})
    wait_for(lambda: len(collected) > 30, "some frames")
    pipeline.close(5)
    state = pipeline.state()
    assert collected == [("a", n) for n in range(len(collected))]
    assert state["sources"]["a"]["results"] == len(collected) == state["sinks"]["c"]["written"]
    assert state["sinks"]["c"]["state"] == "stopped"
    assert not [
        t for t in threading.enumerate() if t.name.startswith(("source", "sink", "context"))
    ]


def test_boxes_of_a_region_are_in_pixels_of_the_whole_picture(pipeline, collected):
    results = []
    region = Region(x=0.5, y=0.25, width=0.5, height=0.5)
    pipeline.subscribe(results.append)
    pipeline.use_pool(Backends(1, 0.001).pool("a", region=region), 5)
    use(pipeline, [frames("a", 1, wh=(128, 128))], {})
    wait_for(lambda: pipeline.finished, "the frame")
    whole = []
    pipeline.subscribe(whole.append)
    pipeline.use_pool(Backends(1, 0.001).pool("b"), 5)
    use(pipeline, [frames("b", 1, wh=(64, 64))], {})
    wait_for(lambda: pipeline.finished, "the frame")
    assert len(results[0].detections) > 0
    moved = results[0].detections.xyxy - [64, 32, 64, 32]
    np.testing.assert_allclose(moved, whole[-1].detections.xyxy, atol=1e-4)


def test_the_rate_of_a_live_source_is_limited(pipeline, collected):
    pipeline.use_pool(Backends(2, 0.0005).pool("a"), 5)
    source = frames("a", 100, live=True, every_s=0.01, rate=20)
    use(pipeline, [source], {"c": CollectOptions(queue=200)})
    wait_for(lambda: pipeline.state()["sources"]["a"]["frames"] == 100, "the last frame")
    wait_for(lambda: not pipeline._under_way(), "the results")
    state = pipeline.state()["sources"]["a"]
    assert state["skipped"] + state["results"] + state["dropped"] == 100
    # a slow machine stretches the second that the frames take, and lets more of them through
    assert 15 <= state["results"] <= 60
