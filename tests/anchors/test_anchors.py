import numpy as np
import pytest

from anchors import AnchorHead, Anchors

PAIRS = [[10, 13], [16, 30]]


@pytest.mark.parametrize(
    ("stride", "wh_px", "message"),
    [
        pytest.param(0, PAIRS, "stride 0 is below 1", id="no-stride"),
        pytest.param(-8, PAIRS, "stride -8 is below 1", id="negative-stride"),
        pytest.param(8, np.empty((0, 2)), r"shape \(0, 2\), not \(na, 2\)", id="no-anchor"),
        pytest.param(8, [], r"shape \(0,\), not \(na, 2\)", id="empty-list"),
        pytest.param(8, [10, 13], r"shape \(2,\), not \(na, 2\)", id="one-pair-not-in-a-list"),
        pytest.param(8, [[1, 2, 3]], r"shape \(1, 3\), not \(na, 2\)", id="a-third-number"),
        pytest.param(8, [PAIRS], r"shape \(1, 2, 2\), not", id="one-dimension-too-many"),
        pytest.param(8, [[10, 0]], "not all finite and above 0", id="zero-height"),
        pytest.param(8, [[-1, 5]], "not all finite and above 0", id="negative-width"),
        pytest.param(8, [[np.nan, 5]], "not all finite and above 0", id="nan"),
        pytest.param(8, [[np.inf, 5]], "not all finite and above 0", id="infinite"),
        pytest.param(8, [[1e300, 5]], "not all finite and above 0", id="infinite-in-float32"),
        pytest.param(8, [[1e-60, 5]], "not all finite and above 0", id="zero-in-float32"),
    ],
)
def test_head_refuses(stride, wh_px, message):
    with pytest.raises(ValueError, match=message):
        AnchorHead(stride, wh_px)


def test_head_keeps_fractions_as_float32():
    head = AnchorHead(8, [[10.25, 13.625]])
    assert head.wh_px.dtype == np.float32
    assert head.wh_px.tolist() == [[10.25, 13.625]]


def test_head_is_its_own_and_cannot_be_changed():
    given = np.array(PAIRS, np.float32)
    head = AnchorHead(8, given)
    given[0, 0] = 99
    assert head.wh_px[0, 0] == 10
    with pytest.raises(ValueError, match="read-only"):
        head.wh_px[0, 0] = 1


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(AnchorHead(8, PAIRS), True, id="same"),
        pytest.param(AnchorHead(16, PAIRS), False, id="other-stride"),
        pytest.param(AnchorHead(8, [[10, 13], [16, 31]]), False, id="other-pair"),
        pytest.param(AnchorHead(8, PAIRS[:1]), False, id="fewer"),
        pytest.param(8, False, id="not-a-head"),
    ],
)
def test_head_equality(other, same):
    assert (AnchorHead(8, PAIRS) == other) is same


@pytest.mark.parametrize(
    ("strides", "message"),
    [
        pytest.param([], "no heads", id="empty"),
        pytest.param([16, 8], r"not ordered by stride: \[16, 8\]", id="coarse-first"),
        pytest.param([8, 32, 16], "not ordered by stride", id="last-two-swapped"),
    ],
)
def test_anchors_refuse(strides, message):
    with pytest.raises(ValueError, match=message):
        Anchors.from_pairs(strides, [PAIRS] * len(strides))


def test_every_stride_needs_its_pairs():
    with pytest.raises(ValueError, match="zip"):
        Anchors.from_pairs([8, 16], [PAIRS])


@pytest.mark.parametrize("strides", [(8,), (8, 16, 32), (8, 8, 16), (4, 8, 16, 32, 64)])
def test_anchors_know_their_strides(strides):
    anchors = Anchors.from_pairs(strides, [PAIRS] * len(strides))
    assert anchors.strides == strides
    assert anchors.largest_stride == strides[-1]


def test_heads_may_have_different_numbers_of_anchors():
    anchors = Anchors.from_pairs([8, 16], [PAIRS, PAIRS[:1]])
    assert [len(head.wh_px) for head in anchors.heads] == [2, 1]


@pytest.mark.parametrize(
    ("strides", "pairs", "close"),
    [
        pytest.param([8], [[[10.009, 13]]], True, id="inside-the-tolerance"),
        pytest.param([8], [[[9.991, 13]]], True, id="inside-below"),
        pytest.param([8], [[[10.011, 13]]], False, id="outside-the-tolerance"),
        pytest.param([8], [[[9.989, 13]]], False, id="outside-below"),
        pytest.param([16], [[[10, 13]]], False, id="other-stride"),
        pytest.param([8], [PAIRS], False, id="more-anchors"),
        pytest.param([8, 16], [[[10, 13]], PAIRS], False, id="more-heads"),
    ],
)
def test_is_close(strides, pairs, close):
    anchors = Anchors.from_pairs([8], [[[10, 13]]])
    assert anchors.is_close(Anchors.from_pairs(strides, pairs), relative=1e-3) is close
