from itertools import pairwise

import numpy as np
import pytest

from runtime.detections import Detections
from runtime.draw import class_colour, draw

STRANGE_NAMES = ("дорожный знак", "[red]stop[/red]", "", "a\nb\tc", "x" * 300, "猫", "%s {0}")


def detections(*boxes, class_id=None):
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, n, dtype=np.float32),
        np.array(range(n) if class_id is None else class_id, np.int32),
    )


def test_draws_on_a_copy():
    bgr = np.zeros((100, 120, 3), np.uint8)
    canvas = draw(bgr, detections([20, 40, 90, 80]), ["a"])
    assert not bgr.any()
    assert canvas.shape == bgr.shape
    assert canvas.dtype == np.uint8
    np.testing.assert_allclose(canvas[60, 20], class_colour(0), atol=30)  # its edge is smoothed
    assert tuple(canvas[60, 50]) == (0, 0, 0)


def test_nothing_found_is_the_same_picture():
    bgr = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    np.testing.assert_array_equal(draw(bgr, Detections.empty(), []), bgr)


def test_the_highest_score_is_on_top():
    canvas = draw(
        np.zeros((100, 120, 3), np.uint8), detections(*[[20, 40, 90, 80]] * 2), ["a", "b"]
    )
    np.testing.assert_allclose(canvas[60, 20], class_colour(0), atol=30)  # its edge is smoothed


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (30, 30), (1080, 1920)])
@pytest.mark.parametrize("place", ["all", "corner", "point"])
def test_any_picture_and_any_box(size, place):
    h, w = size
    boxes = {"all": [0, 0, w, h], "corner": [w - 1, h - 1, w, h], "point": [0, 0, 0, 0]}
    canvas = draw(np.zeros((h, w, 3), np.uint8), detections(boxes[place]), ["a class"])
    assert canvas.shape == (h, w, 3)


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_any_name(name):
    canvas = draw(np.zeros((50, 80, 3), np.uint8), detections([5, 20, 60, 45]), [name])
    assert canvas.any()


def test_classes_have_colours_of_their_own():
    colours = [class_colour(i) for i in range(80)]
    assert len(set(colours)) == 80
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    apart = [np.abs(np.subtract(a, b)).max() for a, b in pairwise(colours)]
    assert min(apart) > 60
