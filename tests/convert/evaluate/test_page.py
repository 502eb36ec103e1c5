"""The page of an evaluation."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from scenes import facts_of

from convert.evaluate.accuracy import Accuracy
from convert.evaluate.page import Outcome, page
from convert.evaluate.table import Evaluation, as_plain
from runtime.model import Model

CURVES = np.stack((np.linspace(0.5, 1, 1000), np.linspace(1, 0, 1000)))


def measured(backend, precision, values, curves=CURVES) -> Evaluation:
    """values: a row of the metrics for each class."""
    classes = np.arange(len(values))
    accuracy = Accuracy(60, 0.4, classes, classes + 7, np.array(values, float), curves)
    return Evaluation(backend, precision, accuracy, (1.0, 20.04, 3.26))


def outcome(*evaluations: Evaluation) -> Outcome:
    facts = facts_of(classes=len(evaluations[0].accuracy.class_id))
    head = {"model": "models/mine/", "data": "a/data.yaml", "conf": 0.001, "iou": 0.6}
    plain = head | as_plain(evaluations, facts.class_names)
    return Outcome(Model(Path("model.onnx"), facts, onnx=b""), evaluations, plain, 3, ())


def text_of(found: Outcome) -> str:
    """The page's words, on one line."""
    body = page(found).partition("<main>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


FLOAT = measured("onnxruntime", "float32", [[0.9, 0.8, 0.7, 0.6], [0.5, 0.6, 0.5, 0.4]])


def test_one_backend_is_measured_and_not_judged():
    html, text = page(outcome(FLOAT)), text_of(outcome(FLOAT))
    assert '<div class="verdict calm">' in html and "mAP50-95 0.500" in text
    assert "mine on data.yaml" in text and "3 of the pictures are background" in text
    assert "thing0 7 0.900 0.800 0.700 0.600" in text
    assert "The weakest class in onnxruntime float32 is thing1, mAP50-95 0.400" in text
    assert "detect at confidence 0.40" in text
    assert html.count('class="curve ') == 2 and html.count('class="bar"') == 2


@pytest.mark.parametrize(
    ("loss", "level", "told"),
    [
        (-0.05, "good", "keeps the accuracy of onnxruntime float32"),
        (0.009, "good", "keeps the accuracy of onnxruntime float32"),
        (0.02, "warn", "loses a little accuracy to onnxruntime float32"),
        (0.2, "bad", "loses accuracy to onnxruntime float32"),
    ],
)
def test_what_quantization_costs_is_the_verdict(loss, level, told):
    values = FLOAT.accuracy.values - [0, 0, 0, loss]
    found = outcome(FLOAT, measured("simulator", "int8", values))
    text = text_of(found)
    assert f'<div class="verdict {level}">' in page(found)
    assert f"simulator int8 {told}" in text
    assert f"difference 0.000 0.000 0.000 {-loss:+.3f}" in text
    assert ("Calibrate on more pictures" in text) == (level != "good")
    assert ("rkyolo tune MODEL" in text) == (level != "good")
    assert "The simulator says nothing of the NPU" in text


def test_the_worst_of_several_is_the_verdict():
    worse = measured("simulator", "int8", FLOAT.accuracy.values - 0.1)
    found = outcome(FLOAT, worse, measured("opencv", "float32", FLOAT.accuracy.values))
    assert "simulator int8 loses accuracy to onnxruntime float32" in text_of(found)
    # precisions alone do not tell these three apart
    assert " opencv 0.900 0.800 0.700 0.600" in text_of(found)


def test_a_lone_file_of_unknown_precision():
    assert "rknnlite: mAP50-95 0.500" in text_of(outcome(measured("rknnlite", "", [[0.5] * 4])))


def test_many_classes_get_a_row_each_and_bars_only_for_the_first():
    html = page(outcome(measured("onnxruntime", "float32", [[0.5] * 4] * 300)))
    assert html.count('<td class="name">thing') == 300 and html.count('class="bar"') == 80
    assert "The first 80 of 300 classes." in html


def test_curves_that_were_not_kept_are_left_out():
    html = page(outcome(measured("onnxruntime", "float32", [[0.5] * 4], curves=None)))
    assert 'class="curve ' not in html


def test_names_are_text_and_never_markup():
    hostile = "<img src=x onerror=alert(1)>"
    found = outcome(FLOAT)
    plain = found.plain | {"model": hostile, "data": hostile}
    for row in plain["results"][0]["rows"]:
        row["class"] = hostile
    html = page(dataclasses.replace(found, plain=plain, warnings=(hostile,)))
    assert "<img" not in html and html.count("&lt;img src=x onerror=") >= 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "a.htm"], "--report a.htm should end in .html"),
        (["--report", "report.html/b.html"], "cannot write report.html/b.html: "),
    ],
)
def test_a_bad_name_is_told_before_the_long_work(
    rkyolo, demo, few_yaml, tmp_path, arguments, message
):
    (tmp_path / "report.html").write_text("x")
    options = ["--data", few_yaml, *arguments]
    done = rkyolo("evaluate", demo / "shapes.pt", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert "Detect" not in done.stderr and "Traceback" not in done.stderr


def test_the_command_writes_it(rkyolo, demo, few_yaml, tmp_path):
    out = tmp_path / "new" / "report.html"
    done = rkyolo(
        "evaluate", demo / "shapes.pt", "--data", few_yaml, "--size", 160, "--report", out
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"wrote {out}\n")
    html = out.read_text("utf-8")
    assert html.startswith("<!doctype html>") and html.endswith("</html>")
    assert "shapes.pt on " in html and str(tmp_path) not in html
