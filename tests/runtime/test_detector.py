import numpy as np
import pytest
from scenes import facts_of

from anchors import Anchors
from runtime.decode import Candidates, Tensor
from runtime.detector import Detector, select
from runtime.letterbox import Letterbox, letterbox
from runtime.manifest import Thresholds

ANCHORS = Anchors.from_pairs([32], [[[40, 20]]])


class KnownMaps:
    """A backend that gives the maps it was made with, and keeps the pictures it was given."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.pictures = []

    def infer(self, picture):
        self.pictures.append(picture.copy())
        return self.tensors

    def close(self):
        pass


def map_with(facts, *places):
    """A sigmoid map with an object of the anchor's size centred in each (row, column) cell; scores
    of objectness and of each class."""
    array = np.zeros(facts.head_shape(0), np.float32)
    for row, column, objectness, *classes in places:
        array[0, :, row, column] = [0.5, 0.5, 0.5, 0.5, objectness, *classes]
    return [Tensor(array)]


@pytest.fixture
def facts():
    return facts_of(ANCHORS, (128, 96), 2, "sigmoid")


def test_boxes_are_in_source_pixels(facts):
    backend = KnownMaps(map_with(facts, (1, 2, 0.9, 0.1, 1)))
    found = Detector(backend, facts, Thresholds())(np.zeros((300, 512, 3), np.uint8))
    # a quarter of the size, between borders of 10.5: the cell's centre (80, 48) is (320, 150)
    np.testing.assert_allclose(found.xyxy, [[240, 110, 400, 190]])
    np.testing.assert_allclose(found.score, [0.9])
    assert found.class_id.tolist() == [1]
    assert (found.xyxy.dtype, found.score.dtype) == (np.float32, np.float32)
    assert found.class_id.dtype == np.int32


@pytest.mark.parametrize("channels", [1, 3])
def test_the_backend_gets_the_letterboxed_picture(channels):
    facts = facts_of(ANCHORS, (128, 96), 2, "sigmoid", channels)
    backend = KnownMaps(map_with(facts))
    detector = Detector(backend, facts, Thresholds())
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((50, 200), (200, 50))]
    for picture in pictures:
        assert len(detector(picture)) == 0
    for given, picture in zip(backend.pictures, pictures, strict=True):
        assert given.shape == (1, 96, 128, channels)
        np.testing.assert_array_equal(given[0], letterbox(picture, (128, 96), channels))


def test_the_highest_score_comes_first_and_rivals_go(facts):
    tensors = map_with(facts, (0, 0, 0.6, 1, 0), (1, 1, 0.9, 1, 0), (2, 3, 0.8, 0.2, 0.5))
    tensors[0].array[0, 4, 1, 2] = 0.7  # a rival of the second, shifted onto it
    tensors[0].array[0, :4, 1, 2], tensors[0].array[0, 5, 1, 2] = [0, 0.5, 0.5, 0.5], 1
    found = Detector(KnownMaps(tensors), facts, Thresholds(iou=0.3))(
        np.zeros((96, 128, 3), np.uint8)
    )
    np.testing.assert_allclose(found.score, [0.9, 0.6, 0.4])
    assert found.class_id.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("multi_label", "classes"), [(False, [1]), (True, [1, 0])])
def test_best_class_or_every_class(facts, multi_label, classes):
    backend = KnownMaps(map_with(facts, (0, 0, 0.9, 0.5, 0.8)))
    detector = Detector(backend, facts, Thresholds(multi_label=multi_label))
    assert detector(np.zeros((96, 128, 3), np.uint8)).class_id.tolist() == classes


def test_at_most_so_many(facts):
    places = [(row, column, 0.9, 1, 0) for row in range(3) for column in range(4)]
    backend = KnownMaps(map_with(facts, *places))
    detector = Detector(backend, facts, Thresholds(max_detections=5))
    assert len(detector(np.zeros((96, 128, 3), np.uint8))) == 5


@pytest.mark.parametrize(
    ("crowd", "classes"),
    [
        pytest.param(29_999, [0, 1], id="the-last-one-is-seen"),
        pytest.param(30_000, [0], id="one-more-than-is-looked-at"),
    ],
)
def test_of_very_many_candidates_the_best_are_looked_at(crowd, classes):
    n = crowd + 1
    found = Candidates(
        xyxy=np.tile(np.float32([10, 10, 20, 20]), (n, 1)),
        score=np.full(n, 0.9, np.float32),
        class_id=np.zeros(n, np.int64),
    )
    found.score[0], found.class_id[0] = 0.5, 1  # the lowest score stands first
    kept = select(found, Thresholds(), Letterbox((64, 64), (64, 64)))
    assert kept.class_id.tolist() == classes
