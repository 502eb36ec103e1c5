"""From a picture to what a model takes."""

import numpy as np
import pytest
from pydantic import ValidationError
from scenes import facts_of

from anchors import Anchors
from runtime.detector import Detector
from runtime.feed import Feed, fold, unfold
from runtime.letterbox import letterbox
from runtime.manifest import CUSTOM_STRING_LIMIT, Facts, InputFacts, Thresholds

RNG = np.random.default_rng(0)


def test_channels_stand_by_row_then_column_then_colour():
    """Written out, pixel by pixel."""
    picture = RNG.integers(0, 256, (6, 4, 3), np.uint8)
    folded = fold(picture, np.zeros((3, 2, 12), np.uint8))
    for row, column, y, x, colour in np.ndindex(2, 2, 3, 2, 3):
        expected = picture[2 * y + row, 2 * x + column, colour]
        assert folded[y, x, (row * 2 + column) * 3 + colour] == expected


@pytest.mark.parametrize("shape", [(2, 2, 3), (2, 8, 1), (64, 32, 3), (640, 640, 3)])
def test_unfolding_gives_the_picture_back(shape):
    picture = RNG.integers(0, 256, shape, np.uint8)
    before = picture.copy()
    out = np.empty((shape[0] // 2, shape[1] // 2, 4 * shape[2]), np.uint8)
    assert fold(picture, out) is out
    np.testing.assert_array_equal(unfold(out), picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("stem", ["none", "space-to-depth"])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_buffer_is_filled_again(stem, channels):
    facts = InputFacts(width=64, height=96, channels=channels, stem=stem)
    feed = Feed(facts)
    for wh in ((30, 200), (200, 30), (64, 96)):
        bgr = RNG.integers(0, 256, (wh[1], wh[0], 3), np.uint8)
        picture, frame = feed(bgr)
        assert picture.shape == facts.shape and picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        assert frame.source_wh == wh
        seen = picture[0] if stem == "none" else unfold(picture[0])
        np.testing.assert_array_equal(seen, letterbox(bgr, (64, 96), channels))


def test_the_detector_feeds_folded_pictures():
    facts = folded_facts()

    class Kept:
        def infer(self, picture):
            self.shape = picture.shape
            return []

    backend = Kept()
    detector = Detector(backend, facts, Thresholds())
    with pytest.raises(ValueError):  # of the tensors that are missing
        detector(np.zeros((10, 10, 3), np.uint8))
    assert backend.shape == (1, 48, 64, 12)


def folded_facts() -> Facts:
    plain = facts_of(Anchors.from_pairs([32], [[[40, 20]]]), (128, 96), 2).model_dump()
    plain["input"]["stem"] = "space-to-depth"
    return Facts(**plain)


def test_the_custom_string_knows_the_stem():
    facts = folded_facts()
    text = facts.to_custom_string()
    assert len(text) < CUSTOM_STRING_LIMIT and '"stem":"space-to-depth"' in text
    assert Facts.from_json(text, "x.rknn") == facts
    assert not facts.agrees_with(text.replace("space-to-depth", "none"), "x.rknn")


def test_odd_sizes_cannot_be_folded():
    with pytest.raises(ValidationError, match="97x96 cannot be folded by twos"):
        InputFacts(width=97, height=96, stem="space-to-depth")
    assert InputFacts(width=97, height=96).shape == (1, 96, 97, 3)
