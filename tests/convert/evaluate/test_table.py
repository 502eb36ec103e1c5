"""The table, and the same as data."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from convert.evaluate.accuracy import Accuracy
from convert.evaluate.dataset import Dataset
from convert.evaluate.labels import Labels
from convert.evaluate.run import Predictions
from convert.evaluate.table import (
    Evaluation,
    as_plain,
    coco_results,
    confidence_line,
    milliseconds,
    speed_line,
    table,
)
from runtime.detections import Detections

NAMES = ("a person [red]", "dog", "cat\x1b[2J")
FLOAT = Evaluation(
    "onnxruntime",
    "float32",
    Accuracy(
        60, 0.4, np.array([0, 2]), np.array([7, 12]),
        np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.6, 0.1, 0.0]]),
    ),
    (1.0, 20.04, 3.26),
)  # fmt: skip
INT8 = Evaluation(
    "simulator",
    "int8",
    Accuracy(
        60, 0.5, np.array([0, 2]), np.array([7, 12]),
        np.array([[0.9, 0.81, 0.68, 0.6], [0.5, 0.6, 0.0998, 0.0]]),
    ),
    (1.0, 200.0, 3.0),
)  # fmt: skip


def shown(evaluations, width: int = 160) -> list[list[str]]:
    """The words of each line that has any."""
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False).print(table(evaluations, NAMES))
    text = stream.getvalue()
    assert "\x1b" not in text and all(len(line) <= width for line in text.splitlines())
    return [line.split() for line in text.splitlines() if line.strip()]


def test_one_backend_is_yolov5s_table():
    assert shown([FLOAT]) == [
        ["class", "images", "instances", "P", "R", "mAP50", "mAP50-95"],
        ["all", "60", "19", "0.700", "0.700", "0.400", "0.300"],
        ["a", "person", "[red]", "60", "7", "0.900", "0.800", "0.700", "0.600"],
        ["cat?[2J", "60", "12", "0.500", "0.600", "0.100", "0.000"],
    ]


def test_several_backends_and_their_difference():
    assert shown([FLOAT, INT8]) == [
        ["class", "images", "instances", "backend", "P", "R", "mAP50", "mAP50-95"],
        ["all", "60", "19", "onnxruntime", "float32", "0.700", "0.700", "0.400", "0.300"],
        ["simulator", "int8", "0.700", "0.705", "0.390", "0.300"],
        ["difference", "0.000", "+0.005", "-0.010", "0.000"],
        "a person [red] 60 7 onnxruntime float32 0.900 0.800 0.700 0.600".split(),
        ["simulator", "int8", "0.900", "0.810", "0.680", "0.600"],
        ["difference", "0.000", "+0.010", "-0.020", "0.000"],
        ["cat?[2J", "60", "12", "onnxruntime", "float32", "0.500", "0.600", "0.100", "0.000"],
        ["simulator", "int8", "0.500", "0.600", "0.100", "0.000"],
        ["difference", "0.000", "0.000", "0.000", "0.000"],
    ]


def test_no_number_is_cut_off_on_a_terminal_of_80_columns():
    numbers = [word for line in shown([FLOAT, INT8], 80) for word in line if "." in word]
    assert numbers == [word for line in shown([FLOAT, INT8]) for word in line if "." in word]


def test_lines_below_the_table():
    assert confidence_line(FLOAT) == "P and R are at confidence 0.400 (onnxruntime float32)"
    assert speed_line(FLOAT, (640, 480)) == (
        "Speed: 1.0 ms pre-process, 20.0 ms inference, 3.3 ms NMS per picture at 640x480"
        " (onnxruntime float32)"
    )
    assert "says nothing of the NPU's speed" in speed_line(INT8, (640, 480))


def test_times_are_of_pictures_that_were_read():
    made = Predictions.of_pictures(
        "opencv", [(4, 4), (0, 0), (4, 4)], [Detections.empty()] * 3, np.array([1.0, 2, 3])
    )
    assert milliseconds(made) == (500, 1000, 1500)


def test_as_data():
    plain = as_plain([FLOAT, INT8], NAMES)
    assert json.loads(json.dumps(plain)) == plain
    assert [result["backend"] for result in plain["results"]] == ["onnxruntime", "simulator"]
    assert plain["results"][0]["rows"][1] == {
        "class": "a person [red]", "instances": 7,
        "P": 0.9, "R": 0.8, "mAP50": 0.7, "mAP50-95": 0.6,
    }  # fmt: skip
    assert plain["results"][0]["ms"] == {"pre-process": 1, "inference": 20.04, "NMS": 3.26}
    (difference,) = plain["differences"]
    assert (difference["backend"], difference["from"]) == ("simulator", "onnxruntime")
    assert difference["rows"][0]["mAP50"] == pytest.approx(-0.0101)


def test_results_as_coco_takes_them():
    labels = Labels(np.zeros(1, np.int32), np.zeros((1, 4)), np.zeros(1, bool))
    files = (Path("a.png"), Path("b.png"))
    dataset = Dataset(Path("x.json"), files, (labels, labels), ("a", 30), (1, 18))
    found = Detections(
        np.array([[1, 2, 4, 8.5]], np.float32),
        np.array([0.123456], np.float32),
        np.array([1], np.int32),
    )
    made = Predictions.of_pictures(
        "opencv", [(9, 9), (9, 9)], [Detections.empty(), found], np.ones(3)
    )
    assert coco_results(dataset, made) == [
        {"image_id": 30, "category_id": 18, "bbox": [1, 2, 3, 6.5], "score": 0.12346}
    ]
