"""Which detections are the same, and the numbers made of that."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import facts_of

from anchors import Anchors
from convert.compare import Comparison, iou_matrix, match
from runtime.detections import Detections
from runtime.manifest import PARTS

FACTS = facts_of(Anchors.from_pairs([8, 16], [[(10, 12)], [(30, 30)]]), (32, 32), classes=2)


def detections(*rows: tuple[float, ...]) -> Detections:
    """From rows of x1, y1, x2, y2, score, class."""
    plain = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(plain[:, :4], plain[:, 4], plain[:, 5].astype(np.int32))


A = (0, 0, 10, 10, 0.9, 0)
B = (50, 50, 80, 90, 0.8, 1)
HALF_A = (0, 0, 10, 5, 0.9, 0)  # IoU with A is exactly 0.5
UNDER_HALF_A = (0, 0, 10, 4.99, 0.9, 0)


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    """One pair of boxes, in plain arithmetic."""
    ax1, ay1, ax2, ay2 = map(float, a)
    bx1, by1, bx2, by2 = map(float, b)
    shared = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared / union if union > 0 else 0.0


def slow_match(a: Detections, b: Detections) -> list[tuple[int, int]]:
    """Take the best pair there is until none is left that will do."""
    left = {
        (i, j): slow_iou(a.xyxy[i], b.xyxy[j])
        for i in range(len(a))
        for j in range(len(b))
        if a.class_id[i] == b.class_id[j]
    }
    pairs = []
    while left and max(left.values()) >= 0.5:
        best = min(left, key=lambda pair: (-left[pair], pair))
        pairs.append(best)
        left = {p: iou for p, iou in left.items() if p[0] != best[0] and p[1] != best[1]}
    return pairs


@st.composite
def some_detections(draw):
    """Up to eight boxes on a small grid, so that ties, equal and empty boxes are frequent."""
    small = st.integers(0, 5)
    rows = draw(st.lists(st.tuples(small, small, small, small, st.integers(0, 1)), max_size=8))
    return detections(*((x, y, x + w, y + h, 0.5, c) for x, y, w, h, c in rows))


@given(some_detections(), some_detections())
def test_match_is_the_slow_one(a, b):
    found = match(a, b)
    assert [tuple(pair) for pair in found.pairs.tolist()] == slow_match(a, b)
    expected = [slow_iou(a.xyxy[i], b.xyxy[j]) for i, j in found.pairs]
    assert np.allclose(found.iou, expected, atol=1e-12)


@given(some_detections())
def test_detections_match_themselves(a):
    solid = [i for i, box in enumerate(a.xyxy) if slow_iou(box, box)]
    assert sorted(match(a, a).pairs[:, 0].tolist()) == solid


@given(some_detections(), some_detections())
def test_iou_matrix_is_the_slow_one(a, b):
    expected = [[slow_iou(x, y) for y in b.xyxy] for x in a.xyxy]
    assert np.allclose(iou_matrix(a.xyxy, b.xyxy), np.reshape(expected, (len(a), len(b))))


@pytest.mark.parametrize(
    ("reference", "built", "pairs", "reason"),
    [
        ([], [], [], "nothing on either side"),
        ([A], [], [], "nothing built"),
        ([], [A], [], "nothing in the reference"),
        ([A], [A], [(0, 0)], "one and the same"),
        ([A, B], [B, A], [(0, 1), (1, 0)], "another order"),
        ([A], [HALF_A], [(0, 0)], "exactly at the threshold"),
        ([A], [UNDER_HALF_A], [], "just below it"),
        ([A], [(*A[:5], 1)], [], "another class"),
        ([A], [A, A], [(0, 0)], "a duplicate counts once"),
        ([A], [HALF_A, A], [(0, 1)], "the better of two"),
        ([HALF_A, A], [A], [(1, 0)], "likewise on the other side"),
        ([A, HALF_A], [HALF_A, A], [(0, 1), (1, 0)], "both find their best"),
        ([(5, 5, 5, 5, 0.9, 0)], [(5, 5, 5, 5, 0.9, 0)], [], "empty boxes are never the same"),
    ],
)
def test_match(reference, built, pairs, reason):
    found = match(detections(*reference), detections(*built)).pairs.tolist()
    assert [tuple(pair) for pair in found] == pairs, reason


def compared(*pictures: tuple[list, list]) -> Comparison:
    comparison = Comparison(FACTS)
    for i, (reference, built) in enumerate(pictures):
        comparison.add_detections(i, detections(*reference), detections(*built))
    return comparison


@pytest.mark.parametrize(
    ("pictures", "f1", "mean_iou", "reason"),
    [
        ([([A, B], [A, B])], 1.0, 1.0, "all"),
        ([([A], [B])], 0.0, None, "none"),
        ([([A, B], [A])], 2 / 3, 1.0, "one of two missing"),
        ([([A], [A, B])], 2 / 3, 1.0, "one too many"),
        ([([A, B], [A, (*B[:5], 0)])], 0.5, 1.0, "half: one has another class"),
        ([([A], [HALF_A])], 1.0, 0.5, "found, but badly placed"),
        ([([A], [A]), ([B], [])], 2 / 3, 1.0, "pictures are counted together"),
        ([([A], [A]), ([], [])], 1.0, 1.0, "an empty picture changes nothing"),
        ([([], [])], 0.0, None, "nothing anywhere proves nothing"),
        ([([], [A])], 0.0, None, "only ghosts"),
        ([], 0.0, None, "no pictures"),
    ],
)
def test_agreement(pictures, f1, mean_iou, reason):
    agreement = compared(*pictures).agreement()
    assert agreement.f1 == pytest.approx(f1, abs=1e-6), reason
    assert agreement.mean_iou == mean_iou
    assert agreement.pictures == len(pictures)
    assert agreement.float_detections == sum(len(reference) for reference, _ in pictures)
    assert agreement.built_detections == sum(len(built) for _, built in pictures)
    assert (agreement.score_shift is None) == (agreement.matched == 0)


def test_score_shift_is_built_minus_float_over_the_matches():
    lower, higher = (*A[:4], 0.8, 0), (*B[:4], 0.85, 1)
    agreement = compared(([A, B, (0, 0, 3, 3, 0.3, 0)], [higher, lower])).agreement()
    assert agreement.matched == 2
    assert agreement.score_shift == pytest.approx((-0.1 + 0.05) / 2, abs=1e-6)


def maps(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=FACTS.head_shape(i)).astype(np.float32) for i in range(2)]


def slow_cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_cosine_of_equal_maps_is_one():
    comparison = Comparison(FACTS)
    comparison.add_maps(maps(0), maps(0))
    for head, facts in zip(comparison.agreement().heads, FACTS.heads, strict=True):
        assert head.output == facts.output
        assert head.cosine == head.worst_cosine == 1.0


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("group", PARTS)
def test_cosine_tells_the_head_and_the_group_that_is_off(head, group):
    """Noise in one group of one head shows there, over several pictures, and nowhere else."""
    comparison, references, builts = Comparison(FACTS), [], []
    for seed in range(3):
        reference, built = maps(seed), maps(seed)
        built[head][:, PARTS[group]] += 0.5 * maps(seed + 10)[head][:, PARTS[group]]
        comparison.add_maps(reference, built)
        references.append(reference[head])
        builts.append(built[head])
    both = np.concatenate(references), np.concatenate(builts)
    found = comparison.agreement().heads
    assert found[1 - head].cosine == found[1 - head].worst_cosine == 1.0
    assert found[head].worst_group == group
    assert found[head].cosine == pytest.approx(slow_cosine(*both), abs=1e-5)
    worst = slow_cosine(*(array[:, PARTS[group]] for array in both))
    assert found[head].worst_cosine == pytest.approx(worst, abs=1e-5)


def test_cosine_of_several_anchors_takes_each_anchors_channels():
    facts = facts_of(Anchors.from_pairs([8], [[(10, 12), (20, 20)]]), (16, 16), classes=2)
    reference = [np.ones(facts.head_shape(0), np.float32)]
    built = [np.ones(facts.head_shape(0), np.float32)]
    built[0][:, [4, 11]] = 0, -1  # the objectness of both anchors
    comparison = Comparison(facts)
    comparison.add_maps(reference, built)
    (head,) = comparison.agreement().heads
    assert head.worst_group == "objectness"
    assert head.worst_cosine == pytest.approx(-4 / np.sqrt(8 * 4), abs=1e-6)


@pytest.mark.parametrize(("scale", "cosine"), [(0, 0.0), (-1, -1.0), (3, 1.0)])
def test_cosine_of_flat_and_scaled_maps(scale, cosine):
    comparison = Comparison(FACTS)
    comparison.add_maps(maps(0), [array * scale for array in maps(0)])
    assert [head.cosine for head in comparison.agreement().heads] == [cosine, cosine]


def test_cosine_of_two_zero_maps_is_one():
    zero = [array * 0 for array in maps(0)]
    comparison = Comparison(FACTS)
    comparison.add_maps(zero, zero)
    assert [head.cosine for head in comparison.agreement().heads] == [1.0, 1.0]


WORST_FIRST = [
    ([A, B], []),  # nothing found again
    ([A, B], [A]),
    ([A, B], [HALF_A, B]),  # all found, one badly placed
    ([A, B], [A, B]),
]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_worst_pictures_are_in_order_whatever_order_they_come_in(order):
    worst = compared(*(WORST_FIRST[i] for i in order), ([], [])).worst_pictures(10)
    assert [order[picture.index] for picture in worst] == [0, 1, 2, 3]
    assert compared(*WORST_FIRST).worst_pictures(2)[1].index == 1


def test_worst_pictures_of_nothing():
    assert compared().worst_pictures(4) == []
    assert compared(([], []), ([], [])).worst_pictures(4) == []
