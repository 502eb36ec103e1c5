"""Labels and predictions drawn."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from convert.evaluate.dataset import Dataset
from convert.evaluate.labels import Labels
from convert.evaluate.mosaics import write_mosaics
from convert.evaluate.run import Predictions
from runtime.detections import Detections
from runtime.errors import UserError

NAMES = ("circle", "größe")
CELL = 480


@pytest.fixture
def made(tmp_path):
    """A set of pictures of 96 x 48 with one object, class 1, in the right half; the second cannot
    be read. It is found once with a score of 0.5, and in the left half with 0.2."""

    def make(count: int) -> tuple[Dataset, Predictions]:
        files = tuple(tmp_path / f"{i}.png" for i in range(count))
        for file in files:
            file.write_bytes(cv2.imencode(".png", np.zeros((48, 96, 3), np.uint8))[1].tobytes())
        labels = Labels(np.ones(1, np.int32), np.array([[0.5, 0, 0.9, 0.9]]), np.zeros(1, bool))
        boxes = np.array([[48, 0, 86, 43], [4, 4, 40, 40]], np.float32)
        found = Detections(boxes, np.array([0.5, 0.2], np.float32), np.ones(2, np.int32))
        wh = [(96, 48)] * count
        each = [found] * count
        if count > 1:
            wh[1], each[1] = (0, 0), Detections.empty()
        dataset = Dataset(Path("d"), files, (labels,) * count, tuple(range(count)), (0, 1))
        return dataset, Predictions.of_pictures("opencv", wh, each, np.ones(3))

    return make


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize(
    ("count", "shapes", "reason"),
    [
        (1, [(CELL, CELL)], "one picture"),
        (4, [(CELL, 3 * CELL)], "one could not be read"),
        (6, [(2 * CELL, 4 * CELL)], "a second row"),
        (18, [(4 * CELL, 4 * CELL), (CELL, CELL)], "a second file"),
        (99, [(4 * CELL, 4 * CELL)] * 3, "no more than three"),
    ],
)
def test_sixteen_pictures_a_file(made, tmp_path, count, shapes, reason):
    dataset, predictions = made(count)
    written = write_mosaics(tmp_path / "out", dataset, {"opencv": predictions}, NAMES)
    expected = [f"val_batch{i}_{e}.jpg" for i in range(len(shapes)) for e in ("labels", "pred")]
    assert names(written) == expected, reason
    assert [cv2.imread(str(path)).shape[:2] for path in written[::2]] == shapes
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(expected)


def test_several_backends_have_a_file_each(made, tmp_path):
    dataset, predictions = made(1)
    both = {"opencv": predictions, "simulator": predictions}
    assert names(write_mosaics(tmp_path / "out", dataset, both, NAMES)) == [
        "val_batch0_labels.jpg",
        "val_batch0_pred_opencv.jpg",
        "val_batch0_pred_simulator.jpg",
    ]


def lit(canvas: np.ndarray, x: slice) -> int:
    """Pixels that are not the picture's black, in columns below the text."""
    return int((canvas[60:200, x].max(axis=2) > 60).sum())


def test_boxes_lie_where_they_should(made, tmp_path):
    dataset, predictions = made(1)
    written = write_mosaics(tmp_path / "out", dataset, {"opencv": predictions}, NAMES)
    for canvas in (cv2.imread(str(path)) for path in written):
        assert lit(canvas, slice(235, 246)) > 100  # the left edge of the box, at 240
        assert lit(canvas, slice(4, 230)) == 0  # too low a score to be drawn
        assert (canvas[CELL // 2 + 4 :, 4:-4] > 200).all()  # below the picture


def test_a_picture_that_is_gone_since(made, tmp_path):
    dataset, predictions = made(1)
    dataset.files[0].unlink()
    assert len(write_mosaics(tmp_path / "out", dataset, {"opencv": predictions}, NAMES)) == 2


def test_a_folder_that_cannot_be_written_to(made, tmp_path):
    dataset, predictions = made(1)
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match=r"cannot write .*val_batch0_labels\.jpg"):
        write_mosaics(tmp_path / "out", dataset, {"opencv": predictions}, NAMES)
