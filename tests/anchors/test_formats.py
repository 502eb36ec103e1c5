"""Anchors as files, written and read again."""

import re
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import program

from anchors import PRESETS, Anchors
from anchors.formats import (
    from_rk_text,
    from_yaml,
    rounding_loss,
    to_c_header,
    to_rk_text,
    to_yaml,
)

STRIDES = (8, 16, 32)
P5 = PRESETS["coco-p5"]
FRACTIONS = Anchors.from_pairs([8, 16], [[[4.1289, 6.75]], [[0.3, 1000.5]]])


@st.composite
def anchors(draw, largest=3e38, equal=True):
    """Any anchors; equal: with as many on every head."""
    strides = sorted(draw(st.lists(st.integers(1, 512), min_size=1, max_size=5)))
    na = draw(st.integers(1, 5))
    sizes = [na if equal else draw(st.integers(1, 5)) for _ in strides]
    side = st.floats(2**-20, float(np.float32(largest)), width=32)
    heads = [draw(st.lists(st.tuples(side, side), min_size=n, max_size=n)) for n in sizes]
    return Anchors.from_pairs(strides, heads)


# yaml


@given(anchors(equal=False))
def test_yaml_gives_back_the_same_numbers(some):
    assert from_yaml(to_yaml(some), (1,)) == some


def test_yaml_is_readable():
    assert to_yaml(FRACTIONS) == (
        "heads:\n- stride: 8\n  anchors_px:\n  - [4.1289, 6.75]\n"
        "- stride: 16\n  anchors_px:\n  - [0.3, 1000.5]\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "nc: 80  # classes\ndepth_multiple: 0.33\nanchors:\n"
            "  - [10,13, 16,30, 33,23]  # P3/8\n  - [30,61, 62,45, 59,119]  # P4/16\n"
            "  - [116,90, 156,198, 373,326]  # P5/32\n"
            "backbone:\n  [[-1, 1, Conv, [64, 6, 2, 2]],  # 0-P1/2\n  ]\n"
            "head:\n  [[[17, 20, 23], 1, Detect, [nc, anchors]]]\n",
            id="a-models-yaml",
        ),
        pytest.param(
            "anchors: [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]],"
            " [[116, 90], [156, 198], [373, 326]]]",
            id="pairs",
        ),
        pytest.param(
            "anchors:\n- [10.0, 1.3e+1, 16, 30, 33, 23]\n- [30, 61, 62, 45, 59, 119]\n"
            "- [116, 90, 156, 198, 373, 326]\n",
            id="floats",
        ),
        pytest.param(to_yaml(P5), id="our-own"),
    ],
)
def test_yaml_in_every_form(text):
    assert from_yaml(text, STRIDES) == P5


def test_our_yaml_knows_its_strides():
    assert from_yaml(to_yaml(P5), (4,)).strides == STRIDES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "holds no anchors", id="empty"),
        pytest.param("[1, 2]", "holds no anchors", id="a-list"),
        pytest.param("nc: 80", "holds no anchors", id="no-anchors"),
        pytest.param("anchors: null", "holds no anchors", id="null"),
        pytest.param("anchors: 3", "only says how many anchors AutoAnchor should find", id="count"),
        pytest.param("anchors: {a: 1}", "anchors of 1 heads, not of 3", id="a-dict"),
        pytest.param("anchors: abc", "no list of widths and heights", id="text"),
        pytest.param("anchors: [1, 2, 3]", "holds no anchors", id="numbers"),
        pytest.param("anchors: [[1, 2], [3, 4]]", "anchors of 2 heads, not of 3", id="two-heads"),
        pytest.param("anchors: []", "anchors of 0 heads, not of 3", id="no-heads"),
        pytest.param("anchors: [[], [], []]", "have shape", id="empty-heads"),
        pytest.param("anchors: [[1, 2], [3], [4, 5]]", "no list of widths", id="odd"),
        pytest.param("anchors: [[1, x], [3, 4], [4, 5]]", "no list of widths", id="a-word"),
        pytest.param("anchors: [[1, true], [3, 4], [4, 5]]", "no list of widths", id="bool"),
        pytest.param("anchors: [[1, '2'], [3, 4], [4, 5]]", "no list of widths", id="quoted"),
        pytest.param("anchors: [[1, -2], [3, 4], [4, 5]]", "finite and above 0", id="negative"),
        pytest.param("anchors: [[1, 0], [3, 4], [4, 5]]", "finite and above 0", id="zero"),
        pytest.param("anchors: [[1, .inf], [3, 4], [4, 5]]", "finite and above 0", id="infinite"),
        pytest.param("anchors: [[1, .nan], [3, 4], [4, 5]]", "finite and above 0", id="nan"),
        pytest.param("anchors: [[1, 1.0e+39], [3, 4], [4, 5]]", "finite and above", id="too-large"),
        pytest.param(
            f"anchors: [[1, {'9' * 400}], [3, 4], [4, 5]]", "holds no anchors", id="a-long-number"
        ),
        pytest.param(f"anchors: [[1, {'9' * 9000}]]", "not plain YAML", id="a-very-long-number"),
        pytest.param("heads: 5", "holds no anchors", id="heads-a-number"),
        pytest.param("heads: []", "no heads", id="heads-empty"),
        pytest.param("heads: [{stride: 8}]", "holds no anchors", id="heads-without-anchors"),
        pytest.param(
            "heads: [{stride: 8.5, anchors_px: [[1, 2]]}]", "not all whole", id="half-a-stride"
        ),
        pytest.param(
            "heads: [{stride: .inf, anchors_px: [[1, 2]]}]", "not all whole", id="endless-stride"
        ),
        pytest.param(
            "heads: [{stride: true, anchors_px: [[1, 2]]}]", "not all whole", id="true-stride"
        ),
        pytest.param("heads: [{stride: 0, anchors_px: [[1, 2]]}]", "below 1", id="no-stride"),
        pytest.param(
            "heads: [{stride: 16, anchors_px: [[1, 2]]}, {stride: 8, anchors_px: [[1, 2]]}]",
            "not ordered by stride",
            id="order",
        ),
        pytest.param("anchors: [[1, 2", "not plain YAML", id="unclosed"),
        pytest.param("\x00", "not plain YAML", id="binary"),
        pytest.param("[" * 5000, "nested too deeply", id="deep"),
        pytest.param("anchors: &a [[1, 2], *a]", "aliases and tags", id="an-alias"),
        pytest.param(
            "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
            "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
            "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nanchors: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n",
            "aliases and tags",
            id="much-from-little",
        ),
        pytest.param("anchors: !!python/name:os.system", "aliases and tags", id="a-tag"),
        pytest.param("anchors: !!int ''", "aliases and tags", id="a-tag-that-fails"),
        pytest.param("2020-99-99: 1", "not plain YAML", id="no-date"),
    ],
)
def test_yaml_that_holds_none(text, message):
    with pytest.raises(ValueError, match=message):
        from_yaml(text, STRIDES)


@given(st.text())
def test_any_text_as_yaml_is_a_value_error_or_anchors(text):
    try:
        from_yaml(f"anchors: {text}", STRIDES)
    except ValueError:
        pass


# the vendor's text


@given(anchors())
def test_rk_text_gives_back_the_same_numbers(some):
    assert from_rk_text(to_rk_text(some), some.strides) == some


@given(anchors())
def test_rk_text_is_a_number_a_line_without_loss(some):
    lines = to_rk_text(some).splitlines()
    numbers = np.concatenate([head.wh_px.ravel() for head in some.heads])
    np.testing.assert_array_equal(np.float32([float(line) for line in lines]), numbers)


def test_rk_text_as_the_vendors_demo_reads_it():
    assert to_rk_text(FRACTIONS) == "4.1289\n6.75\n0.3\n1000.5\n"
    assert to_rk_text(P5).splitlines()[:3] == ["10.0", "13.0", "16.0"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("10 13 16 30 33 23 30 61 62 45 59 119 116 90 156 198 373 326", id="spaces"),
        pytest.param("10,13, 16,30, 33,23, 30,61,62,45,59,119,116,90,156,198,373,326", id="commas"),
        pytest.param(
            "[[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]],"
            " [[116, 90], [156, 198], [373, 326]]]\n",
            id="brackets",
        ),
        pytest.param(to_rk_text(P5).replace("\n", "\r\n"), id="windows"),
        pytest.param(f"\n\n{to_rk_text(P5)}\n", id="empty-lines"),
        pytest.param(to_rk_text(P5).replace("\n", " ; "), id="semicolons"),
    ],
)
def test_rk_text_in_every_form(text):
    assert from_rk_text(text, STRIDES) == P5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "could not convert", id="empty"),
        pytest.param("ten 13", "could not convert string to float: 'ten'", id="a-word"),
        pytest.param("10 13 16", "3 numbers, which 3 heads do not divide", id="too-few"),
        pytest.param("1 2 3 4 5 6 7", "7 numbers, which 3 heads do not divide", id="odd"),
        pytest.param("1 2 3 4 5 0", "finite and above 0", id="zero"),
        pytest.param("1 2 3 4 5 -6", "finite and above 0", id="negative"),
        pytest.param("1 2 3 4 5 nan", "finite and above 0", id="nan"),
        pytest.param("1 2 3 4 5 1e39", "finite and above 0", id="too-large"),
        pytest.param("1 2 3 4 5 1e999", "finite and above 0", id="infinite"),
        pytest.param("\x00", "could not convert", id="binary"),
    ],
)
def test_rk_text_that_holds_none(text, message):
    with pytest.raises(ValueError, match=message):
        from_rk_text(text, STRIDES)


@given(st.text())
def test_any_text_as_rk_text_is_a_value_error_or_anchors(text):
    try:
        from_rk_text(text, STRIDES)
    except ValueError:
        pass


# the C header


def table_of(header):
    """The integers of the header's table."""
    body = re.search(r"anchor\[(\d+)\]\[(\d+)\] = \{(.*?)\};", header, re.DOTALL)
    numbers = [int(n) for n in re.findall(r"-?\d+", body[3])]
    return np.reshape(numbers, (int(body[1]), int(body[2])))


@given(anchors(largest=2**30))
def test_the_header_holds_the_nearest_whole_pixels(some):
    table = table_of(to_c_header(some))
    for row, head in zip(table, some.heads, strict=True):
        wh_px = head.wh_px.astype(float).ravel()
        assert ((np.abs(row - wh_px) <= 0.5) | ((row == 1) & (wh_px < 1))).all()


def test_the_header_states_what_rounding_costs():
    assert rounding_loss(P5) == 0
    assert "rounding changes sizes by up to 0.0 %" in to_c_header(P5)
    quarter = Anchors.from_pairs([8], [[[100, 2.25]]])
    assert rounding_loss(quarter) == pytest.approx(0.25 / 2.25)
    assert "rounding changes sizes by up to 11.1 %" in to_c_header(quarter)


def test_no_size_is_rounded_to_nothing():
    small = Anchors.from_pairs([8], [[[0.25, 8]]])
    assert table_of(to_c_header(small)).tolist() == [[1, 8]]
    assert rounding_loss(small) == 3


def test_a_header_needs_as_many_anchors_on_every_head():
    unlike = Anchors.from_pairs([8, 16], [[[1, 2]], [[1, 2], [3, 4]]])
    with pytest.raises(ValueError, match="as many anchors on every head"):
        to_c_header(unlike)


@pytest.mark.parametrize("some", [P5, PRESETS["coco-p6"], FRACTIONS], ids=["p5", "p6", "fractions"])
def test_the_header_compiles_and_c_reads_the_same(some, tmp_path):
    (tmp_path / "anchors.h").write_text(to_c_header(some))
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "anchors.h"\n#include "anchors.h"\nint main(void) {\n'
        "  for (unsigned i = 0; i < sizeof anchor / sizeof anchor[0]; i++)\n"
        "    for (unsigned j = 0; j < sizeof anchor[0] / sizeof(int); j++)\n"
        '      printf("%d ", anchor[i][j]);\n  return 0;\n}\n'
    )
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    check = [
        program("gcc"),
        "-fsyntax-only",
        *flags,
        "-Wno-unused-variable",
        "-x",
        "c",
        "anchors.h",
    ]
    subprocess.run(check, cwd=tmp_path, check=True)
    subprocess.run([program("gcc"), *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    expected = np.concatenate([head.wh_px.ravel() for head in some.heads])
    assert [int(n) for n in printed.stdout.split()] == np.maximum(np.rint(expected), 1).tolist()
