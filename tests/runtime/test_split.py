"""Heads of three outputs decode as whole ones do, and facts know them."""

import numpy as np
import pytest
from scenes import facts_of, scene, split

from anchors import Anchors
from runtime.decode import Decoder, Tensor
from runtime.manifest import CUSTOM_STRING_LIMIT, Facts, Thresholds

ANCHORS = Anchors.from_pairs([8, 16], [[(10, 13), (30, 20)], [(60, 50), (90, 120)]])


def same(a, b):
    for one, other in zip(
        (a.xyxy, a.score, a.class_id), (b.xyxy, b.score, b.class_id), strict=True
    ):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("classes", [1, 3, 80])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("objects", "activation"), [(0, "none"), (4, "none"), (60, "sigmoid")])
def test_the_same_candidates_to_the_bit(classes, multi_label, objects, activation):
    facts = facts_of(ANCHORS, (128, 96), classes, activation)
    tensors = scene(facts, objects, 4 * objects, np.random.default_rng(0))
    if activation == "sigmoid":
        tensors = [Tensor(1 / (1 + np.exp(-tensor.array))) for tensor in tensors]
    thresholds = Thresholds(multi_label=multi_label)
    expected = Decoder(facts, thresholds)(tensors)
    split_facts, parts = split(facts, tensors)
    found = Decoder(split_facts, thresholds)(parts)
    assert (len(expected.score) > 0) == (objects > 0)
    same(found, expected)


def test_every_part_has_a_scale_of_its_own():
    """int8 parts give what the numbers they stand for give."""
    facts = facts_of(ANCHORS, (128, 96), 3)
    split_facts, parts = split(facts, scene(facts, 6, 24, np.random.default_rng(1)))
    scales = [(0.05, 3), (0.09, -20), (0.07, 0)] * 2
    quantized, real = [], []
    for part, (scale, zero) in zip(parts, scales, strict=True):
        array = np.clip(np.round(part.array / scale) + zero, -128, 127).astype(np.int8)
        quantized.append(Tensor(array, scale, zero))
        real.append(Tensor((array - np.float32(zero)) * np.float32(scale)))
    decoder = Decoder(split_facts, Thresholds())
    found, expected = decoder(quantized), decoder(real)
    assert len(expected.score) > 5
    same(found, expected)


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: [*t, t[0]], lambda t: t[::-1]])
def test_other_tensors_are_refused(change):
    facts = facts_of(ANCHORS, (128, 96), 3)
    split_facts, parts = split(facts, scene(facts, 1, 4, np.random.default_rng(1)))
    with pytest.raises(ValueError):
        Decoder(split_facts, Thresholds())(change(parts))


def test_names_and_shapes():
    facts = facts_of(ANCHORS, (128, 96), 3).model_copy(update={"outputs": "split"})
    assert facts.tensors == [
        ("head0_box", (1, 8, 12, 16)),
        ("head0_objectness", (1, 2, 12, 16)),
        ("head0_class", (1, 6, 12, 16)),
        ("head1_box", (1, 8, 6, 8)),
        ("head1_objectness", (1, 2, 6, 8)),
        ("head1_class", (1, 6, 6, 8)),
    ]
    assert facts.head_shape(0) == (1, 16, 12, 16)


def test_the_custom_string_says_split_and_else_what_it_always_said():
    whole = facts_of(ANCHORS, (128, 96), 3)
    parts = whole.model_copy(update={"outputs": "split"})
    old, new = whole.to_custom_string(), parts.to_custom_string()
    assert '"outputs"' not in old and '"outputs":"split"' in new
    assert len(new) - len(old) == len(',"outputs":"split"') and len(new) < CUSTOM_STRING_LIMIT
    assert Facts.from_json(old, "x") == whole and Facts.from_json(new, "x") == parts
    assert whole.agrees_with(old, "x") and parts.agrees_with(new, "x")
    assert not whole.agrees_with(new, "x") and not parts.agrees_with(old, "x")
