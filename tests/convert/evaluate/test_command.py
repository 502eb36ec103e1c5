"""rkyolo evaluate, as a user runs it."""

import json
import os
import pty
import shutil
import subprocess
import sys

import pytest

from convert.evaluate import job
from convert.progress import Steps
from runtime.errors import UserError

METRICS = ("P", "R", "mAP50", "mAP50-95")


@pytest.fixture
def shapes(demo):
    return demo / "shapes.pt"


def one_line(done, *parts):
    """A bad input is told in one line on standard error, with exit code 2."""
    error = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (2, ""), done
    assert error.startswith("error: ") and "Traceback" not in done.stderr
    for part in parts:
        assert str(part) in error


def by_class(rows):
    return {row["class"]: row for row in rows}


def test_the_demo_has_the_accuracy_that_was_measured_with_yolov5_itself(
    rkyolo, shapes, demo_yaml, data
):
    done = rkyolo("evaluate", shapes, "--data", demo_yaml, "--json", "-")
    assert done.returncode == 0, done.stderr
    reference = json.loads((data / "demo" / "reference_map.json").read_text())
    plain = json.loads(done.stdout)
    assert (plain["width"], plain["height"]) == (reference["size"],) * 2
    assert (plain["conf"], plain["iou"]) == (reference["score"], reference["iou"])
    (result,) = plain["results"]
    assert (result["backend"], result["precision"]) == ("onnxruntime", "float32")
    assert result["images"] == reference["images"]
    assert result["rows"][0]["instances"] == reference["labels"]
    rows = by_class(result["rows"])
    assert rows.keys() == reference["pycocotools"].keys()
    for name, row in rows.items():
        for metric in ("mAP50", "mAP50-95"):
            expected = reference["pycocotools"][name][metric]
            assert row[metric] == pytest.approx(expected, abs=0.003), (name, metric)
        for metric in ("P", "R"):
            expected = reference["yolov5"][name][metric]
            assert row[metric] == pytest.approx(expected, abs=0.01), (name, metric)


def test_int8_on_the_simulator_keeps_the_accuracy(rkyolo, convert_demo, demo_yaml):
    bundle = convert_demo("--size", 640).bundle
    backends = ["--backend", "onnxruntime", "--backend", "simulator"]
    done = rkyolo("evaluate", bundle, "--data", demo_yaml, *backends, "--json", "-")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert [result["precision"] for result in plain["results"]] == ["float32", "int8"]
    (difference,) = plain["differences"]
    assert 0 < abs(difference["rows"][0]["mAP50-95"]) < 0.01


def test_backends_stand_side_by_side(rkyolo, converted, few_yaml, tmp_path):
    names = ("onnxruntime", "opencv", "simulator")
    backends = [part for name in names for part in ("--backend", name)]
    out = tmp_path / "table.json"
    done = rkyolo(
        "evaluate", converted.bundle, "--data", few_yaml, *backends, "--json", out,
        "--batch-report", tmp_path / "report",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == ["class", "images", "instances", "backend", *METRICS]
    first = ["all", "8", *lines[1][2:3], "onnxruntime", "float32"]
    assert lines[1][:5] == first
    assert lines[2][:2] == ["opencv", "float32"] and lines[4][:2] == ["simulator", "int8"]
    # the same graph in float32, by other means
    assert lines[3][0] == "difference" and all(abs(float(v)) <= 0.002 for v in lines[3][1:])
    assert lines[5][0] == "difference"
    assert [line[0] for line in lines[6::5]][:5] == "circle square triangle star cross".split()
    assert done.stdout.count("P and R are at confidence 0.") == 3
    assert done.stdout.count("ms pre-process, ") == 3
    assert "Detect in 8 pictures, backend simulator: " in done.stderr
    plain = json.loads(out.read_text())
    assert [result["backend"] for result in plain["results"]] == list(names)
    assert {d["backend"]: d["from"] for d in plain["differences"]} == dict.fromkeys(
        names[1:], "onnxruntime"
    )
    floats = [by_class(result["rows"])["all"] for result in plain["results"]]
    assert lines[1][5:] == [f"{floats[0][metric]:.3f}" for metric in METRICS]
    assert len(list((tmp_path / "report").iterdir())) == 4


def test_detections_for_pycocotools(rkyolo, shapes, few_yaml, tmp_path):
    out = tmp_path / "results.json"
    done = rkyolo("evaluate", shapes, "--data", few_yaml, "--size", 160, "--save-json", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"wrote {out}\n")
    rows = json.loads(out.read_text())
    assert {row["image_id"] for row in rows} == set(range(8))
    assert {row["category_id"] for row in rows} == set(range(5))
    assert all(0.001 < row["score"] <= 1 for row in rows)


def test_a_coco_json_gives_the_same_as_label_files(rkyolo, shapes, few_yaml, data, tmp_path):
    """But for how it numbers and orders the classes."""
    names = ("circle", "square", "triangle", "star", "cross")
    images, annotations = [], []
    import cv2

    for i in range(8):
        file = data / "demo" / "val" / "images" / f"{i:03}.jpg"
        height, width = cv2.imread(str(file)).shape[:2]
        images.append({"id": i, "file_name": file.name, "width": width, "height": height})
        labels = data / "demo" / "val" / "labels" / f"{i:03}.txt"
        for line in labels.read_text().splitlines():
            class_id, x, y, w, h = map(float, line.split())
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            annotations.append({"image_id": i, "category_id": 90 - int(class_id), "bbox": box})
    categories = [{"id": 90 - i, "name": name} for i, name in reversed(list(enumerate(names)))]
    path = tmp_path / "instances.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    size, tables = ["--size", 320, "--json", "-"], []
    pictures = ["--pictures", data / "demo" / "val" / "images"]
    for arguments in ([few_yaml], [path, *pictures]):
        done = rkyolo("evaluate", shapes, "--data", *arguments, *size)
        assert done.returncode == 0, done.stderr
        tables.append(json.loads(done.stdout)["results"][0]["rows"])
    for ours, theirs in zip(*tables, strict=True):
        assert ours["class"] == theirs["class"] and ours["instances"] == theirs["instances"]
        for metric in METRICS:
            assert ours[metric] == pytest.approx(theirs[metric], abs=0.002)


def test_a_picture_of_another_size_than_its_labels_say(rkyolo, shapes, folder, tmp_path):
    """Told before the long work."""
    picture = folder.add("a.png")
    path = tmp_path / "a.json"
    names = ("circle", "square", "triangle", "star", "cross")
    plain = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 40}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    path.write_text(json.dumps(plain))
    done = rkyolo("evaluate", shapes, "--data", path, "--pictures", picture.parent, "--size", 64)
    one_line(done, f"{picture} is 40x20 (width x height)", "was labelled as 20x40")
    assert "Detect" not in done.stderr


def test_a_backend_that_cannot_run_is_told_before_the_others_run(rkyolo, shapes, few_yaml):
    backends = ["--backend", "opencv", "--backend", "simulator"]
    done = rkyolo("evaluate", shapes, "--data", few_yaml, "--size", 64, *backends)
    one_line(done, "the simulator runs bundles")
    assert "Detect" not in done.stderr


def test_background_pictures_are_told(rkyolo, shapes, folder):
    folder.add("a.png", "0 0.5 0.5 0.5 0.5\n")
    folder.add("b.png")
    done = rkyolo("evaluate", shapes, "--data", folder.yaml, "--size", 64)
    assert done.returncode == 0
    assert "1 of the pictures are background: nothing is labelled\n" in done.stdout


def test_an_unreadable_picture_is_told_and_left_out(rkyolo, shapes, folder, data):
    for name in ("000", "001"):
        picture = folder.add(f"{name}.jpg", (data / f"demo/val/labels/{name}.txt").read_bytes())
        shutil.copy(data / "demo" / "val" / "images" / f"{name}.jpg", picture)
    picture.write_bytes(picture.read_bytes()[:100])
    done = rkyolo("evaluate", shapes, "--data", folder.yaml, "--size", 320)
    assert done.returncode == 0
    assert f"warning: 1 pictures cannot be read and are left out: {picture}\n" in done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["all", "1"]


def test_bad_labels_are_named_or_left_out(rkyolo, shapes, folder, data):
    good = (data / "demo" / "val" / "labels" / "000.txt").read_bytes()
    for name in ("000", "001"):
        picture = folder.add(f"{name}.jpg", good)
        shutil.copy(data / "demo" / "val" / "images" / "000.jpg", picture)
    file = folder.root / "labels" / "val" / "001.txt"
    file.write_bytes(good + b"5 0.5 0.5 0.1 0.1\n")
    line = good.count(b"\n") + 1
    arguments = ["evaluate", shapes, "--data", folder.yaml, "--size", 160]
    one_line(rkyolo(*arguments), f"{file}:{line}: class 5, but the model's classes are 0 to 4")
    done = rkyolo(*arguments, "--skip-bad-labels")
    assert done.returncode == 0
    assert f"warning: 1 pictures are left out: 1 label is bad: {file}:{line}: " in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--conf", "1.5"], "--conf 1.5 is no threshold: give a number from 0 to 1"),
        (["--iou", "nan"], "--iou nan is no threshold"),
        (["--backend", "gpu"], "no backend is called gpu: choose auto, onnxruntime"),
        (["--backend", "opencv", "--backend", "opencv"], "--backend opencv is given twice"),
        (["--backend", "simulator"], "the simulator runs bundles"),
        (["--split", "training"], "--split training is not known: choose val, test, train"),
        (["--split", "test"], "names no pictures under test: give --split val"),
        (["--pictures", "."], "--pictures is for a COCO JSON"),
        (["--size", "650"], "672"),
        (["--json", "table.txt"], "--json table.txt should end in .json"),
        (["--save-json", "a", "--backend", "opencv"], "--save-json a should end in .json"),
        (["--save-json", "a.json", "--json", "a.json"], "would write over --json"),
        (
            ["--save-json", "a.json", "--backend", "opencv", "--backend", "auto"],
            "--save-json holds the detections of one backend",
        ),
        (["--json", "/dev/null/a.json"], "cannot write /dev/null/a.json"),
        (["--data", "nowhere.yaml"], "--data nowhere.yaml does not exist"),
        (["--data", "notes.txt"], "--data notes.txt is no data.yaml and no COCO .json"),
        (["--data", "a.json"], "--pictures FOLDER is needed with a COCO JSON"),
        (["--data", "a.json", "--pictures", ".", "--split", "val"], "are for a data.yaml"),
        (["--data", "a.json", "--pictures", "."], "a.json is no COCO JSON"),
        (["--batch-report", "notes.txt"], "--batch-report notes.txt is no folder"),
        (["--batch-report", "set/images/val"], "is where the pictures are"),
    ],
)
def test_bad_options(rkyolo, shapes, folder, tmp_path, options, message):
    folder.add("a.png", "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a.json").write_text("{}")
    size = [] if "--size" in options else ["--size", "64"]
    code = f"import sys; sys.path.insert(0, {str(job.__file__)!r}.rpartition('/convert/')[0])"
    code += "; from runtime.cli import main; main()"
    command = ["evaluate", shapes, "--data", folder.yaml, *size, *options]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    one_line(done, message)
    assert (tmp_path / "a.json").read_text() == "{}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "notes.txt", "set"]


def test_a_coco_json_is_not_written_over(rkyolo, shapes, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{}")
    arguments = ["evaluate", shapes, "--data", path, "--pictures", tmp_path, "--save-json", path]
    one_line(rkyolo(*arguments), f"--save-json {path} would write over --data")


def test_other_classes_than_the_models(rkyolo, shapes, folder):
    folder.write_yaml(val="images", names=["circle", "square", "triangle", "cross", "star"])
    folder.add("a.png", "0 0.5 0.5 0.5 0.5\n")
    one_line(
        rkyolo("evaluate", shapes, "--data", folder.yaml, "--size", 64),
        f"{folder.yaml} has other classes than the model: 3 is cross there and star in the model",
    )


def test_without_pycocotools(monkeypatch, shapes, few_yaml):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.delitem(sys.modules, "pycocotools.cocoeval", raising=False)
    request = job.Request(model=shapes, data=few_yaml)
    with pytest.raises(UserError, match="evaluate needs the package pycocotools, which is not"):
        job.evaluate(request, Steps(quiet=True))


def test_help(rkyolo):
    done = rkyolo("evaluate", "--help")
    assert done.returncode == 0
    for option in ("--data", "--backend", "--split", "--save-json", "--batch-report", "--conf"):
        assert option in done.stdout


def test_on_a_terminal_there_is_a_bar(shapes, few_yaml):
    code = "from runtime.cli import main; main()"
    command = ["evaluate", shapes, "--data", few_yaml, "--size", "160", "--backend", "opencv"]
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=child,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "LANG": "C.UTF-8"},
    )
    os.close(child)
    seen = b""
    try:
        while chunk := os.read(parent, 4096):
            seen += chunk
    except OSError:  # how a terminal ends
        pass
    os.close(parent)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Detect in 8 pictures, backend opencv" in seen.decode() and "━━" in seen.decode()
    assert out.decode().split()[:3] == ["class", "images", "instances"]
