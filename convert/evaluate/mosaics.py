"""Labels and predictions drawn, sixteen pictures a file, as YOLOv5's val draws them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from convert.evaluate.dataset import Dataset
from convert.evaluate.run import Predictions
from runtime.detections import Detections
from runtime.draw import class_colour
from runtime.files import whole_file
from runtime.pictures import read_picture

_MOSAICS = 3
_COLUMNS = 4
_PER_MOSAIC = _COLUMNS**2
_CELL = 480
_LEAST_SCORE = 0.25
_WHITE = 255, 255, 255


def write_mosaics(
    folder: Path, dataset: Dataset, predictions: Mapping[str, Predictions], names: Sequence[str]
) -> list[Path]:
    """Write val_batch*_labels.jpg and val_batch*_pred.jpg of the first pictures that could be read;
    predictions are by what to call them, and where there are several that is in the file's name.
    Raises UserError where the folder cannot be written to."""
    first = next(iter(predictions.values()))
    readable = np.flatnonzero(first.readable)[: _MOSAICS * _PER_MOSAIC].tolist()
    last = max(readable)
    found = {key: _first_of(made, last) for key, made in predictions.items()}
    written = []
    for batch, start in enumerate(range(0, len(readable), _PER_MOSAIC)):
        which = readable[start : start + _PER_MOSAIC]
        cells = [(i, *_cell(dataset.files[i])) for i in which]
        told = {"labels": [_label_boxes(dataset, i, first.wh[i]) for i in which]}
        for key, detections in found.items():
            ending = "pred" if len(found) == 1 else f"pred_{key}"
            told[ending] = [_found_boxes(detections[i]) for i in which]
        for ending, boxes in told.items():
            target = folder / f"val_batch{batch}_{ending}.jpg"
            _write(target, _mosaic(dataset, cells, boxes, names))
            written.append(target)
    return written


_Boxes = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Corners (n, 4) in pixels of the picture, classes (n,), and scores (n,) but for labels."""


def _first_of(predictions: Predictions, last: int) -> list[Detections]:
    return [found for _, found in zip(range(last + 1), predictions, strict=False)]


def _label_boxes(dataset: Dataset, index: int, wh: np.ndarray) -> _Boxes:
    labels = dataset.labels[index]
    return labels.pixels(tuple(wh.tolist())), labels.class_id, None


def _found_boxes(found: Detections) -> _Boxes:
    keep = found.score > _LEAST_SCORE
    return found.xyxy[keep], found.class_id[keep], found.score[keep]


def _cell(file: Path) -> tuple[np.ndarray, float]:
    """A picture made to fit, and by how much."""
    bgr = read_picture(file)
    if bgr is None:  # it is gone since
        bgr = np.zeros((_CELL, _CELL, 3), np.uint8)
    scale = _CELL / max(bgr.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in bgr.shape[1::-1])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(bgr, size, interpolation=interpolation), scale


def _mosaic(
    dataset: Dataset,
    cells: Sequence[tuple[int, np.ndarray, float]],
    boxes: Sequence[_Boxes],
    names: Sequence[str],
) -> np.ndarray:
    rows = -(-len(cells) // _COLUMNS)
    canvas = np.full((rows * _CELL, min(len(cells), _COLUMNS) * _CELL, 3), 255, np.uint8)
    for place, ((index, picture, scale), told) in enumerate(zip(cells, boxes, strict=True)):
        drawn = picture.copy()
        for box in _texts(told, names):
            _draw(drawn, *box, scale)
        _put(drawn, dataset.files[index].name[:40], (4, 14))
        y, x = (_CELL * part for part in divmod(place, _COLUMNS))
        canvas[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn
        cv2.rectangle(canvas, (x, y), (x + _CELL, y + _CELL), _WHITE, 2)
    return canvas


def _texts(boxes: _Boxes, names: Sequence[str]) -> Iterator[tuple[np.ndarray, int, str]]:
    xyxy, class_id, score = boxes
    for i in reversed(range(len(class_id))):  # the highest score last, on top
        text = names[int(class_id[i])]
        yield xyxy[i], int(class_id[i]), text if score is None else f"{text} {score[i]:.1f}"


def _draw(canvas: np.ndarray, xyxy: np.ndarray, class_id: int, text: str, scale: float) -> None:
    limit = 2.0 * _CELL  # labels can lie far outside, where OpenCV takes no numbers
    x1, y1, x2, y2 = (xyxy * scale).clip(-limit, limit).round().astype(int).tolist()
    colour = class_colour(class_id)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
    _put(canvas, text, (max(0, x1), max(10, y1 - 3)))


def _put(canvas: np.ndarray, text: str, corner: tuple[int, int]) -> None:
    """White text with a dark edge, to be read on any ground."""
    text = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no other letters
    for shade, width in (((0, 0, 0), 3), (_WHITE, 1)):
        cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.38, shade, width, cv2.LINE_AA)


def _write(target: Path, canvas: np.ndarray) -> None:
    with whole_file(target) as partial:
        partial.write_bytes(cv2.imencode(".jpg", canvas)[1].tobytes())
