"""Accuracy against slow obvious references, and pycocotools run whole."""

import contextlib
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from slow_decode import overlap

from convert.evaluate import accuracy as accuracy_module
from convert.evaluate.accuracy import measure
from convert.evaluate.dataset import Dataset
from convert.evaluate.labels import Labels
from convert.evaluate.run import Predictions
from runtime.detections import Detections
from runtime.errors import UserError

WH = 40, 20
BOX = (10, 5, 20, 15)
OTHER = (30, 5, 38, 15)


def labels(*rows: tuple[float, ...], crowd: tuple[int, ...] = ()) -> Labels:
    """From rows of class, x1, y1, x2, y2 in pixels; crowd: places of the rows that are."""
    plain = np.array(rows, np.float64).reshape(-1, 5)
    is_crowd = np.isin(np.arange(len(plain)), crowd)
    return Labels(plain[:, 0].astype(np.int32), plain[:, 1:], is_crowd, True, WH)


def found(*rows: tuple[float, ...]) -> Detections:
    """From rows of class, x1, y1, x2, y2, score, the highest first."""
    plain = np.array(rows, np.float32).reshape(-1, 6)
    plain = plain[np.argsort(-plain[:, 5], kind="stable")]
    return Detections(plain[:, 1:5], plain[:, 5], plain[:, 0].astype(np.int32))


def dataset(*pictures: Labels, classes: int = 3) -> Dataset:
    files = tuple(Path(f"{i}.png") for i in range(len(pictures)))
    return Dataset(
        Path("data.yaml"), files, pictures, tuple(range(len(files))), tuple(range(classes))
    )


def predictions(*pictures: Detections | None) -> Predictions:
    """None for an unreadable picture."""
    return Predictions.of_pictures(
        "onnxruntime",
        [(0, 0) if p is None else WH for p in pictures],
        [Detections.empty() if p is None else p for p in pictures],
        np.ones(3),
    )


def slow_right(truth: list[Labels], results: list[Detections], class_id: int):
    """(score, whether it is right) of every detection of a class, the best first."""
    told = []
    for picture, detections in zip(truth, results, strict=True):
        boxes = [
            box
            for box, c, crowd in zip(picture.xyxy, picture.class_id, picture.crowd, strict=True)
            if c == class_id and not crowd
        ]
        taken = set()
        for box, score, c in zip(
            detections.xyxy, detections.score, detections.class_id, strict=True
        ):
            if c != class_id:
                continue
            overlaps = [overlap(box.astype(float), other) for other in boxes]
            picked = overlaps.index(max(overlaps)) if overlaps else -1
            right = bool(overlaps) and overlaps[picked] >= 0.5 and picked not in taken
            if right:
                taken.add(picked)
            told.append((float(score), right))
    return sorted(told, key=lambda pair: -pair[0])


def slow_curve(told, instances: int, confidence: float) -> tuple[float, float]:
    """Precision and recall at a confidence, on the straight lines between the detections' scores;
    above the first one precision is 1 and recall 0."""
    if not told:
        return 0.0, 0.0
    points, right = [], 0
    for i, (score, is_right) in enumerate(told, 1):
        right += is_right
        points.append((score, right / i, right / instances))
    if confidence > points[0][0]:
        return 1.0, 0.0
    if confidence < points[-1][0]:
        return points[-1][1:]
    for (high, *above), (low, *below) in pairwise(points):
        if low < confidence < high:
            part = (high - confidence) / (high - low)
            return tuple(a + part * (b - a) for a, b in zip(above, below, strict=True))
    return [point for point in points if point[0] == confidence][-1][1:]


def slow_means(truth: list[Labels], results: list[Detections]):
    """Of each of 1000 confidences, each labelled class's (precision, recall); and the mean F1 over
    classes, averaged over the 50 confidences on either side."""
    counts = {c: sum(int(((p.class_id == c) & ~p.crowd).sum()) for p in truth) for c in range(3)}
    told = {c: slow_right(truth, results, c) for c in counts}
    curves = [
        [slow_curve(told[c], n, i / 999) for i in range(1000)] for c, n in counts.items() if n
    ]
    f1 = [
        sum(2 * p * r / (p + r) if p + r else 0 for p, r in (curve[i] for curve in curves))
        / len(curves)
        for i in range(1000)
    ]
    smooth = [
        sum(f1[min(max(j, 0), 999)] for j in range(i - 50, i + 51)) / 101 for i in range(1000)
    ]
    return curves, smooth


@st.composite
def sets(draw):
    """Three pictures of few boxes on a coarse grid, so that ties and equal boxes are frequent. No
    score is a confidence that is looked at, where rounding could decide."""
    place, size = st.integers(0, 3), st.integers(0, 3)
    scores = st.integers(1, 40).map(lambda k: k / 41.3)
    box = st.tuples(st.integers(0, 2), place, place, size, size)
    truth = draw(st.lists(st.lists(box, max_size=5), min_size=3, max_size=3))
    results = draw(st.lists(st.lists(st.tuples(box, scores), max_size=8), min_size=3, max_size=3))
    return (
        [labels(*((c, x, y, x + w, y + h) for c, x, y, w, h in picture)) for picture in truth],
        [
            found(*((c, x, y, x + w, y + h, score) for (c, x, y, w, h), score in picture))
            for picture in results
        ],
    )


@settings(max_examples=25, deadline=None)
@given(sets())
def test_precision_and_recall_are_the_slow_ones(made):
    truth, results = made
    if not any(len(picture) for picture in truth):
        truth[0] = labels((0, *BOX))
    accuracy = measure(dataset(*truth), predictions(*results))
    curves, smooth = slow_means(truth, results)
    at = round(accuracy.confidence * 999)
    assert accuracy.confidence == pytest.approx(at / 999)
    assert smooth[at] == pytest.approx(max(smooth), abs=1e-9)  # of equal ones, either
    expected = [curve[at] for curve in curves]
    assert accuracy.values[:, :2] == pytest.approx(np.array(expected), abs=1e-6)


def whole_coco(truth: list[Labels], results: list[Detections]) -> dict[int, tuple[float, float]]:
    """(mAP50, mAP50-95) of each class by pycocotools as its own examples use it."""
    annotations = [
        {"image_id": i, "category_id": int(c) + 1, "iscrowd": int(crowd),
         "bbox": [*box[:2], *(box[2:] - box[:2])], "area": float(np.prod(box[2:] - box[:2]))}
        for i, picture in enumerate(truth)
        for c, box, crowd in zip(picture.class_id, picture.xyxy, picture.crowd, strict=True)
    ]  # fmt: skip
    rows = [
        {"image_id": i, "category_id": int(c) + 1, "score": float(score),
         "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])]}
        for i, picture in enumerate(results)
        for c, box, score in zip(picture.class_id, picture.xyxy, picture.score, strict=True)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": c} for c in (1, 2, 3)],
            "annotations": [a | {"id": i} for i, a in enumerate(annotations, 1)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.params.maxDets = [1, 10, 300]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return {
        c: (precision[0, :, c].mean(), precision[:, :, c].mean())
        for c in range(3)
        if (precision[:, :, c] > -1).any()
    }


@pytest.mark.parametrize("seed", range(8))
def test_map_is_that_of_pycocotools_run_whole(seed, monkeypatch):
    monkeypatch.setattr(accuracy_module, "_AT_ONCE", 4)  # of six pictures, so in two parts
    rng = np.random.default_rng(seed)
    truth, results = [], []
    for _ in range(6):
        n = int(rng.integers(1, 9))
        corner, size = rng.uniform(0, 20, (n, 2)), rng.uniform(2, 9, (n, 2))
        kind = rng.integers(0, 3, n)
        crowd = tuple(np.flatnonzero(rng.random(n) < 0.15))
        truth.append(labels(*np.hstack([kind[:, None], corner, corner + size]), crowd=crowd))
        moved = corner + rng.normal(0, 0.6, (n, 2))
        score = rng.choice(np.linspace(0.1, 0.9, 9), (2 * n, 1))  # with ties
        twice = np.vstack([np.hstack([moved, moved + size]), np.hstack([corner, corner + 5])])
        results.append(found(*np.hstack([np.tile(kind, 2)[:, None], twice, score])))
    expected = whole_coco(truth, results)
    accuracy = measure(dataset(*truth), predictions(*results))
    assert accuracy.class_id.tolist() == list(expected)
    assert accuracy.values[:, 2:] == pytest.approx(np.array(list(expected.values())), abs=1e-9)
    assert accuracy.mean == pytest.approx(accuracy.values.mean(axis=0))


FAR = (0, 0, 2, 2)


@pytest.mark.parametrize(
    ("truth", "results", "expected", "reason"),
    [
        ([(0, *BOX)], [(0, *BOX, 0.9)], [1, 1, 1, 1], "found"),
        ([(0, *BOX)], [], [0, 0, 0, 0], "nothing found"),
        ([(0, *BOX)], [(1, *BOX, 0.9)], [0, 0, 0, 0], "another class"),
        ([(0, *BOX)], [(0, *FAR, 0.9)], [0, 0, 0, 0], "elsewhere"),
        ([(0, *BOX), (0, *OTHER)], [(0, *BOX, 0.9)], [1, 0.5, 51 / 101, 51 / 101], "one of two"),
        (
            [(0, *BOX)],
            [(0, *BOX, 0.9), (0, *FAR, 0.8)],
            [0.749, 1, 1, 1],
            "P is on the smoothed curve, between a right and a wrong one",
        ),
        (
            [(0, *BOX)],
            [(0, 10, 5, 20, 10, 0.9)],
            [1, 1, 1, 0.1],
            "an overlap of exactly a half counts at 0.5 alone",
        ),
        ([(0, *BOX)], [(0, 10, 5, 20, 9.99, 0.9)], [0, 0, 0, 0], "a little less does not"),
    ],
)
def test_one_picture(truth, results, expected, reason):
    accuracy = measure(dataset(labels(*truth)), predictions(found(*results)))
    assert accuracy.values.tolist() == [pytest.approx(expected, abs=1e-3)], reason
    assert accuracy.pictures == 1 and accuracy.instances.tolist() == [len(truth)]


def test_a_class_not_found_at_that_confidence_has_precision_1_and_recall_0():
    """As YOLOv5 has it: its curve begins there."""
    truth = labels((0, *BOX), (1, *OTHER), *((1, i, 0, i + 1, 1) for i in range(19)))
    wrong = ((0, i, 0, i + 2, 2, 0.1) for i in range(9))
    results = found((0, *BOX, 0.9), (1, *OTHER, 0.02), *wrong)
    accuracy = measure(dataset(truth), predictions(results))
    assert 0.8 < accuracy.confidence < 0.9
    assert accuracy.values[:, :2].tolist() == [[pytest.approx(0.969, abs=0.001), 1], [1, 0]]


def test_crowds_are_neither_found_nor_missed():
    truth = labels((0, *BOX), (0, *OTHER), (1, *OTHER), crowd=(1, 2))
    results = found((0, *BOX, 0.9), (0, 31, 6, 37, 14, 0.95))
    accuracy = measure(dataset(truth), predictions(results))
    assert accuracy.class_id.tolist() == [0] and accuracy.instances.tolist() == [1]
    assert accuracy.values[0, 2:].tolist() == pytest.approx([1, 1])


def test_an_unreadable_picture_takes_its_labels_with_it():
    truth = labels((0, *BOX))
    accuracy = measure(dataset(truth, truth), predictions(None, found((0, *BOX, 0.9))))
    assert (accuracy.pictures, accuracy.instances.tolist()) == (1, [1])
    assert accuracy.values.tolist() == [pytest.approx([1, 1, 1, 1])]


def test_no_readable_picture():
    with pytest.raises(UserError, match="no picture with labels can be read"):
        measure(dataset(labels((0, *BOX))), predictions(None))


def test_a_picture_that_was_labelled_in_another_size():
    truth = Labels(np.zeros(1, np.int32), np.ones((1, 4)), np.zeros(1, bool), True, (20, 40))
    with pytest.raises(UserError, match=r"is 40x20 .* was labelled as 20x40"):
        measure(dataset(truth), predictions(Detections.empty()))


def test_pycocotools_prints_nothing(capsys):
    measure(dataset(labels((0, *BOX))), predictions(found((0, *BOX, 0.9))))
    assert capsys.readouterr() == ("", "")
