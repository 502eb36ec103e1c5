"""Predictions: kept whole, made anywhere, joined."""

import pickle
import struct
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest

from convert.evaluate.run import Predictions, evaluation_thresholds, predict
from runtime.backends import open_backend
from runtime.detections import Detections
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.model import open_model
from runtime.pictures import read_picture

THRESHOLDS = evaluation_thresholds()


@pytest.fixture(scope="module")
def model():
    from conftest import DEMO

    return open_model(DEMO / "shapes.pt", (160, 128))


@pytest.fixture
def files(data, tmp_path):
    images = data / "demo" / "val" / "images"
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not much")
    return [images / "000.jpg", broken, images / "001.jpg", images / "002.jpg"]


def same(a: Predictions, b: Predictions) -> bool:
    names = ("wh", "counts", "xyxy", "score", "class_id")
    return a.backend == b.backend and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in names
    )


def test_thresholds_are_those_of_yolov5s_val():
    t = THRESHOLDS
    assert (t.score, t.iou, t.max_detections, t.multi_label) == (0.001, 0.6, 300, True)


@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "opencv"])
def test_what_is_found_is_what_the_detector_finds(model, files, backend):
    made = predict(model, backend, files, THRESHOLDS)
    assert made.backend == ("onnxruntime" if backend == "auto" else backend)
    assert made.readable.tolist() == [True, False, True, True]
    assert (made.seconds > 0).all()
    detector = Detector(open_backend(backend, model), model.facts, THRESHOLDS)
    for file, wh, found in zip(files, made.wh.tolist(), made, strict=True):
        bgr = read_picture(file)
        if bgr is None:
            assert len(found) == 0 and wh == [0, 0]
            continue
        assert wh == [bgr.shape[1], bgr.shape[0]]
        expected = detector(bgr)
        assert len(found) > 20
        assert np.array_equal(found.xyxy, expected.xyxy)
        assert np.array_equal(found.score, expected.score)
        assert np.array_equal(found.class_id, expected.class_id)


def test_parts_made_by_other_processes_join_to_the_whole(model, files):
    whole = predict(model, "opencv", files, THRESHOLDS)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(predict, model, "opencv", part, THRESHOLDS)
            for part in (files[:1], files[1:2], files[2:])
        ]
        assert same(Predictions.joined([part.result(timeout=120) for part in parts]), whole)
    assert same(pickle.loads(pickle.dumps(whole)), whole)


def test_nothing_found_anywhere():
    made = Predictions.of_pictures("opencv", [(3, 2)], [Detections.empty()], np.zeros(3))
    assert [len(found) for found in made] == [0]
    assert made.xyxy.shape == (0, 4) and made.score.dtype == np.float32
    none = Predictions.of_pictures("opencv", [], [], np.zeros(3))
    assert len(none) == 0 and list(none) == []


def test_no_pictures(model):
    assert len(predict(model, "opencv", [], THRESHOLDS)) == 0


def test_a_backend_that_cannot_run_the_model(model, files):
    with pytest.raises(UserError, match="the simulator runs bundles"):
        predict(model, "simulator", files, THRESHOLDS)


def test_a_picture_turned_by_its_exif(model, data, tmp_path):
    """Labels are fractions of the picture as it is shown."""
    jpeg = cv2.imencode(".jpg", np.zeros((20, 40, 3), np.uint8))[1].tobytes()
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    segment = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    (tmp_path / "a.jpg").write_bytes(turned)
    assert predict(model, "opencv", [tmp_path / "a.jpg"], THRESHOLDS).wh.tolist() == [[20, 40]]
