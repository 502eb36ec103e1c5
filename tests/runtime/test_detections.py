import numpy as np
import pytest

from runtime.detections import Detections


def test_empty_is_a_value():
    empty = Detections.empty()
    assert len(empty) == 0
    assert (empty.xyxy.shape, empty.score.shape, empty.class_id.shape) == ((0, 4), (0,), (0,))
    assert (empty.xyxy.dtype, empty.score.dtype) == (np.float32, np.float32)
    assert empty.class_id.dtype == np.int32


def test_length_is_the_number_of_boxes():
    assert len(Detections(np.zeros((3, 4)), np.zeros(3), np.zeros(3, int))) == 3


@pytest.mark.parametrize(
    ("xyxy", "score", "class_id"),
    [
        pytest.param((2, 4), (3,), (3,), id="too-few-boxes"),
        pytest.param((3, 4), (3,), (2,), id="too-few-classes"),
        pytest.param((3, 4), (2,), (3,), id="too-few-scores"),
        pytest.param((3, 5), (3,), (3,), id="a-fifth-number"),
        pytest.param((12,), (3,), (3,), id="flat-boxes"),
        pytest.param((3, 4), (3, 1), (3,), id="a-column-of-scores"),
        pytest.param((0,), (0,), (0,), id="empty-but-flat"),
    ],
)
def test_arrays_have_to_agree(xyxy, score, class_id):
    with pytest.raises(ValueError, match="detections disagree in shape"):
        Detections(np.zeros(xyxy), np.zeros(score), np.zeros(class_id, int))
