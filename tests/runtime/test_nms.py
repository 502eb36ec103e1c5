import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_decode import suppress

from runtime.nms import nms

NO_LIMIT = 10**6
corners = st.tuples(*[st.integers(0, 8)] * 4)
ious = st.sampled_from([0.0, 0.25, 0.45, 0.5, 0.75, 1.0])


def boxes(corners):
    """float32 (n, 4) of any two corners each, whole numbers, so that overlaps are exact."""
    pairs = np.array(corners, np.float32).reshape(-1, 2, 2)
    return np.concatenate((pairs.min(axis=1), pairs.max(axis=1)), axis=1)


def crowd(n, size, rng):
    """n boxes around some places, with scores of which many are equal."""
    centre = rng.integers(0, size, (max(1, n // 12), 2))[rng.integers(0, max(1, n // 12), n)]
    top_left = centre + rng.integers(-4, 5, (n, 2))
    xyxy = np.concatenate((top_left, top_left + rng.integers(0, 40, (n, 2))), axis=1)
    return xyxy.astype(np.float32), np.float32(rng.integers(1, 100, n) / 100)


def assert_same(xyxy, score, class_id, iou, limit):
    kept = nms(xyxy, score, class_id, iou, limit)
    assert kept.tolist() == suppress(xyxy, score, class_id, iou, limit)
    return len(kept)


@settings(deadline=None)
@given(
    st.lists(st.tuples(corners, st.integers(1, 4), st.integers(0, 2)), max_size=40),
    ious,
    st.sampled_from([1, 2, 5, NO_LIMIT]),
)
def test_equals_the_slow_suppression(found, iou, limit):
    xyxy = boxes([f[0] for f in found])
    score = np.array([f[1] / 4 for f in found], np.float32)
    assert_same(xyxy, score, np.array([f[2] for f in found], int), iou, limit)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(90, 500),
    st.integers(0, 2**32),
    st.integers(1, 4),
    ious,
    st.sampled_from([1, 10, 95, 96, 97, 200, NO_LIMIT]),
)
def test_crowds(n, seed, classes, iou, limit):
    rng = np.random.default_rng(seed)
    xyxy, score = crowd(n, 200, rng)
    assert_same(xyxy, score, rng.integers(0, classes, n), iou, limit)


@pytest.mark.parametrize("n", [0, 1, 2, 95, 96, 97, 192, 193])
@pytest.mark.parametrize("apart", [True, False])
def test_both_ways_of_working_meet(n, apart):
    x = np.arange(n, dtype=np.float32) * (50 if apart else 0)
    xyxy = np.stack((x, x, x + 10, x + 10), axis=1)
    score = np.linspace(0.9, 0.1, n, dtype=np.float32)
    assert assert_same(xyxy, score, np.zeros(n, int), 0.5, NO_LIMIT) == (n if apart else min(n, 1))


def test_many_boxes():
    rng = np.random.default_rng(0)
    xyxy, score = crowd(5000, 2000, rng)
    class_id = rng.integers(0, 10, 5000)
    kept = nms(xyxy, score, class_id, 0.45, NO_LIMIT).tolist()
    assert kept == suppress(xyxy, score, class_id, 0.45, NO_LIMIT)
    assert len(kept) > 1000
    assert nms(xyxy, score, class_id, 0.45, 300).tolist() == kept[:300]


A, B = [0, 0, 10, 10], [0, 0, 10, 5]  # B is half of A


@pytest.mark.parametrize(
    ("xyxy", "score", "class_id", "iou", "kept"),
    [
        pytest.param([], [], [], 0.5, [], id="none"),
        pytest.param([A], [0.3], [0], 0.5, [0], id="one"),
        pytest.param([A, B], [0.9, 0.8], [0, 0], 0.49, [0], id="above-the-threshold"),
        pytest.param([A, B], [0.9, 0.8], [0, 0], 0.5, [0, 1], id="on-the-threshold"),
        pytest.param([A, B], [0.9, 0.8], [0, 0], 0.51, [0, 1], id="below-the-threshold"),
        pytest.param([A, B], [0.8, 0.9], [0, 0], 0.4, [1], id="the-higher-score-stays"),
        pytest.param([A, A], [0.9, 0.9], [0, 0], 0.5, [0], id="a-tie-by-position"),
        pytest.param([A, A], [0.9, 0.9], [0, 1], 0.5, [0, 1], id="other-classes"),
        pytest.param([A, A], [0.9, 0.9], [0, 0], 1.0, [0, 1], id="nothing-goes-at-1"),
        pytest.param([A, [9, 9, 20, 20]], [0.9, 0.8], [0, 0], 0.0, [0], id="any-overlap-at-0"),
        pytest.param([A, [10, 0, 20, 10]], [0.9, 0.8], [0, 0], 0.0, [0, 1], id="touching-at-0"),
        pytest.param([[5, 5, 5, 5]] * 2, [0.9, 0.8], [0, 0], 0.0, [0, 1], id="two-points"),
        pytest.param([A, [2, 2, 2, 8]], [0.9, 0.8], [0, 0], 0.0, [0, 1], id="a-line-in-a-box"),
        pytest.param(
            [A, [0, 0, 10, 7], B],
            [0.9, 0.8, 0.7],
            [0, 0, 0],
            0.6,
            [0, 2],
            id="what-went-removes-nothing",
        ),
    ],
)
def test_cases(xyxy, score, class_id, iou, kept):
    xyxy = np.array(xyxy, np.float32).reshape(-1, 4)
    found = nms(xyxy, np.float32(score), np.array(class_id, int), iou, 300)
    assert found.tolist() == kept


def test_does_not_touch_its_arguments():
    rng = np.random.default_rng(0)
    for n in (50, 200):
        xyxy, score = crowd(n, 100, rng)
        class_id = rng.integers(0, 2, n)
        copies = xyxy.copy(), score.copy(), class_id.copy()
        nms(xyxy, score, class_id, 0.45, 300)
        for now, before in zip((xyxy, score, class_id), copies, strict=True):
            np.testing.assert_array_equal(now, before)
