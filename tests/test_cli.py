import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from made_files import rknn_bytes, write_bundle
from scenes import facts_of

from runtime import __version__
from runtime.errors import UserError
from runtime.pictures import frames_in, read_picture
from runtime.size import parse_size

COMMANDS = """inspect detect run schema request doctor bench
export convert anchors evaluate cost tune""".split()
DETECTION = {"box", "score", "class", "name"}


@pytest.fixture
def shapes(demo):
    return demo / "shapes.pt"


@pytest.fixture
def picture(demo):
    return demo / "calibration" / "000.jpg"


def one_line(done, *parts):
    """A bad input is told in one line on standard error, with exit code 2."""
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: "), done
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert str(part) in done.stderr


def test_version(rkyolo):
    done = rkyolo("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rkyolo {__version__}\n", "")


def test_help_lists_the_commands(rkyolo):
    done = rkyolo("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(rkyolo, command):
    done = rkyolo(command, "--help")
    assert done.returncode == 0
    assert f"rkyolo {command} " in done.stdout or f"{command} [OPTIONS]" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["detect"], id="nothing"),
        pytest.param(["detect", "a.pt"], id="no-inputs"),
        pytest.param(["unknown"], id="no-command"),
        pytest.param(["detect", "a.pt", "b.jpg", "--unknown"], id="no-option"),
        pytest.param(["detect", "a.pt", "b.jpg", "--score", "high"], id="no-number"),
    ],
)
def test_wrong_usage(rkyolo, arguments):
    done = rkyolo(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert "Error" in done.stderr


@pytest.mark.parametrize("command", ["inspect", "detect"])
def test_models_that_are_none(rkyolo, command, tmp_path, picture):
    rest = [picture] if command == "detect" else []
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.pt").write_text("x")
    (tmp_path / "a.onnx").write_text("x")
    (tmp_path / "a.rknn").write_bytes(b"CYPTRKNN")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("missing.pt", "does not exist"),
        ("a.txt", "is no model: give a bundle folder, a .rknn, a .pt or an .onnx"),
        ("a.pt", ""),
        ("a.onnx", ""),
        ("a.rknn", "is encrypted"),
        ("folder", "is no bundle"),
    ):
        one_line(rkyolo(command, tmp_path / name, *rest), tmp_path / name, message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.jpg", "does not exist"),
        ("notes.txt", "is no picture or video"),
        ("empty", "holds no pictures or videos"),
        ("broken.jpg", "cannot be read as a picture"),
        ("broken.mp4", "cannot be read as a video"),
    ],
)
def test_inputs_that_are_none(rkyolo, shapes, tmp_path, name, message):
    for made in ("notes.txt", "broken.jpg", "broken.mp4"):
        (tmp_path / made).write_text("x")
    (tmp_path / "empty").mkdir()
    done = rkyolo("detect", shapes, tmp_path / name, "--size", 64)
    lines = done.stderr.splitlines(keepends=True)  # of which FFmpeg writes some itself
    done.stderr = lines[-1]
    one_line(done, tmp_path / name, message)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        pytest.param(["--size", "600"], ["600", "608"], id="no-multiple-names-the-next"),
        pytest.param(["--size", "650"], ["672"], id="the-next-up-not-the-nearest"),
        pytest.param(["--size", "320x330"], ["352"], id="width-no-multiple"),
        pytest.param(["--size", "0"], ["--size 0"], id="zero"),
        pytest.param(["--size", "-32"], ["--size -32"], id="negative"),
        pytest.param(["--size", "big"], ["--size big is no size", "480x640"], id="no-number"),
        pytest.param(["--size", "99999"], ["--size 99999"], id="huge"),
        pytest.param(["--size", "320x320x3"], ["is no size"], id="three-numbers"),
        pytest.param(
            ["--backend", "tpu"],
            ["no backend is called tpu: choose auto, onnxruntime, opencv, rknnlite, rknnrt, sim"],
            id="backend",
        ),
        pytest.param(["--backend", "simulator"], ["lone file: convert it first"], id="simulator"),
        pytest.param(["--backend", "rknnlite"], ["rknn"], id="rknnlite"),
        pytest.param(["--score", "1.5"], ["--score 1.5 is no threshold"], id="score"),
        pytest.param(["--score", "nan"], ["--score nan is no threshold"], id="score-nan"),
        pytest.param(["--iou", "-0.1"], ["--iou -0.1", "from 0 to 1"], id="iou"),
        pytest.param(["--json", "found.jpg"], ["--json found.jpg", "give another"], id="json"),
        pytest.param(["--json", "/dev/null/x"], ["cannot write /dev/null/x"], id="json-nowhere"),
        pytest.param(["--save", "/dev/null/x"], ["cannot write /dev/null/x"], id="save-nowhere"),
    ],
)
def test_options_that_are_wrong(rkyolo, shapes, picture, options, parts):
    size = [] if "--size" in options else ["--size", "64"]
    one_line(rkyolo("detect", shapes, picture, *size, *options), *parts)


@pytest.mark.parametrize(
    ("text", "wh"),
    [
        ("640", (640, 640)),
        ("480x640", (640, 480)),
        ("480X640", (640, 480)),
        ("480,640", (640, 480)),
        (" 32 ", (32, 32)),
        ("16384", (16384, 16384)),
    ],
)
def test_sizes_are_height_first(text, wh):
    assert parse_size(text) == wh


@pytest.mark.parametrize(
    "text", ["", "x", "64x", "x64", "6.4", "16385", "0x64", "1e3", "\u0661\u0662"]
)
def test_sizes_that_are_none(text):
    with pytest.raises(UserError, match="--size"):
        parse_size(text)


def test_json_lines(rkyolo, shapes, picture):
    done = rkyolo("detect", shapes, picture, "--json", "-", "--size", "320")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    plain = json.loads(line)
    assert list(plain) == ["source", "frame", "width", "height", "detections"]
    assert (plain["source"], plain["frame"]) == (str(picture), 0)
    height, width = read_picture(picture).shape[:2]
    assert (plain["width"], plain["height"]) == (width, height)
    assert plain["detections"]
    scores = [found["score"] for found in plain["detections"]]
    assert scores == sorted(scores, reverse=True)
    for found in plain["detections"]:
        assert set(found) == DETECTION
        assert 0.25 < found["score"] <= 1
        assert found["name"] and isinstance(found["class"], int)


def test_json_lines_into_a_file(rkyolo, shapes, picture, tmp_path):
    target = tmp_path / "deep" / "found.jsonl"
    done = rkyolo("detect", shapes, picture, picture, "--json", target, "--size", "320")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2  # and people see what was found
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["source"] for line in lines] == [str(picture)] * 2
    assert [path.name for path in target.parent.iterdir()] == ["found.jsonl"]


def test_a_failure_leaves_no_half_file(rkyolo, shapes, picture, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_text("x")
    target, saved = tmp_path / "found.jsonl", tmp_path / "saved"
    done = rkyolo("detect", shapes, picture, broken, "--json", target, "--save", saved)
    one_line(done, broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jpg", "saved"]
    assert [path.name for path in saved.iterdir()] == ["000.jpg"]  # that one was whole


def test_thresholds(rkyolo, shapes, picture):
    def count(*options):
        done = rkyolo("detect", shapes, picture, "--json=-", "--size=320", *options)
        found = json.loads(done.stdout)["detections"]
        return len(found), min((one["score"] for one in found), default=1)

    some, lowest = count()
    many, lower = count("--score=0.01", "--iou=0.9")
    few, higher = count("--score=0.8")
    none, _ = count("--score=1")
    assert many > some > few > none == 0
    assert lower < 0.25 < lowest
    assert higher > 0.8


def test_what_people_see(rkyolo, shapes, picture):
    done = rkyolo("detect", shapes, picture, "--size", "320")
    assert done.returncode == 0
    height, width = read_picture(picture).shape[:2]
    assert done.stdout.startswith(f"{picture} {width}x{height}: ")


def test_saved_pictures_and_videos(rkyolo, shapes, demo, picture, tmp_path):
    video = demo / "shapes.mp4"
    done = rkyolo("detect", shapes, picture, video, "--save", tmp_path / "out", "--size", "128")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000.jpg", "shapes.mp4"]
    assert read_picture(tmp_path / "out" / "000.jpg").shape == read_picture(picture).shape
    assert frames_in(tmp_path / "out" / "shapes.mp4") == frames_in(video) > 10
    assert len(done.stdout.splitlines()) == 1 + frames_in(video)
    assert "shapes.mp4 frame 3 " in done.stdout


def test_a_source_is_never_written_over(rkyolo, shapes, picture, tmp_path):
    source = tmp_path / "a.jpg"
    shutil.copy(picture, source)
    done = rkyolo("detect", shapes, source, "--save", tmp_path, "--size", "64")
    one_line(done, f"--save {tmp_path} could write over {source}")
    assert source.read_bytes() == picture.read_bytes()


def test_a_folder_in_order_of_name(rkyolo, shapes, demo, tmp_path):
    for name in ("b.jpg", "a.jpg", "c.jpg"):
        shutil.copy(demo / "calibration" / "001.jpg", tmp_path / name)
    done = rkyolo("detect", shapes, tmp_path, "--json=-", "--size=64")
    sources = [json.loads(line)["source"] for line in done.stdout.splitlines()]
    assert sources == [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]


def test_backends_of_the_host_agree(rkyolo, shapes, picture):
    found = {}
    for backend in ("auto", "onnxruntime", "opencv"):
        done = rkyolo("detect", shapes, picture, "--json=-", "--size=320", "--backend", backend)
        assert done.returncode == 0
        found[backend] = json.loads(done.stdout)["detections"]
    assert found["auto"] == found["onnxruntime"]
    assert len(found["opencv"]) == len(found["auto"]) > 0
    for a, b in zip(found["auto"], found["opencv"], strict=True):
        assert a["name"] == b["name"]
        assert a["box"] == pytest.approx(b["box"], abs=0.05)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_not_ascii(rkyolo, shapes, picture, tmp_path, monkeypatch, encoding):
    source = tmp_path / "снимок [red].jpg"
    shutil.copy(picture, source)
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = rkyolo("detect", shapes, source, "--size=64", encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("снимок" in done.stdout) == (encoding == "utf-8")
    assert "[red].jpg" in done.stdout


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_inspect_a_checkpoint(rkyolo, shapes, as_json):
    done = rkyolo("inspect", shapes, *(["--json"] if as_json else []))
    assert (done.returncode, done.stderr) == (0, "")
    if not as_json:
        assert "stride" in done.stdout
        return
    plain = json.loads(done.stdout)
    assert (plain["kind"], plain["task"], plain["classes"]) == ("checkpoint", "detect", 5)
    assert plain["strides"] == [8, 16, 32]
    assert [len(pairs) for pairs in plain["anchors_px"]] == [3, 3, 3]
    assert (plain["preset"], plain["input_channels"]) == (None, 3)
    assert len(plain["names"]) == 5
    assert len(plain["sha256"]) == 64


@pytest.mark.parametrize("name", ["[red]stop[/red]", "[bold", "дорожный знак", "x" * 300, "a\\b"])
def test_inspect_shows_class_names_as_they_are(rkyolo, tmp_path, name):
    facts = facts_of(classes=1).model_copy(update={"class_names": (name,)})
    bundle = write_bundle(tmp_path / "mine", facts)
    done = rkyolo("inspect", bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"names: {name}" in done.stdout
    done = rkyolo("inspect", bundle, "--json")
    assert json.loads(done.stdout)["names"] == [name]


def test_names_do_not_command_the_terminal(rkyolo, shapes, picture, tmp_path):
    evil = "\x1b]0;evil\x07\x1b[31m\r\u202e"
    facts = facts_of(classes=1).model_copy(update={"class_names": (evil,)})
    shown = rkyolo("inspect", write_bundle(tmp_path / "mine", facts))
    source = tmp_path / f"{evil[:5]}.jpg"
    shutil.copy(picture, source)
    found = rkyolo("detect", shapes, source, "--size=64")
    failed = rkyolo("detect", shapes, tmp_path / evil, "--size=64")
    assert [done.returncode for done in (shown, found, failed)] == [0, 0, 2]
    for done in (shown, found, failed):
        text = done.stdout + done.stderr
        assert "?]0;" in text
        assert not set("\x1b\x07\r\u202e") & set(text)


def test_inspect_a_compiled_model_of_someone_else(rkyolo, tmp_path):
    (tmp_path / "theirs.rknn").write_bytes(rknn_bytes())
    done = rkyolo("inspect", tmp_path / "theirs.rknn")
    assert (done.returncode, done.stderr) == (0, "")
    assert "target: rk3588" in done.stdout
    assert "output head0: 1 x 18 x 4 x 4" in done.stdout


def test_a_bundle_that_was_changed(rkyolo, tmp_path, picture):
    bundle = write_bundle(tmp_path / "mine", facts_of())
    (bundle / "model.onnx").write_bytes(b"another")
    for command in (["inspect", bundle], ["detect", bundle, picture]):
        one_line(rkyolo(*command), bundle / "model.onnx", "copy or convert the bundle again")


def test_a_reader_that_goes_away(shapes, picture):
    """As in: rkyolo detect ... --json - | head -1."""
    code = "from runtime.cli import main; main()"
    pictures = [str(picture)] * 30
    command = [sys.executable, "-c", code, "detect", shapes, *pictures, "--json=-", "--size=64"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_half_written(shapes, demo, tmp_path, number):
    code = "from runtime.cli import main; main()"
    target = tmp_path / "out"
    command = [sys.executable, "-c", code, "detect", shapes, *[demo / "shapes.mp4"] * 20]
    command += ["--size=320", "--save", target, "--json", tmp_path / "found.jsonl"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (target.is_dir() and any(target.iterdir())):
            time.sleep(0.05)
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait(60) in (1, 130, 143)
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for path in target.iterdir():
        assert path.name == "shapes.mp4"
        assert frames_in(path) == frames_in(demo / "shapes.mp4")
