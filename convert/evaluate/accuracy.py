"""How accurate predictions are: mAP by pycocotools, precision and recall as YOLOv5 counts them."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.compare import iou_matrix
from convert.evaluate.dataset import Dataset
from convert.evaluate.labels import check_size
from convert.evaluate.run import MOST_DETECTIONS, Predictions
from runtime.errors import UserError

METRICS = ("P", "R", "mAP50", "mAP50-95")
_MATCH_IOU = 0.5
_CONFIDENCES = np.linspace(0, 1, 1000)
_SMOOTHED = 0.1
_AT_ONCE = 200


@dataclass(frozen=True, eq=False)
class Accuracy:
    """What was measured, of each class that is labelled at all.

    pictures: how many were read. confidence: where the smoothed mean F1 is highest, at which P and
    R are. class_id: int64 (k,); instances: int64 (k,), labels of each; values: float64 (k, 4), its
    METRICS. curves: float64 (2, m), mean precision and recall over the classes by confidence, which
    goes from 0 to 1; None where that was not kept.
    """

    pictures: int
    confidence: float
    class_id: np.ndarray
    instances: np.ndarray
    values: np.ndarray
    curves: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """float64 (4,), the METRICS over all classes."""
        return self.values.mean(axis=0)


@dataclass(frozen=True, eq=False)
class _Objects:
    """Labels or detections of all pictures: picture, class_id int64 (n,), xyxy float64 (n, 4),
    and score float64 (n,), or crowd bool (n,) for labels."""

    picture: np.ndarray
    class_id: np.ndarray
    xyxy: np.ndarray
    extra: np.ndarray

    @classmethod
    def of_pictures(cls, parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> "_Objects":
        class_ids, xyxys, extras = zip(*parts, strict=True)
        return cls(
            np.repeat(np.arange(len(parts)), [len(class_id) for class_id in class_ids]),
            np.concatenate(class_ids).astype(np.int64),
            np.concatenate(xyxys).astype(np.float64),
            np.concatenate(extras),
        )

    def where(self, mask: np.ndarray) -> "_Objects":
        return _Objects(self.picture[mask], self.class_id[mask], self.xyxy[mask], self.extra[mask])


def measure(
    dataset: Dataset, predictions: Predictions, track: Callable[[Sequence], Iterator] = iter
) -> Accuracy:
    """Accuracy over the pictures that could be read. Raises UserError where that is none, or none
    with labels, or where one has another size than its labels say."""
    labels, found = _labels(dataset, predictions), _found(predictions)
    class_id, instances = np.unique(labels.class_id[~labels.extra], return_counts=True)
    if not len(class_id):
        raise UserError(f"{dataset.origin}: no picture with labels can be read")
    confidence, p, r, curves = precision_recall(labels.where(~labels.extra), found, class_id)
    ap = np.array([_average_precision(labels, found, i) for i in track(class_id.tolist())])
    values = np.column_stack((p, r, ap))
    read = int(predictions.readable.sum())
    return Accuracy(read, confidence, class_id, instances, values, curves)


def _labels(dataset: Dataset, predictions: Predictions) -> _Objects:
    parts = []
    for file, labels, (w, h) in zip(
        dataset.files, dataset.labels, predictions.wh.tolist(), strict=True
    ):
        if not w:  # unreadable
            parts.append((np.empty(0, np.int32), np.empty((0, 4)), np.empty(0, bool)))
            continue
        check_size(labels, (w, h), file)
        parts.append((labels.class_id, labels.pixels((w, h)), labels.crowd))
    return _Objects.of_pictures(parts)


def _found(predictions: Predictions) -> _Objects:
    return _Objects(
        np.repeat(np.arange(len(predictions)), predictions.counts),
        predictions.class_id.astype(np.int64),
        predictions.xyxy.astype(np.float64),
        predictions.score.astype(np.float64),
    )


def precision_recall(
    labels: _Objects, found: _Objects, class_id: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The confidence at which the mean F1 over classes is highest, smoothed over a tenth of the
    curve, and the precision and recall (k,) of each class there (YOLOv5, ap_per_class); then the
    means of both over the classes, (2, m), by confidence."""
    correct = _correct(labels, found)
    curves = [
        _curves(
            found.extra[found.class_id == i],
            correct[found.class_id == i],
            int((labels.class_id == i).sum()),
        )
        for i in class_id
    ]
    p, r = np.array(curves).transpose(1, 0, 2)
    best = int(_smooth((2 * p * r / (p + r + 1e-16)).mean(axis=0)).argmax())
    means = np.stack((p.mean(axis=0), r.mean(axis=0)))
    return float(_CONFIDENCES[best]), p[:, best], r[:, best], means


def _correct(labels: _Objects, found: _Objects) -> np.ndarray:
    """bool (n,): which detections are right. Each picks the label of its class that it overlaps
    most, by at least half; of those that picked the same one, the highest score is right, and the
    others are not, even if they overlap another label (YOLOv5, val.process_batch)."""
    correct = np.zeros(len(found.picture), bool)
    bounds = np.arange(max(labels.picture.max(initial=0), found.picture.max(initial=0)) + 2)
    theirs = np.searchsorted(labels.picture, bounds)
    ours = np.searchsorted(found.picture, bounds)
    for i in range(len(bounds) - 1):
        there, here = slice(theirs[i], theirs[i + 1]), slice(ours[i], ours[i + 1])
        if there.start < there.stop and here.start < here.stop:
            overlap = iou_matrix(found.xyxy[here], labels.xyxy[there])
            overlap[found.class_id[here, None] != labels.class_id[there]] = 0
            picked = overlap.argmax(axis=1)
            hits = np.flatnonzero(overlap.max(axis=1) >= _MATCH_IOU)  # the highest score first
            correct[here.start + hits[np.unique(picked[hits], return_index=True)[1]]] = True
    return correct


def _curves(score: np.ndarray, correct: np.ndarray, instances: int) -> tuple[np.ndarray, ...]:
    """Precision and recall of one class at each of _CONFIDENCES; 0 where nothing was found."""
    if not len(score):
        return np.zeros_like(_CONFIDENCES), np.zeros_like(_CONFIDENCES)
    order = np.argsort(-score, kind="stable")
    falling, right = -score[order], np.cumsum(correct[order])
    precision = right / np.arange(1, len(right) + 1)
    return (
        np.interp(-_CONFIDENCES, falling, precision, left=1),
        np.interp(-_CONFIDENCES, falling, right / instances, left=0),
    )


def _smooth(curve: np.ndarray) -> np.ndarray:
    """The mean over a window around each point, the ends' values going on outside."""
    half = round(len(curve) * _SMOOTHED) // 2
    padded = np.pad(curve, half, mode="edge")
    return np.convolve(padded, np.ones(2 * half + 1) / (2 * half + 1), mode="valid")


def _average_precision(labels: _Objects, found: _Objects, class_id: int) -> tuple[float, float]:
    """(mAP50, mAP50-95) of one class, by pycocotools. It takes about a kilobyte for each detection,
    so it gets one class and some pictures at a time, and of what it makes only what counts stays.
    """
    labels = labels.where(labels.class_id == class_id)
    found = found.where(found.class_id == class_id)
    pictures = np.union1d(labels.picture, found.picture)
    matched: list[dict[str, Any]] = []
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it takes
        for some in np.split(pictures, range(_AT_ONCE, len(pictures), _AT_ONCE)):
            part = (x.where(np.isin(x.picture, some)) for x in (labels, found))
            evaluation = _evaluation(some.tolist(), *part)
            evaluation.evaluate()
            matched += map(_needed, evaluation.evalImgs)
        whole = _evaluation(list(range(len(matched))))
        whole.evalImgs, whole._paramsEval = matched, whole.params
        whole.accumulate()
    precision = whole.eval["precision"]  # (IoU, recall, class, area, maxDets)
    return float(precision[0].mean()), float(precision.mean())


def _needed(matched: dict[str, Any]) -> dict[str, Any]:
    """What accumulate reads of a picture's evaluation."""
    return {
        "dtScores": np.array(matched["dtScores"]),
        "dtMatches": matched["dtMatches"] > 0,
        "dtIgnore": matched["dtIgnore"],
        "gtIgnore": matched["gtIgnore"],
    }


def _evaluation(
    pictures: list[int], labels: _Objects | None = None, found: _Objects | None = None
) -> Any:
    """A COCOeval of one class, number 1, and boxes of any size."""
    from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(iouType="bbox")
    if labels and found:
        truth, results = _entries(labels), _entries(found)
        for entry, crowd in zip(truth, labels.extra.tolist(), strict=True):
            entry["iscrowd"] = int(crowd)
        for entry, score in zip(results, found.extra.tolist(), strict=True):
            entry["score"] = score
        evaluation.cocoGt, evaluation.cocoDt = _coco(pictures, truth), _coco(pictures, results)
    evaluation.params.imgIds, evaluation.params.catIds = pictures, [1]
    evaluation.params.maxDets = [MOST_DETECTIONS]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    return evaluation


def _entries(objects: _Objects) -> list[dict[str, Any]]:
    xywh = np.hstack([objects.xyxy[:, :2], objects.xyxy[:, 2:] - objects.xyxy[:, :2]])
    return [
        {"id": i, "image_id": picture, "category_id": 1, "bbox": box, "area": box[2] * box[3]}
        # from 1: for it a match with id 0 is none
        for i, (picture, box) in enumerate(
            zip(objects.picture.tolist(), xywh.tolist(), strict=True), 1
        )
    ]


def _coco(pictures: list[int], annotations: list[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": picture} for picture in pictures],
        "categories": [{"id": 1}],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
