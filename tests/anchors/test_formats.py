import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors import PRESETS, Anchors
from anchors.formats import (
    from_rk_text,
    from_yaml,
    rounding_loss,
    to_c_header,
    to_rk_text,
    to_yaml,
)

P5 = PRESETS["coco-p5"]
STRIDES = P5.strides
pixels = st.floats(0.125, 5000, width=32)


@st.composite
def any_anchors(draw, equal=False):
    strides = sorted(draw(st.lists(st.sampled_from([4, 8, 16, 32, 64]), min_size=1, max_size=5)))
    size = draw(st.integers(1, 4))
    sizes = [size if equal else draw(st.integers(1, 4)) for _ in strides]
    pairs = [draw(st.lists(st.tuples(pixels, pixels), min_size=n, max_size=n)) for n in sizes]
    return Anchors.from_pairs(strides, pairs)


@settings(deadline=None)
@given(any_anchors())
def test_through_yaml(anchors):
    assert from_yaml(to_yaml(anchors), ()) == anchors


@settings(deadline=None)
@given(any_anchors(equal=True))
def test_through_the_vendors_text(anchors):
    assert from_rk_text(to_rk_text(anchors), anchors.strides) == anchors


def test_a_models_yaml():
    rows = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
    assert from_yaml(yaml.safe_dump({"nc": 80, "anchors": rows}), STRIDES) == P5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "holds no anchors", id="empty"),
        pytest.param("- 1", "holds no anchors", id="a-list"),
        pytest.param("a: 1", "holds no anchors", id="other-keys"),
        pytest.param("{", "not plain YAML", id="no-yaml"),
        pytest.param("[" * 10_000, "nested too deeply", id="nested"),
        pytest.param("anchors: 3", "how many anchors AutoAnchor should find", id="a-number"),
        pytest.param("anchors: [[1, 2], [3, 4]]", "zip", id="a-head-missing"),
        pytest.param("anchors: [[1, 2, 3], [3, 4], [5, 6]]", "reshape", id="an-odd-number"),
        pytest.param("anchors: [[1, x], [3, 4], [5, 6]]", "could not convert", id="a-word"),
        pytest.param("anchors: [[1, -2], [3, 4], [5, 6]]", "above 0", id="negative"),
        pytest.param("heads: [{stride: 8}]", "holds no anchors", id="no-pairs"),
        pytest.param("heads: 3", "holds no anchors", id="no-heads"),
        pytest.param("heads: [{stride: 0, anchors_px: [[1, 2]]}]", "below 1", id="stride"),
        pytest.param(
            "heads: [{stride: x, anchors_px: [[1, 2]]}]", "invalid literal", id="no-stride"
        ),
        pytest.param("heads: [{stride: 8, anchors_px: [[1, 1e300]]}]", "finite", id="huge"),
        pytest.param(
            "heads: [{stride: .inf, anchors_px: [[1, 2]]}]",
            "holds no anchors",
            id="infinite-stride",
        ),
        pytest.param("heads: []", "no heads", id="none"),
        pytest.param("a: !!timestamp x", "aliases and tags", id="a-tag-that-does-not-fit"),
        pytest.param("a: &a [1]\nb: *a", "aliases and tags", id="an-alias"),
    ],
)
def test_yaml_that_holds_none(text, message):
    with pytest.raises(ValueError, match=message):
        from_yaml(text, STRIDES)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("10\n13\n16\n30\n33\n23\n", id="a-number-a-line"),
        pytest.param("10.0,13.0,16.0,30.0,33.0,23.0", id="commas"),
        pytest.param("[[10, 13], [16, 30], [33, 23]]\n", id="brackets"),
        pytest.param("\n 10 13\n16 30 ; 33 23 \n\n", id="spaces"),
    ],
)
def test_the_vendors_text(text):
    assert from_rk_text(text, (8,)).heads[0].wh_px.tolist() == [[10, 13], [16, 30], [33, 23]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "could not convert", id="empty"),
        pytest.param("ten", "could not convert", id="a-word"),
        pytest.param("1 2 3 4", "holds 4 numbers, which 3 heads do not divide", id="too-few"),
        pytest.param("1 2 3 4 5 0", "above 0", id="zero"),
        pytest.param("1 2 3 4 5 nan", "finite", id="nan"),
        pytest.param("1 2 3 4 5 1e300", "finite", id="huge"),
    ],
)
def test_the_vendors_text_that_holds_none(text, message):
    with pytest.raises(ValueError, match=message):
        from_rk_text(text, STRIDES)


def test_the_c_header():
    text = to_c_header(P5)
    assert "static const int anchor[3][6] = {\n    {10, 13, 16, 30, 33, 23},\n" in text
    assert "a row for each stride of 8, 16, 32." in text
    assert "up to 0.0 %" in text


def test_the_c_header_says_what_rounding_costs():
    anchors = Anchors.from_pairs([8], [[[2.5, 10.4], [0.2, 7]]])
    assert rounding_loss(anchors) == pytest.approx(4)  # 0.2 becomes 1
    assert "{2, 10, 1, 7}" in to_c_header(anchors)
    assert "up to 400.0 %" in to_c_header(anchors)


def test_the_c_header_needs_a_rectangle():
    anchors = Anchors.from_pairs([8, 16], [np.ones((1, 2)), np.ones((2, 2))])
    with pytest.raises(ValueError, match="as many anchors on every head"):
        to_c_header(anchors)
