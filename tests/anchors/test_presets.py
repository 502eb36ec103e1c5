import numpy as np
import pytest

from anchors import PRESETS, Anchors, preset_of

P5 = {
    8: [10, 13, 16, 30, 33, 23],
    16: [30, 61, 62, 45, 59, 119],
    32: [116, 90, 156, 198, 373, 326],
}
P6 = {
    8: [19, 27, 44, 40, 38, 94],
    16: [96, 68, 86, 152, 180, 137],
    32: [140, 301, 303, 264, 238, 542],
    64: [436, 615, 739, 380, 925, 792],
}


def scaled(anchors, factor):
    return Anchors.from_pairs(anchors.strides, [head.wh_px * factor for head in anchors.heads])


@pytest.mark.parametrize(("name", "numbers"), [("coco-p5", P5), ("coco-p6", P6)])
def test_presets_are_the_published_numbers(name, numbers):
    preset = PRESETS[name]
    assert {head.stride: head.wh_px.ravel().tolist() for head in preset.heads} == numbers


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    ("factor", "known"),
    [
        pytest.param(1, True, id="exact"),
        pytest.param(1 + 0.9e-3, True, id="above-and-inside"),
        pytest.param(1 - 0.9e-3, True, id="below-and-inside"),
        pytest.param(1 + 1.1e-3, False, id="above-and-outside"),
        pytest.param(1 - 1.1e-3, False, id="below-and-outside"),
        pytest.param(2, False, id="of-another-input-size"),
    ],
)
def test_preset_of(name, factor, known):
    assert preset_of(scaled(PRESETS[name], factor)) == (name if known else None)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_known_after_half_precision(name):
    halves = [np.float16(head.wh_px / head.stride) for head in PRESETS[name].heads]
    strides = PRESETS[name].strides
    pairs = [half.astype(np.float32) * s for half, s in zip(halves, strides, strict=True)]
    assert preset_of(Anchors.from_pairs(strides, pairs)) == name


def test_one_other_anchor_is_no_preset():
    pairs = [head.wh_px.copy() for head in PRESETS["coco-p5"].heads]
    pairs[2][1, 0] += 1
    assert preset_of(Anchors.from_pairs((8, 16, 32), pairs)) is None


def test_part_of_a_preset_is_none():
    heads = PRESETS["coco-p5"].heads[:2]
    assert preset_of(Anchors(heads)) is None
