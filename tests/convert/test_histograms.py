"""Histograms that grow with what they are given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import facts_of, split

from anchors import Anchors
from convert.histograms import BINS, GROUPS, HeadHistograms, Histogram, tensor_of


def filled(*parts) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=20), max_size=4))
def test_every_value_is_in_its_bin_however_far_it_had_to_grow(parts):
    histogram = filled(*parts)
    values = np.array([v for part in parts for v in part])
    assert histogram.counts.sum() == len(values)
    edges = histogram.edges()
    assert edges[0] == -histogram.bound and len(edges) == BINS + 1
    expected, _ = np.histogram(values, edges)
    assert np.array_equal(histogram.counts, expected)
    if len(values):
        assert (histogram.least, histogram.greatest) == (values.min(), values.max())


def test_what_is_not_finite_is_left_out():
    histogram = filled([np.nan, np.inf, -np.inf, 0.5], [], [np.nan])
    assert histogram.counts.sum() == 1 and histogram.bound == 1
    assert (histogram.least, histogram.greatest) == (0.5, 0.5)


def test_the_largest_float32_fits():
    histogram = filled([np.finfo(np.float32).max])
    assert histogram.counts.sum() == 1 and np.isfinite(histogram.edges()).all()


@pytest.mark.parametrize(
    ("low", "high", "share", "reason"),
    [
        (0, 1, 0, "all of them inside"),
        (0, 0.5, 0.25, "one of four above"),
        (0.2, 0.5, 0.5, "one below too"),
        (2, 3, 1, "none inside"),
    ],
)
def test_the_share_beyond_a_range(low, high, share, reason):
    assert filled([0.1, 0.3, 0.4, 0.9]).beyond(low, high) == share, reason


def test_nothing_is_beyond_where_there_is_nothing():
    assert Histogram().beyond(0, 1) == 0


def facts(outputs="one"):
    anchors = Anchors.from_pairs([8, 16], [[(10, 12), (9, 9)], [(30, 30)]])
    made = facts_of(anchors, (32, 32), classes=3)
    return split(made, [])[0] if outputs == "split" else made


def test_groups_of_heads_are_kept_apart():
    made = HeadHistograms(facts())
    reference = [np.zeros(facts().head_shape(i), np.float32) for i in range(2)]
    built = [array.copy() for array in reference]
    reference[0].reshape(2, 8, 4, 4)[:, 4] = 0.75
    built[1].reshape(1, 8, 2, 2)[:, 2:4] = -3
    made.add(reference, built)
    found = {
        (i, group): tuple((h.least, h.greatest, int(h.counts.sum())) for h in pair)
        for i, pairs in enumerate(made.pairs)
        for group, pair in pairs.items()
    }
    assert found[0, "objectness"] == ((0.75, 0.75, 32), (0, 0, 32))
    assert found[1, "box wh"] == ((0, 0, 8), (-3, -3, 8))
    assert found[0, "classes"] == ((0, 0, 96), (0, 0, 96))
    assert sum(pair[0][2] for pair in found.values()) == sum(a.size for a in reference)


def test_the_tensor_of_a_group():
    assert {tensor_of(facts(), 1, group) for group in GROUPS} == {"head1"}
    assert [tensor_of(facts("split"), 1, group) for group in GROUPS] == [
        "head1_box", "head1_box", "head1_objectness", "head1_class",
    ]  # fmt: skip
