import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics import metrics_text

STAGE = {
    "median_ms": 4.0,
    "p95_ms": 9.0,
    "count": 10,
    "seconds": 0.05,
    "buckets": [[0.005, 7], [0.05, 9]],
}
SOURCE = {
    "state": "running",
    "connections": 2,
    "frames": 120,
    "dropped": 4,
    "skipped": 3,
    "failed": 1,
    "results": 112,
    "detections": 300,
    "per_class": {"cat": 200, "dog": 100},
    "frames_per_second": 24.5,
    "last_frame_at": 1700000000.5,
    "stages": {"infer": STAGE},
}
SINK = {"state": "running", "written": 90, "dropped": 2, "failed": 5, "queued": 3, "queue": 64}
STATE = {
    "board": "porch",
    "version": "0.1.0",
    "started_at": 1699999999.0,
    "ready": True,
    "reload": {"at": None, "error": None},
    "model": {"target": "rk3588", "precision": "int8", "toolkit": "2.5.0", "backend": "rknnlite"},
    "sources": {"door": SOURCE, "yard": SOURCE | {"state": "waiting", "last_frame_at": None}},
    "sinks": {"file": SINK | {"more": {}}, "hub": SINK | {"state": "dead", "more": {"outbox": 7}}},
    "contexts": [{"core": 0, "busy": True, "frames": 60, "errors": 1}],
    "npu_load": [50, 25.0, 0],
    "memory_mb": 200.0,
    "threads": 12,
    "web": {"streams": 2, "events_dropped": 9},
}


def samples(state):
    """Of each sample its value, by name and labels, as Prometheus's own parser reads them."""
    found = {}
    for family in text_string_to_metric_families(metrics_text(state).decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


DOOR = ("source", "door")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("rkyolo_frames_total", DOOR), 120),
        (("rkyolo_frames_dropped_total", DOOR), 4),
        (("rkyolo_frames_skipped_total", DOOR), 3),
        (("rkyolo_frames_failed_total", DOOR), 1),
        (("rkyolo_results_total", DOOR), 112),
        (("rkyolo_source_connections_total", DOOR), 2),
        (("rkyolo_detections_total", ("class", "cat"), DOOR), 200),
        (("rkyolo_frames_per_second", DOOR), 24.5),
        (("rkyolo_last_frame_timestamp_seconds", DOOR), 1700000000.5),
        (("rkyolo_source_up", DOOR), 1),
        (("rkyolo_source_up", ("source", "yard")), 0),
        (("rkyolo_sink_up", ("sink", "file")), 1),
        (("rkyolo_sink_up", ("sink", "hub")), 0),
        (("rkyolo_sink_written_total", ("sink", "file")), 90),
        (("rkyolo_sink_dropped_total", ("sink", "file")), 2),
        (("rkyolo_sink_failed_total", ("sink", "file")), 5),
        (("rkyolo_sink_queued_results", ("sink", "file")), 3),
        (("rkyolo_outbox_events", ("sink", "hub")), 7),
        (("rkyolo_npu_load_ratio", ("core", "0")), 0.5),
        (("rkyolo_npu_load_ratio", ("core", "2")), 0),
        (("rkyolo_context_errors_total", ("context", "0"), ("core", "0")), 1),
        (("rkyolo_memory_bytes",), 200e6),
        (("rkyolo_ready",), 1),
        (("rkyolo_reload_failed",), 0),
        (("rkyolo_web_events_dropped_total",), 9),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_numbers(key, value):
    assert samples(STATE)[key] == value


def test_what_runs_here():
    (key,) = [key for key in samples(STATE) if key[0] == "rkyolo_info"]
    labels = dict(key[1:])
    assert labels == STATE["model"] | {"board": "porch", "version": "0.1.0"}


def test_stages_are_histograms():
    found = samples(STATE)
    labels = (DOOR, ("stage", "infer"))
    buckets = {
        dict(key[1:])["le"]: value
        for key, value in found.items()
        if key[0] == "rkyolo_stage_seconds_bucket" and DOOR in key
    }
    assert buckets == {"0.005": 7, "0.05": 9, "+Inf": 10}
    assert found[("rkyolo_stage_seconds_count", *labels)] == 10
    assert found[("rkyolo_stage_seconds_sum", *labels)] == 0.05


@pytest.mark.parametrize("last", [[None, 10], [math.inf, 10]])
def test_a_last_bucket_without_bound_is_there_once(last):
    stage = STAGE | {"buckets": [[0.005, 7], last]}
    state = STATE | {"sources": {"door": SOURCE | {"stages": {"infer": stage}}}}
    bounds = [dict(key[1:])["le"] for key in samples(state) if key[0].endswith("_bucket")]
    assert bounds == ["0.005", "+Inf"]


@pytest.mark.parametrize(
    "name", ['<img src=x onerror="x">', 'a"b\\c\nd', "猫", "", "{}", 'x"} 1\nrkyolo_ready 5']
)
def test_any_class_name_is_one_label(name):
    state = STATE | {"sources": {"door": SOURCE | {"per_class": {name: 3}}}}
    found = samples(state)
    assert found["rkyolo_detections_total", ("class", name), DOOR] == 3
    assert found["rkyolo_ready",] == 1


def test_a_name_that_utf8_cannot_hold_does_not_end_the_page():
    state = STATE | {"sources": {"door": SOURCE | {"per_class": {"a\udc80": 3}}}}
    assert samples(state)["rkyolo_detections_total", ("class", "a?"), DOOR] == 3


def test_what_is_not_known_has_no_sample():
    state = STATE | {"npu_load": None, "memory_mb": None, "contexts": [], "web": None}
    names = {key[0] for key in samples(state)}
    assert not {"rkyolo_npu_load_ratio", "rkyolo_memory_bytes", "rkyolo_web_streams"} & names
    assert ("rkyolo_last_frame_timestamp_seconds", ("source", "yard")) not in samples(STATE)
    assert ("rkyolo_outbox_events", ("sink", "file")) not in samples(STATE)
    assert ("rkyolo_reload_timestamp_seconds",) not in samples(STATE)


def test_a_board_that_has_not_begun():
    state = {"sources": {}, "sinks": {}, "contexts": [], "ready": False}
    assert samples(state)["rkyolo_ready",] == 0


def test_every_name_ends_as_its_kind_demands():
    for family in text_string_to_metric_families(metrics_text(STATE).decode()):
        assert family.name.startswith("rkyolo_")
        assert not family.name.endswith(("_ms", "_mb", "_percent"))
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {family.name + "_total"}
