"""Lines of JSON: what is in them, and that no half line stays, whatever happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_results import NAMES, ROOT, found, full_after, names, on_small_disk, result
from servers import wait_for

from runtime.detections import Detections
from runtime.errors import UserError
from runtime.pipeline.frames import event
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import JsonlOptions

LINE = len(json.dumps(event(result(1000)))) + 1


def sink(path, **options):
    return open_sink(JsonlOptions(type="jsonl", path=str(path), **options), "board")


def save(path, *indices, **options):
    opened = sink(path, **options)
    for index in indices:
        opened.write(result(index))
    opened.close()


def indices(path):
    text = path.read_text()
    assert text.endswith("\n") or not text
    return [json.loads(line)["index"] for line in text.splitlines()]


def lines_mb(count):
    """So that count lines have room in a file, and no more."""
    return (count * LINE + LINE // 2) / 1e6


def test_a_line_is_the_event(tmp_path):
    opened = sink(tmp_path / "new" / "folder" / "out.jsonl")
    one = result(7, detections=found(2, 1), file=Path("\udcff.mp4"), frame=3)
    opened.write(one)
    line = (tmp_path / "new" / "folder" / "out.jsonl").read_text()  # there before it is closed
    assert line.endswith("\n") and line.count("\n") == 1 and line.isascii()
    assert json.loads(line) == event(one)
    assert [d["name"] for d in json.loads(line)["detections"]] == [NAMES[2], NAMES[1]]
    assert opened.state() == {"lines": 1}
    opened.close()
    opened.close()


@pytest.mark.parametrize(("empty", "lines"), [(True, 2), (False, 1)])
def test_frames_without_detections(tmp_path, empty, lines):
    opened = sink(tmp_path / "out", empty=empty)
    opened.write(result(1, detections=Detections.empty()))
    opened.write(result(2))
    opened.close()
    assert len(indices(tmp_path / "out")) == lines == opened.state()["lines"]


def test_a_restart_goes_on(tmp_path):
    save(tmp_path / "out", 1, 2)
    save(tmp_path / "out", 3)
    assert indices(tmp_path / "out") == [1, 2, 3]


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        pytest.param(b"", [1], id="whole"),
        pytest.param(b"{", [1], id="one-letter"),
        pytest.param(b'{"sou', [1], id="within-the-beginning"),
        pytest.param(b'{"source": "a", "index": 2, "dete', [1], id="half"),
        pytest.param(b'{"source": "a", "index": 2}', [1, 2], id="only-its-end-is-missing"),
        pytest.param(b"\0" * 5000, [1], id="zeros"),
        pytest.param(b'{"source": "a", "ind' + b"\0" * 5000, [1], id="half-then-zeros"),
        pytest.param(b'{"source": "a", "index": 2}\0\0', [1, 2], id="whole-then-zeros"),
        pytest.param(b'{"source": ' + b"[" * 100_000, [1], id="deep"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_torn_end_is_mended(tmp_path, first, end, kept):
    path = tmp_path / "out"
    path.write_bytes((b'{"source": "a", "index": 1}\n' if first else b"") + end)
    save(path, 3)
    assert indices(path) == [*(kept if first else kept[1:]), 3]


@pytest.mark.parametrize(
    "content", [b"notes of mine", b"a\nb", b"x" * 2**21, b'{"source": ' + b"x" * 2**20]
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    (tmp_path / "out").write_bytes(content)
    with pytest.raises(UserError, match=r"out holds other than lines of results: give another"):
        sink(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


@pytest.mark.parametrize(
    ("keep", "files"),
    [
        pytest.param(0, {"out": [7]}, id="none"),
        pytest.param(1, {"out": [7], "out.1": [5, 6]}, id="one"),
        pytest.param(2, {"out": [7], "out.1": [5, 6], "out.2": [3, 4]}, id="two"),
        pytest.param(9, {"out": [7], "out.1": [5, 6], "out.2": [3, 4], "out.3": [1, 2]}, id="more"),
    ],
)
@pytest.mark.parametrize("restarts", [False, True])
def test_rotation(tmp_path, keep, files, restarts):
    options = {"rotate_mb": lines_mb(2), "keep": keep}
    for batch in [[i] for i in range(1, 8)] if restarts else [range(1, 8)]:
        save(tmp_path / "out", *batch, **options)
    assert {name: indices(tmp_path / name) for name in names(tmp_path)} == files


def test_a_line_that_no_file_may_hold_is_written_all_the_same(tmp_path):
    save(tmp_path / "out", 1, 2, rotate_mb=1e-6)
    assert names(tmp_path) == ["out", "out.1"]
    assert indices(tmp_path / "out") == [2]
    assert indices(tmp_path / "out.1") == [1]


def test_a_smaller_keep_drops_what_is_beyond_it(tmp_path):
    save(tmp_path / "out", *range(8), rotate_mb=lines_mb(1), keep=6)
    (tmp_path / "out.notes").write_text("mine")
    save(tmp_path / "out", 8, rotate_mb=lines_mb(1), keep=2)
    assert names(tmp_path) == ["out", "out.1", "out.2", "out.notes"]


def test_a_gap_among_the_older_files_is_filled(tmp_path):
    save(tmp_path / "out", 1, 2, 3, 4, rotate_mb=lines_mb(1), keep=9)
    (tmp_path / "out.2").unlink()
    save(tmp_path / "out", 5, rotate_mb=lines_mb(1), keep=9)
    assert [indices(tmp_path / name) for name in names(tmp_path)] == [[5], [4], [3], [1]]


def test_an_older_file_that_cannot_make_place(tmp_path):
    opened = sink(tmp_path / "out", rotate_mb=lines_mb(1), keep=1)
    opened.write(result(1))
    (tmp_path / "out.1").mkdir()
    (tmp_path / "out.1" / "x").touch()
    for _ in range(2):
        with pytest.raises(SinkLostError, match=r"cannot write .*out: is a directory"):
            opened.write(result(2))
    assert indices(tmp_path / "out") == [1]
    (tmp_path / "out.1" / "x").unlink()
    (tmp_path / "out.1").rmdir()
    opened.write(result(2))
    assert indices(tmp_path / "out.1") == [1]
    assert indices(tmp_path / "out") == [2]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/real")
    save(tmp_path / "out", 1, 2, rotate_mb=lines_mb(1))
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "disk") == ["real", "real.1"]


def test_others_may_move_or_remove_or_empty_the_file(tmp_path):
    path = tmp_path / "out"
    opened = sink(path)
    opened.write(result(1))
    path.rename(tmp_path / "moved")
    opened.write(result(2))
    assert (indices(tmp_path / "moved"), indices(path)) == ([1], [2])
    path.unlink()
    opened.write(result(3))
    assert indices(path) == [3]
    path.write_text("")
    opened.write(result(4))
    opened.close()
    assert indices(path) == [4]


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("", UserError, r" is a folder: give a file in it$"),
        (
            "file/out",
            SinkLostError,
            r"cannot write .*file/out: a file is where a folder should be; mend",
        ),
        ("pipe", UserError, "pipe is no plain file: give one, or - for standard output"),
        ("/dev/full", UserError, "/dev/full is no plain file"),
        ("/proc/out/out", SinkLostError, "cannot write /proc/out/out: [a-z ]+; mend"),
    ],
)
def test_an_unwritable_path(tmp_path, place, error, message):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error, match=message) as raised:
        sink(tmp_path / place)
    assert "\n" not in str(raised.value)


def test_a_path_that_becomes_unwritable_and_writable_again(tmp_path):
    path = tmp_path / "folder" / "out"
    opened = sink(path)
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()
    for _ in range(2):
        with pytest.raises(
            SinkLostError, match=r"cannot write .*out: a file is where a folder should be"
        ):
            opened.write(result(1))
    path.parent.unlink()
    opened.write(result(1))
    assert indices(path) == [1]


@pytest.mark.parametrize("room", range(0, LINE, LINE // 7))
def test_a_full_disk_leaves_no_half_line(tmp_path, room):
    path = tmp_path / "out"
    opened = sink(path)
    opened.write(result(1000))
    with full_after(LINE + room):
        for _ in range(3):
            with pytest.raises(SinkLostError, match=r"cannot write .*out: file too large; make"):
                opened.write(result(1001))
            assert indices(path) == [1000]
    opened.write(result(1001))
    opened.write(result(1002))
    assert indices(path) == [1000, 1001, 1002]
    assert opened.state() == {"lines": 3}


SMALL_DISK = """
import json, sys
from pathlib import Path
from made_results import result
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import JsonlOptions

folder = Path(sys.argv[1])
(folder / "other").write_bytes(bytes(900_000))
sink = open_sink(JsonlOptions(type="jsonl", path=str(folder / "out"), rotate_mb=0.05, keep=9), "b")
index, errors = 0, []
while len(errors) < 3:
    try:
        sink.write(result(index))
        index += 1
    except SinkLostError as error:
        errors.append(str(error))
(folder / "other").unlink()
sink.write(result(index))
lines = [json.loads(line) for n in range(9, 0, -1) if (folder / f"out.{n}").exists()
         for line in (folder / f"out.{n}").read_text().splitlines()]
lines += map(json.loads, (folder / "out").read_text().splitlines())
print(json.dumps([errors, [line["index"] for line in lines], index]))
"""


def test_a_disk_that_is_full_and_has_room_again(tmp_path):
    errors, written, last = on_small_disk(tmp_path, 1, SMALL_DISK)
    assert len(errors) == 3 and "no space left on device; make room there" in errors[0]
    assert written == list(range(last + 1)) and last > 100


STANDARD_OUTPUT = """
import json, sys, time
from made_results import found, result
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import JsonlOptions

def tell(*what):
    print(*what, file=sys.stderr, flush=True)

sink = open_sink(JsonlOptions(type="jsonl", path="-"), "board")
index, errors = 0, 0
while index < int(sys.argv[1]) and errors < int(sys.argv[2]):
    try:
        sink.write(result(index, detections=found(*[0] * int(sys.argv[3]))))
        index += 1
    except SinkLostError as error:
        errors += 1
        tell(error)
sink.close()
tell(index, sink.state()["lines"])
"""


def standard_output(lines, errors, boxes=1, **options):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", STANDARD_OUTPUT, *map(str, (lines, errors, boxes))]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, **options
    )


def test_standard_output(tmp_path):
    with standard_output(3, 1, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(timeout=60)
    assert [json.loads(line)["index"] for line in out.splitlines()] == [0, 1, 2]
    assert process.returncode == 0


def test_a_reader_of_standard_output_that_goes(tmp_path):
    with standard_output(10**6, 2, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        *errors, _ = process.stderr.read().splitlines()
        assert errors == ["nobody reads the standard output any more: start again"] * 2
        assert process.wait(60) == 0  # and Python itself has nothing to say at the end


@pytest.mark.parametrize(("boxes", "lines"), [(1, 2000), (300, 40)])
def test_a_reader_of_standard_output_that_pauses(tmp_path, boxes, lines):
    with standard_output(lines, 9, boxes, stdout=subprocess.PIPE) as process:
        first = process.stderr.readline()  # the pipe was full for two seconds
        assert first == "what reads the standard output has stopped reading\n"
        out = process.stdout.read().splitlines()
        assert [json.loads(line)["index"] for line in out] == list(range(lines))
        assert process.stderr.read().splitlines()[-1] == f"{lines} {lines}"
        assert process.wait(60) == 0


def test_a_full_disk_behind_standard_output(tmp_path):
    with Path("/dev/full").open("w") as full, standard_output(9, 2, stdout=full) as process:
        *errors, _ = process.stderr.read().splitlines()
        assert len(errors) == 2
        assert errors[0].startswith("cannot write standard output: no space left on device")
        assert process.wait(60) == 0


def test_no_standard_output(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UserError, match=r"there is no standard output .*: give a file"):
        sink("-")


def test_a_reader_follows_the_file(tmp_path):
    opened = sink(tmp_path / "out")
    with subprocess.Popen(
        ["tail", "-n", "+1", "-f", tmp_path / "out"], stdout=subprocess.PIPE
    ) as tail:
        os.set_blocking(tail.stdout.fileno(), False)
        seen = bytearray()
        for index in range(3):
            opened.write(result(index))
            wait_for(
                lambda index=index: (
                    seen.extend(tail.stdout.read() or b"") or seen.count(b"\n") == index + 1
                ),
                "the line",
            )
        tail.terminate()
