"""The daemon's state as Prometheus metrics."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

State = dict[str, Any]
Samples = Iterable[tuple[list[Any], float | None]]

_OF_SOURCES = (
    ("rkyolo_frames", "frames", "Frames a source gave."),
    ("rkyolo_frames_dropped", "dropped", "Frames dropped because a newer one came."),
    ("rkyolo_frames_skipped", "skipped", "Frames left out because of the source's rate."),
    ("rkyolo_frames_failed", "failed", "Frames the model could not be run on."),
    ("rkyolo_results", "results", "Frames with a result."),
    ("rkyolo_source_connections", "connections", "Connections made to the source."),
)
_OF_SINKS = (
    ("rkyolo_sink_written", "written", "Results delivered."),
    ("rkyolo_sink_dropped", "dropped", "Results dropped before they were delivered."),
    ("rkyolo_sink_failed", "failed", "Attempts to deliver that failed."),
)


def metrics_text(state: State) -> bytes:
    """The state, as View.state() gives it, in Prometheus's text format. What is None or missing
    there has no sample."""
    registry = CollectorRegistry()
    registry.register(_StateCollector(state))
    return generate_latest(registry)


class _StateCollector(Collector):
    """Everything from one state, so that the numbers belong together."""

    def __init__(self, state: State):
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from _of_process(self._state)
        yield from _of_sources(self._state.get("sources", {}))
        yield from _of_sinks(self._state.get("sinks", {}))
        yield from _of_contexts(self._state.get("contexts") or ())


def _of_process(state: State) -> Iterator[Metric]:
    model, reload, web = (state.get(key) or {} for key in ("model", "reload", "web"))
    info = {key: state.get(key) for key in ("board", "version")}
    info |= {key: model.get(key) for key in ("target", "precision", "toolkit", "backend")}
    yield _gauge("rkyolo_info", "What runs here.", list(info), [(list(info.values()), 1)])
    single = (
        ("rkyolo_ready", "Whether results can come.", _one(state.get("ready"))),
        ("rkyolo_start_time_seconds", "When the process started.", state.get("started_at")),
        ("rkyolo_memory_bytes", "Resident memory.", _times(state.get("memory_mb"), 1e6)),
        ("rkyolo_threads", "Threads of the process.", state.get("threads")),
        ("rkyolo_reload_failed", "Whether the last reload failed.", _one(reload.get("error"))),
        ("rkyolo_reload_timestamp_seconds", "When it was last reloaded.", reload.get("at")),
        ("rkyolo_web_streams", "Open streams of pictures and events.", web.get("streams")),
    )
    for name, text, value in single:
        yield _gauge(name, text, [], [([], value)])
    dropped = [([], web.get("events_dropped"))]
    yield _counter("rkyolo_web_events_dropped", "Events slow clients missed.", [], dropped)
    loads = [([core], _times(load, 0.01)) for core, load in enumerate(state.get("npu_load") or ())]
    yield _gauge("rkyolo_npu_load_ratio", "Load of an NPU core, 0 to 1.", ["core"], loads)


def _of_sources(sources: dict[str, State]) -> Iterator[Metric]:
    for name, key, text in _OF_SOURCES:
        yield _counter(name, text, ["source"], _each(sources, key))
    up = [([name], _one(of.get("state") == "running")) for name, of in sources.items()]
    yield _gauge("rkyolo_source_up", "Whether the source gives frames.", ["source"], up)
    rate = _each(sources, "frames_per_second")
    yield _gauge("rkyolo_frames_per_second", "Results a second, lately.", ["source"], rate)
    at = _each(sources, "last_frame_at")
    yield _gauge("rkyolo_last_frame_timestamp_seconds", "When it came.", ["source"], at)
    found = [
        ([name, kind], count)
        for name, of in sources.items()
        for kind, count in (of.get("per_class") or {}).items()
    ]
    yield _counter("rkyolo_detections", "Objects found.", ["source", "class"], found)
    yield _stages(sources)


def _stages(sources: dict[str, State]) -> Metric:
    text = "How long a frame was in each stage."
    family = HistogramMetricFamily("rkyolo_stage_seconds", text, labels=["source", "stage"])
    for name, of in sources.items():
        for stage, numbers in (of.get("stages") or {}).items():
            count = numbers.get("count") or 0
            buckets = [
                (str(float(le)), total)
                for le, total in numbers.get("buckets") or ()
                if le is not None and float(le) != float("inf")
            ]
            buckets.append(("+Inf", count))
            family.add_metric(_labels([name, stage]), buckets, numbers.get("seconds") or 0.0)
    return family


def _of_sinks(sinks: dict[str, State]) -> Iterator[Metric]:
    for name, key, text in _OF_SINKS:
        yield _counter(name, text, ["sink"], _each(sinks, key))
    up = [([name], _one(of.get("state") == "running")) for name, of in sinks.items()]
    yield _gauge("rkyolo_sink_up", "Whether the sink takes results.", ["sink"], up)
    waiting = _each(sinks, "queued")
    yield _gauge("rkyolo_sink_queued_results", "Results that wait for it.", ["sink"], waiting)
    room = _each(sinks, "queue")
    yield _gauge("rkyolo_sink_queue_limit_results", "As many may wait.", ["sink"], room)
    outbox = [([name], (of.get("more") or {}).get("outbox")) for name, of in sinks.items()]
    yield _gauge("rkyolo_outbox_events", "Events that wait on disk.", ["sink"], outbox)


def _of_contexts(contexts: Iterable[State]) -> Iterator[Metric]:
    labels = ["context", "core"]
    known = [([i, _text(of.get("core"))], of) for i, of in enumerate(contexts)]
    busy = [(of_labels, _one(of.get("busy"))) for of_labels, of in known]
    yield _gauge("rkyolo_context_busy", "Whether a context is at work.", labels, busy)
    for key, text in (("frames", "Frames a context ran."), ("errors", "Runs that failed.")):
        counts = [(of_labels, of.get(key)) for of_labels, of in known]
        yield _counter(f"rkyolo_context_{key}", text, labels, counts)


def _each(parts: dict[str, State], key: str) -> Samples:
    return [([name], part.get(key)) for name, part in parts.items()]


def _gauge(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), samples)


def _counter(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=labels), samples)


def _filled(family: Any, samples: Samples) -> Metric:
    for labels, value in samples:
        if isinstance(value, (int, float)):
            family.add_metric(_labels(labels), value)
    return family


def _labels(values: list[Any]) -> list[str]:
    # a class name may be any text, also such as UTF-8 cannot hold
    return [_text(value).encode("utf-8", "replace").decode() for value in values]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _one(value: object) -> int:
    return 1 if value else 0


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
