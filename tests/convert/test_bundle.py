"""rkyolo convert, from the command line to the bundle and back through the simulator."""

import hashlib
import json
import os
import pickle
import re
import shutil
import site
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from convert import calibrate
from runtime.manifest import InputFacts, Manifest

FILES = {
    "manifest.yaml",
    "model.onnx",
    "model.rknn",
    "quantization/ranges.json",
    "report.html",
    "report.txt",
    "toolkit.log",
}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def manifest_of(bundle: Path) -> Manifest:
    path = bundle / "manifest.yaml"
    return Manifest.from_yaml(path.read_text("utf-8"), path)


def test_a_run_that_passes(converted):
    assert converted.process.returncode == 0, converted.process.stderr
    report = converted.process.stdout
    assert "PASS: agreement F1 0.9" in report
    assert re.search(r"float detections +\d+\n", report)
    assert re.search(r"head1_stride16 +\d\.\d{4}   (box|objectness|class) \d\.\d{4}\n", report)
    assert report.endswith(f"\nwrote {converted.bundle}\n")
    assert (converted.bundle / "report.txt").read_text("utf-8") in report
    assert list(converted.temporary.iterdir()) == []
    assert [path.name for path in converted.bundle.parent.glob(".*")] == []


def test_progress_is_a_clean_line_a_step_where_there_is_no_terminal(converted):
    lines = converted.process.stderr.splitlines()
    steps = [re.fullmatch(r"(.*): \d+\.\d s", line) for line in lines]
    assert [step and step[1] for step in steps] == [
        "Read shapes.pt",
        "Export ONNX",
        "Letterbox 12 of 12 calibration pictures",
        "Build int8 for rk3588 with rknn-toolkit2",
        "Compare float and built",
        "Estimate the cost",
    ]


def test_the_bundle_is_whole_and_its_manifest_true(converted, demo):
    found = content(converted.bundle)
    pictures = {name for name in found if name.startswith("pictures/worst-")}
    assert found.keys() == FILES | pictures and 1 <= len(pictures) <= 4
    assert all(found[name].startswith(b"\x89PNG") for name in pictures)
    manifest = manifest_of(converted.bundle)
    assert manifest.files.keys() == found.keys() - {"manifest.yaml"}
    for name, facts in manifest.files.items():
        assert facts.size == len(found[name])
        assert facts.sha256 == hashlib.sha256(found[name]).hexdigest()
    assert manifest.source.file == "shapes.pt"
    assert manifest.source.sha256 == hashlib.sha256((demo / "shapes.pt").read_bytes()).hexdigest()
    assert (manifest.precision, manifest.target, manifest.algorithm) == ("int8", "rk3588", "normal")
    assert manifest.class_names == ("circle", "square", "triangle", "star", "cross")
    assert manifest.input == InputFacts(width=320, height=320)
    assert manifest.activation == "sigmoid"
    assert {"rkyolo", "rknn-toolkit2", "onnxruntime", "numpy"} <= manifest.tools.keys()


def test_the_manifest_says_what_it_was_calibrated_on(converted, demo):
    pictures = [calibrate.Sample(demo / "calibration" / f"{i:03}.jpg") for i in range(12)]
    expected = calibrate.load(pictures, InputFacts(width=320, height=320)).facts()
    manifest = manifest_of(converted.bundle)
    assert manifest.calibration == expected
    (warning,) = manifest.warnings
    assert warning == "only 12 calibration pictures: 20 or more give steadier ranges"
    assert f"- {warning}\n" in converted.process.stdout


def test_no_path_of_this_machine_is_in_the_bundle(converted, demo):
    places = {
        converted.bundle.parent,  # where it was built beside its final name
        converted.temporary,
        demo,
        Path.home(),
        Path(tempfile.gettempdir()),
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sysconfig.get_path("stdlib")),
        *map(Path, site.getsitepackages()),
    }
    for place in {*places, *(place.resolve() for place in places)} - {Path("/")}:
        for name, data in content(converted.bundle).items():
            assert os.fsencode(place) + b"/" not in data, (name, place)


def test_the_saved_bundle_is_what_was_measured(converted, measured_again):
    """Its simulator, rebuilt without the calibration pictures, and its float graph agree exactly as
    much as those of the session that built it."""
    assert measured_again(converted.bundle) == manifest_of(converted.bundle).agreement


@pytest.fixture
def copy(converted, tmp_path) -> Path:
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(converted.bundle, tmp_path / "copy"))


def put(bundle: Path, name: str, data: bytes) -> None:
    """A file in the bundle, and in its manifest as if it had been there from the start."""
    (bundle / name).write_bytes(data)
    manifest = yaml.safe_load((bundle / "manifest.yaml").read_text("utf-8"))
    digest = hashlib.sha256(data).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size": len(data)}
    (bundle / "manifest.yaml").write_text(yaml.safe_dump(manifest), "utf-8")


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("listed", [False, True])
def test_a_pickle_in_a_bundle_is_never_read(copy, demo, tmp_path, rkyolo, listed):
    canary = tmp_path / "canary"
    hostile = pickle.dumps({"quant_tab": Touch(canary), "ori_model_path": "x"})
    for name in ("model.data", "quantization/model.data", "quantization/model.quantization.cfg"):
        if listed:
            put(copy, name, hostile)
        else:
            (copy / name).write_bytes(hostile)
    picture = demo / "calibration" / "000.jpg"
    done = rkyolo("detect", copy, picture, "--backend", "simulator", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["detections"]) > 5
    assert not canary.exists()


def test_a_pickle_in_place_of_the_ranges_is_refused(copy, demo, tmp_path, rkyolo):
    put(copy, "quantization/ranges.json", pickle.dumps(Touch(tmp_path / "canary")))
    done = rkyolo("detect", copy, demo / "calibration" / "000.jpg", "--backend", "simulator")
    assert done.returncode == 2
    assert "the saved ranges are damaged" in done.stderr
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.yaml"}))
def test_a_changed_file_is_refused(copy, demo, rkyolo, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    done = rkyolo("detect", copy, demo / "calibration" / "000.jpg", "--backend", "simulator")
    assert done.returncode == 2
    assert f"{copy / name} is not the file manifest.yaml describes" in done.stderr


def test_a_bundle_without_its_ranges_still_runs_in_float(copy, demo, rkyolo):
    manifest = yaml.safe_load((copy / "manifest.yaml").read_text("utf-8"))
    del manifest["files"]["quantization/ranges.json"]
    (copy / "manifest.yaml").write_text(yaml.safe_dump(manifest), "utf-8")
    arguments = ["detect", copy, demo / "calibration" / "000.jpg", "--backend"]
    assert rkyolo(*arguments, "onnxruntime").returncode == 0
    done = rkyolo(*arguments, "simulator")
    assert done.returncode == 2
    assert "has no quantization/ranges.json: convert it again" in done.stderr


def test_the_simulator_does_not_run_a_lone_file(converted, demo, rkyolo):
    rknn = converted.bundle / "model.rknn"
    done = rkyolo("detect", rknn, demo / "calibration" / "000.jpg", "--backend", "simulator")
    assert done.returncode == 2
    assert "the simulator runs bundles" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def failed_then_passed(convert_demo, converted, tmp_path_factory):
    """Over a bundle that is already there: a run that fails, then one that passes, with a picture
    that cannot be read and odd names."""
    folder = tmp_path_factory.mktemp("again")
    out = folder / "bundle"
    shutil.copytree(converted.bundle, out)
    before = content(out)
    failed = convert_demo("--activation", "none", "--min-agreement", 1, out=out)
    after, report = content(out), content(folder / "bundle.failed")
    pictures = folder / "two words"
    pictures.mkdir()
    for source in sorted((Path(__file__).parents[2] / "models/demo/calibration").iterdir())[:20]:
        shutil.copy(source, pictures / f"größe {source.name}")
    (pictures / "torn\n.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn off")
    passed = convert_demo("--calibration", pictures, out=out)
    return before, failed, after, report, passed


def test_a_run_that_fails_leaves_the_old_bundle_and_a_report(failed_then_passed):
    before, failed, after, report, _ = failed_then_passed
    assert failed.process.returncode == 1
    assert before == after
    assert {"report.html", "report.txt", "toolkit.log"} < report.keys()
    text = report["report.txt"].decode()
    assert re.search(r"FAIL: agreement F1 0\.\d+, at least 1 is asked for", text)
    assert re.search(
        r"\nleast alike is the (box|objectness|class) group of head\d_stride\d+\n", text
    )
    advice = text.partition("What to try\n")[2]
    for option in ("--min-agreement", "--calibration", "--activation sigmoid", "--precision fp16"):
        assert f"- {option} " in advice
    for name in re.findall(r"^- (pictures/\S+\.png): F1 0\.\d+$", text, re.MULTILINE):
        assert report[name].startswith(b"\x89PNG")
    assert text in failed.process.stderr
    assert failed.process.stderr.endswith(f"this report is in {failed.bundle}.failed\n")
    assert "wrote" not in failed.process.stdout
    assert list(failed.temporary.iterdir()) == []


def test_a_run_that_passes_replaces_the_bundle_and_the_report_of_the_failure(failed_then_passed):
    before, _, _, _, passed = failed_then_passed
    assert passed.process.returncode == 0, passed.process.stderr
    assert content(passed.bundle)["manifest.yaml"] != before["manifest.yaml"]
    assert sorted(path.name for path in passed.bundle.parent.iterdir()) == ["bundle", "two words"]


def test_a_picture_that_cannot_be_read_is_a_warning(failed_then_passed):
    *_, passed = failed_then_passed
    manifest = manifest_of(passed.bundle)
    assert manifest.warnings == ("1 pictures cannot be read and were left out: torn?.jpg",)
    assert manifest.calibration.pictures == 20
    assert manifest.warnings[0] in passed.process.stdout


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """A folder of 20 pictures with nothing in them."""
    import cv2

    folder = tmp_path_factory.mktemp("noise")
    for i in range(20):
        grey = np.random.default_rng(i).normal(114, 4, (240, 320, 3)).clip(0, 255)
        (folder / f"{i}.png").write_bytes(cv2.imencode(".png", grey.astype(np.uint8))[1].tobytes())
    return folder


def test_calibrating_on_nothing_cannot_go_unnoticed(convert_demo, noise, demo, tmp_path):
    """Even where one of those pictures is among the ones that are checked."""
    check = tmp_path / "check.txt"
    check.write_text(f"{noise}/0.png\n{demo}/calibration/000.jpg\n{demo}/calibration/001.jpg\n")
    run = convert_demo("--calibration", noise, "--check", check, "--min-agreement", 0)
    assert run.process.returncode == 0
    manifest = manifest_of(run.bundle)
    assert manifest.agreement.f1 < 0.9, "the default would have stopped it"
    warnings = "\n".join(manifest.warnings)
    assert "in the calibration pictures objectness never gets above 0.0" in warnings
    assert warnings.replace("\n", "\n- ") in run.process.stdout


@pytest.fixture(scope="module")
def bright_noise(tmp_path_factory) -> Path:
    """A folder of 20 pictures of nothing but noise of all brightnesses."""
    import cv2

    folder = tmp_path_factory.mktemp("bright-noise")
    for i in range(20):
        noise = np.random.default_rng(i).integers(0, 256, (480, 640, 3), np.uint8)
        (folder / f"{i}.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    return folder


def warned_of_calibration(done) -> bool:
    """Whether a warning names the calibration pictures as what is wrong."""
    words = "look foreign to the model", "hold no object the model is sure of", "finds something in"
    told = done.stdout + done.stderr
    section = told.partition("\nWarnings\n")[2].partition("\n\n")[0]
    return any(
        "calibration pictures" in line and any(word in line for word in words)
        for line in section.splitlines()
    )


@pytest.mark.parametrize("checked", [True, False], ids=["own check", "no check"])
def test_calibrating_on_noise_is_no_silent_pass(
    bright_noise, data, demo, tmp_path, rkyolo, checked
):
    """Agreement alone would let it pass: at 640 it is 0.97 on the model's own pictures."""
    foreign_is_told(bright_noise, data, demo, tmp_path, rkyolo, 640, checked)


@pytest.mark.parametrize("checked", [True, False], ids=["own check", "no check"])
def test_calibrating_on_other_peoples_pictures_is_no_silent_pass(
    shared, data, demo, tmp_path, rkyolo, checked
):
    foreign_is_told(shared / "images", data, demo, tmp_path, rkyolo, 320, checked)


def foreign_is_told(folder, data, demo, tmp_path, rkyolo, size, checked):
    check = tmp_path / "check.txt"
    pictures = sorted((data / "demo" / "val" / "images").iterdir())[:6]
    check.write_text("".join(f"{path}\n" for path in pictures))
    options = ["--calibration", folder, "--size", size, "-o", tmp_path / "out"]
    options += ["--check", check] if checked else []
    done = rkyolo("convert", demo / "shapes.pt", *options)
    assert done.returncode in (0, 1) and warned_of_calibration(done), done.stdout + done.stderr
    written = tmp_path / ("out.failed" if done.returncode else "out")
    page = (written / "report.html").read_text("utf-8")
    assert ("Failed" if done.returncode else "Passed, with ") in page


def test_raw_outputs_that_were_calibrated_too_low_are_named(convert_demo, bright_noise):
    run = convert_demo("--calibration", bright_noise, "--activation", "none", "--min-agreement", 0)
    assert run.process.returncode == 0, run.process.stderr
    lines = [w for w in manifest_of(run.bundle).warnings if "which will be cut off" in w]
    assert len(lines) == 3
    for line, head in zip(
        lines, ("head0_stride8", "head1_stride16", "head2_stride32"), strict=True
    ):
        told = re.match(rf"{head} was calibrated to at most (\S+), and goes up to (\S+) in", line)
        assert float(told[1]) < float(told[2])


def test_heads_that_are_cut_off_are_named(data, noise, tmp_path, rkyolo):
    """A model that is never sure of anything, and whose file has a name that cannot be printed."""
    model, out = tmp_path / os.fsdecode(b"m\xff\n.pt"), tmp_path / "out"
    shutil.copy(data / "golden" / "checkpoints" / "v70_n.pt", model)
    options = ["--calibration", noise, "--size", "96x128", "--min-agreement", 0, "-o", out]
    done = rkyolo("convert", model, *options)
    assert done.returncode == 0, done.stderr
    assert "NOT PROVEN: the float model finds nothing" in done.stdout
    for head in ("head0_stride8", "head1_stride16", "head2_stride32"):
        assert re.search(rf"- {head} was calibrated to at most 0\.\d+, and greater", done.stdout)
    assert manifest_of(out).source.file == "m??.pt"


def test_checking_on_nothing_proves_nothing(convert_demo, noise):
    run = convert_demo("--calibration", noise, "--check", noise)
    assert run.process.returncode == 1
    assert (
        "NOT PROVEN: the float model finds nothing in the 20 check pictures" in run.process.stderr
    )
    assert "in the calibration pictures objectness never gets above" in run.process.stderr
    assert "- --check FOLDER " in run.process.stderr
    assert not run.bundle.exists()


def test_fp16_needs_no_calibration(demo, tmp_path, rkyolo):
    check = tmp_path / "check.txt"
    check.write_text("".join(f"{demo}/calibration/{i:03}.jpg\n" for i in range(3)))
    out = tmp_path / "new" / "folders" / "bundle"
    options = ["--precision", "fp16", "--check", check, "--size", "256x320", "-o", out]
    done = rkyolo("convert", demo / "shapes.pt", *options)
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(out)
    assert (manifest.precision, manifest.algorithm, manifest.calibration) == ("fp16", None, None)
    assert manifest.input.wh == (320, 256)
    assert manifest.agreement.f1 > 0.99 and manifest.warnings == ()
    (out / "quantization").mkdir()
    put(out, "quantization/ranges.json", b"of no use to fp16")
    picture = demo / "calibration" / "001.jpg"
    assert rkyolo("detect", out, picture, "--backend", "simulator").returncode == 0


@pytest.fixture
def places(tmp_path, demo) -> Path:
    """A folder with all sorts of things in it, as the working folder."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.yaml").write_text("kind: Deployment\n")
    (tmp_path / "file").write_text("x")
    (tmp_path / "new.failed").mkdir()
    (tmp_path / "new.failed" / "thesis.doc").write_text("x")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.jpg").write_bytes(b"x")
    (tmp_path / "pictures").symlink_to(demo / "calibration")
    (tmp_path / "shapes.pt").symlink_to(demo / "shapes.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-o file", "file exists and is no bundle: give another -o"),
        ("-o mine", "mine exists and is no bundle: give another -o"),
        ("-o .", "-o . is no name for a new folder"),
        ("-o ..", "-o .. is no name for a new folder"),
        ("-o new", "new.failed exists and is no report of rkyolo"),
        ("-o file/below/it", "cannot write file/below/it: "),
        ("-o out", "--calibration is needed"),
        ("-o out --precision fp16", "--calibration or --check is needed"),
        ("-o out --calibration nowhere", "nowhere does not exist"),
        ("-o out --calibration empty", "empty holds no pictures"),
        ("-o out --calibration torn", "none of the 1 pictures of torn can be read"),
        ("-o out --calibration pictures --check nowhere", "nowhere does not exist"),
        ("-o out --calibration pictures --check torn", "none of the 1 pictures of torn can be"),
        ("-o out --calibration pictures --size 321", "321x321 .* stride 32: use 352x352"),
        ("-o out --calibration pictures --size 96x100", "96x100 .* stride 32: use 96x128"),
        ("-o out --calibration pictures --size 0", "--size 0 is out of range"),
        ("-o out --calibration pictures --size big", "--size big is no size"),
        ("-o out --target rk9999", "--target rk9999 is not known: choose rk3588, "),
        ("-o out --precision int4", "--precision int4 is not known: choose int8, fp16"),
        ("-o out --algorithm best", "--algorithm best is not known: choose normal, kl_"),
        ("-o out --activation relu", "--activation relu is not known: choose none, sigmoid"),
        ("-o out --min-agreement 1.01", "--min-agreement 1.01 is no F1: give 0 to 1"),
        ("-o out --min-agreement nan", "--min-agreement nan is no F1: give 0 to 1"),
    ],
)
def test_bad_input_is_told_at_once_and_in_one_line(places, rkyolo, arguments, message):
    before = content(places)
    started = time.monotonic()
    done = rkyolo("convert", "shapes.pt", *arguments.split(), cwd=places)
    assert time.monotonic() - started < 30
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not re.fullmatch(r".*: \d+\.\d s", line)]
    assert len(errors) == 1 and re.match(f"error: .*{message}", errors[0]), done.stderr
    assert "Build" not in done.stderr
    assert done.stdout == ""
    assert content(places) == before and not (places / "out").exists()


@pytest.mark.parametrize(
    ("model", "message"), [("nowhere.pt", "nowhere.pt"), ("file.pt", "file.pt"), ("empty", "empty")]
)
def test_a_model_that_is_none(places, rkyolo, model, message):
    (places / "file.pt").write_text("no checkpoint")
    done = rkyolo("convert", model, "--calibration", "pictures", "-o", "out", cwd=places)
    assert done.returncode == 2
    assert re.fullmatch(f"error: .*{message}.*\n", done.stderr)
