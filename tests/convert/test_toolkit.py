"""The vendor's toolkit in its own process: what it builds, what its simulator says, how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from convert import quantize
from convert.quantize import Options, Toolkit
from runtime.backends import planar
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.errors import UserError
from runtime.manifest import Facts
from runtime.model import Model
from runtime.rknn_file import read_rknn


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """A temporary folder of the test's own, with a name that is easy to trip over; empty again
    after every test, whatever happened in it."""
    folder = tmp_path / "tmp größe"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert list(folder.iterdir()) == []


def built(model, options: Options) -> tuple[bytes, bytes | None, list[np.ndarray]]:
    """The .rknn, its ranges, and the simulator's outputs for the first input."""
    quantized = options.precision == "int8"
    with Toolkit(model.facts, options) as toolkit:
        rknn = toolkit.build(model.graph, model.inputs if quantized else None)
        ranges = toolkit.ranges() if quantized else None
        toolkit.start_simulator()
        return rknn, ranges, toolkit.infer(model.inputs[0][None])


def rebuilt(model, options: Options, ranges: bytes | None) -> list[np.ndarray]:
    with Toolkit(model.facts, options) as toolkit:
        toolkit.rebuild(model.graph, ranges, model.facts)
        toolkit.start_simulator()
        return toolkit.infer(model.inputs[0][None])


CASES = [
    ("small", Options(), "an input that is not square"),
    ("small", Options(target="rk3566"), "another chip"),
    ("small", Options(algorithm="kl_divergence"), "ranges that leave extremes out"),
    ("small", Options(precision="fp16"), "nothing to calibrate"),
    ("tiny", Options(algorithm="mmse"), "weights that were moved"),
    ("grey", Options(), "one channel"),
]


@pytest.mark.parametrize(
    ("model", "options", "reason"), CASES, ids=[reason for *_, reason in CASES]
)
def test_rebuilding_from_ranges_gives_the_same_to_the_bit(model, options, reason, request):
    model = request.getfixturevalue(model)
    rknn, ranges, outputs = built(model, options)
    assert [output.shape for output in outputs] == [
        model.facts.head_shape(i) for i in range(len(model.facts.heads))
    ]
    assert all(output.dtype == np.float32 for output in outputs)
    again = rebuilt(model, options, ranges)
    assert all(np.array_equal(a, b) for a, b in zip(outputs, again, strict=True))
    header = read_rknn(rknn, Path("model.rknn"))
    assert header.target == options.target
    assert Facts.from_json(header.custom_string, "model.rknn") == model.facts


def test_the_simulator_says_about_what_the_float_graph_says(small):
    _, _, outputs = built(small, Options())
    _, _, fp16 = built(small, Options(precision="fp16"))
    backend = OnnxRuntimeBackend(Model(Path("model.onnx"), small.facts, onnx=small.graph))
    for tensor, int8, half in zip(backend.infer(small.inputs[0][None]), outputs, fp16, strict=True):
        assert np.abs(tensor.array - int8).max() < 0.1
        assert np.abs(tensor.array - half).max() < 0.005
    backend.close()


def test_pictures_reach_the_model_as_they_are(small):
    """Channels in the order given, 0 to 255 as 0 to 1: a red picture is not a blue one."""
    red = np.zeros_like(small.inputs[0])
    red[..., 0] = 255
    backend = OnnxRuntimeBackend(Model(Path("model.onnx"), small.facts, onnx=small.graph))
    assert planar(red[None]).max() == 1
    with Toolkit(small.facts, Options(precision="fp16")) as toolkit:
        toolkit.build(small.graph, None)
        toolkit.start_simulator()
        for picture in (red, np.ascontiguousarray(red[..., ::-1])):
            expected = [tensor.array for tensor in backend.infer(picture[None])]
            for a, b in zip(expected, toolkit.infer(picture[None]), strict=True):
                assert np.abs(a - b).max() < 0.005
    backend.close()


@pytest.fixture(scope="module")
def running(small) -> Toolkit:
    """A toolkit that has built and goes on."""
    with Toolkit(small.facts, Options()) as toolkit:
        toolkit.build(small.graph, small.inputs)
        yield toolkit


@pytest.fixture(scope="module")
def ranges(running) -> dict:
    return json.loads(running.ranges())


def test_the_range_of_an_output(small, running):
    for head in small.facts.heads:
        low, high = running.output_range(head.output)
        assert 0 <= low < high <= 1
    assert running.output_range("nothing of that name") is None


def test_ranges_hold_no_more_than_has_to_be_measured(small, ranges):
    constants = {
        tensor.name for tensor in onnx.load_model_from_string(small.graph).graph.initializer
    }
    assert not constants & ranges.keys()
    assert {head.output for head in small.facts.heads} <= ranges.keys()
    assert len(json.dumps(ranges)) < 100_000


def without_one(table: dict) -> dict:
    return dict(list(table.items())[1:])


def with_entry(table: dict, **changes: object) -> dict:
    """The table with something else in the entry of its second tensor."""
    name = list(table)[1]
    return table | {name: table[name] | changes}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda table: b"", "nothing"),
        (lambda table: b"\x80\x04K\x01.", "a pickle"),
        (lambda table: json.dumps(table).encode()[:-100], "cut off"),
        (lambda table: b"[" * 100_000, "deep nesting"),
        (lambda table: [table], "a list"),
        (lambda table: None, "null"),
        (lambda table: {}, "an empty table"),
        (without_one, "a tensor is missing"),
        (lambda table: table | {"more": table["images"]}, "a tensor too many"),
        (lambda table: dict.fromkeys(table, 1), "numbers for entries"),
        (lambda table: with_entry(table, dtype="float32"), "another dtype"),
        (lambda table: with_entry(table, more=[1]), "an unknown key"),
        (lambda table: with_entry(table, min=[float("nan")]), "no number"),
        (lambda table: with_entry(table, max=[float("inf")]), "an infinite one"),
        (lambda table: with_entry(table, max=[10**400]), "a number that fits nowhere"),
        (lambda table: with_entry(table, min=["0"]), "text for a number"),
        (lambda table: with_entry(table, scale=[0.1] * 1000), "too many numbers"),
        (lambda table: with_entry(table, min=0.0), "a number for a list"),
    ],
)
def test_damaged_ranges_are_refused(small, running, ranges, damage, reason):
    damaged = damage(ranges)
    damaged = damaged if isinstance(damaged, bytes) else json.dumps(damaged).encode()
    with pytest.raises(UserError, match=r"saved ranges are damaged, or of another .* again$"):
        running.rebuild(small.graph, damaged, small.facts)


def test_ranges_of_another_graph_are_refused(tiny, running, ranges):
    with pytest.raises(UserError, match="of another graph"):
        running.rebuild(tiny.graph, json.dumps(ranges).encode(), tiny.facts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: b"", "failed to load: "),
        (lambda graph: b"no protobuf", "failed to load: .*Error parsing message"),
        (lambda graph: graph[: len(graph) // 2], "failed to load: .*Error parsing message"),
        (lambda graph: graph.replace(b"Sigmoid", b"Sigmord"), "failed to (load|build): "),
    ],
)
def test_what_the_toolkit_refuses_is_one_line(small, change, message):
    with Toolkit(small.facts, Options()) as toolkit:
        with pytest.raises(UserError, match=f"^rknn-toolkit2 {message}") as caught:
            toolkit.build(change(small.graph), small.inputs)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


def test_pictures_of_another_size_are_refused(small):
    with Toolkit(small.facts, Options()) as toolkit:
        with pytest.raises(UserError, match=r"shape \(1, 3, 32, 128\) is wrong"):
            toolkit.build(small.graph, [picture[:32] for picture in small.inputs])


def test_a_toolkit_that_dies_is_one_line(small):
    with Toolkit(small.facts, Options()) as toolkit:
        toolkit.build(small.graph, small.inputs)
        os.kill(toolkit._process.pid, signal.SIGKILL)
        with pytest.raises(UserError, match="rknn-toolkit2 was killed by signal 9; the last") as e:
            toolkit.start_simulator()
        with pytest.raises(UserError, match="was killed by signal 9"):
            toolkit.infer(small.inputs[0][None])
    assert "\n" not in str(e.value)


def test_a_toolkit_that_dies_at_the_start_is_one_line(small):
    with Toolkit(small.facts, Options()) as toolkit:
        toolkit._process.kill()
        with pytest.raises(
            UserError, match="was killed by signal 9; the last it said was: nothing"
        ):
            toolkit.build(small.graph, None)


def test_a_missing_toolkit_is_told_with_the_way_out(small, monkeypatch):
    monkeypatch.setattr(quantize, "PACKAGE", "rknn-toolkit9")
    with pytest.raises(UserError, match="rknn-toolkit9 is not installed: run make setup"):
        Toolkit(small.facts, Options())


def test_a_broken_toolkit_is_another_message(small, tmp_path, monkeypatch):
    (tmp_path / "rknn").mkdir()
    (tmp_path / "rknn" / "__init__.py").write_text("import not_there_at_all")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Toolkit(small.facts, Options()) as toolkit:
        with pytest.raises(UserError, match="failed to import: No module named 'not_there_at_all'"):
            toolkit.build(small.graph, None)


def test_the_log_says_what_happened_and_not_where(small, temporary):
    with Toolkit(small.facts, Options()) as toolkit:
        toolkit.build(small.graph, small.inputs)
        log = toolkit.log()
    assert "rknn building done" in log
    assert "Quantizating" in log and log.count("Quantizating") < 5, "every step of progress"
    assert "\r" not in log and "\x1b" not in log
    assert not re.search(r"(?m)(^|[\s'\"(])/\w", log)


def test_paths_in_the_log_are_cut_to_what_matters(small, temporary):
    root = Path(quantize.__file__).resolve().parent.parent
    with Toolkit(small.facts, Options()) as toolkit:
        with (toolkit.folder / "toolkit.log").open("a") as log:
            log.write(
                f'\nFile "{Path.home()}/my models/x.py", line 3 in {root}/convert/toolkit.py\n'
            )
            log.write(
                f"{toolkit.folder}/model.onnx: 1/2 done, 3 it/s, {os.__file__}\n/opt/a/b.so\n"
            )
        text = toolkit.log()
    assert text.splitlines()[-3:] == [
        'File ".../my models/x.py", line 3 in .../toolkit.py',
        ".../model.onnx: 1/2 done, 3 it/s, .../os.py",
        ".../b.so",
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_whatever_happens(small, temporary, error):
    with pytest.raises(error):
        with Toolkit(small.facts, Options()) as toolkit:
            process = toolkit._process
            assert [folder.name for folder in temporary.iterdir()] == [toolkit.folder.name]
            raise error
    assert process.poll() == -signal.SIGKILL
    assert list(temporary.iterdir()) == []
    toolkit.close()


def test_a_toolkit_that_cannot_start_leaves_nothing(small, temporary, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UserError):
        Toolkit(small.facts, Options())
    assert list(temporary.iterdir()) == []


def test_no_room_in_the_temporary_folder(small, monkeypatch):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Toolkit(small.facts, Options()) as toolkit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(UserError, match=r"temporary folder: .*; make room .* set TMPDIR"):
                toolkit.build(small.graph, small.inputs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_temporary_folder_at_all(small, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(UserError, match="cannot write to the temporary folder: No such file"):
        Toolkit(small.facts, Options())


def test_the_toolkit_ends_with_who_started_it(small):
    """Even where that was killed and could clean up nothing."""
    code = (
        "import sys, time; from convert.quantize import *;"
        " facts = Facts.from_json(sys.argv[1], ''); toolkit = Toolkit(facts, Options());"
        " print(toolkit._process.pid, toolkit.folder, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, small.facts.to_json()], stdout=subprocess.PIPE, text=True
    )
    pid, _, folder = starter.stdout.readline().strip().partition(" ")
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    for path in Path(folder).iterdir():  # this much cannot be helped
        path.unlink()
    Path(folder).rmdir()
