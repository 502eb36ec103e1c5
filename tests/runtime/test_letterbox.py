import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.letterbox import PAD_VALUE, Letterbox, letterbox

sides = st.integers(1, 2000)
inputs = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda n: (n[0] * 32, n[1] * 32))
INPUT_WH = (160, 96)


def picture(w, h, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def slow(bgr, input_wh, channels=3):
    """The design's formula, step by step."""
    (height, width), (w, h) = bgr.shape[:2], input_wh
    r = min(w / width, h / height)
    inside = max(1, round(width * r)), max(1, round(height * r))
    dw, dh = (w - inside[0]) / 2, (h - inside[1]) / 2
    if inside != (width, height):
        bgr = cv2.resize(bgr, inside, interpolation=cv2.INTER_LINEAR)
    borders = round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1)
    padded = cv2.copyMakeBorder(bgr, *borders, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    if channels == 1:
        # the border is grey already, and stays 114
        return cv2.cvtColor(padded, cv2.COLOR_BGR2GRAY)[..., None]
    return padded[..., ::-1]


@settings(deadline=None, max_examples=150)
@given(sides, sides, inputs, st.sampled_from([1, 3]))
@example(640, 480, (640, 640), 3)
@example(1, 1, (640, 640), 3)
@example(1, 2000, (640, 640), 3)
@example(2000, 1, (640, 640), 1)
@example(640, 640, (640, 640), 3)
@example(639, 641, (640, 640), 3)
def test_equals_the_formula(w, h, input_wh, channels):
    bgr = picture(w, h)
    out = letterbox(bgr, input_wh, channels)
    assert out.shape == (input_wh[1], input_wh[0], channels)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, slow(bgr, input_wh, channels))


@settings(deadline=None)
@given(sides, sides, inputs)
def test_border_is_grey_and_as_even_as_it_can_be(w, h, input_wh):
    frame = Letterbox((w, h), input_wh)
    (left, top), (rw, rh) = frame.top_left, frame.resized_wh
    right, bottom = input_wh[0] - left - rw, input_wh[1] - top - rh
    assert 0 <= left <= right <= left + 1
    assert 0 <= top <= bottom <= top + 1
    assert 0 in (left, top)
    out = letterbox(np.zeros((h, w, 3), np.uint8), input_wh)
    border = np.ones(out.shape[:2], bool)
    border[top : top + rh, left : left + rw] = False
    assert (out[border] == PAD_VALUE).all()
    assert (out[~border] == 0).all()


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(np.s_[2:98, 3:163], id="part-of-a-larger-picture"),
        pytest.param(np.s_[0:192:2, 0:160], id="every-other-row"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("source_wh", [(100, 96), (320, 100), (1, 500), (500, 1), INPUT_WH])
def test_writes_in_place_and_nowhere_else(where, channels, source_wh):
    large = np.full((200, 200, channels), 7, np.uint8)
    out = large[where]
    bgr = picture(*source_wh)
    assert Letterbox(source_wh, INPUT_WH).apply(bgr, out) is out
    np.testing.assert_array_equal(large[where], slow(bgr, INPUT_WH, channels))
    outside = np.ones(large.shape, bool)
    outside[where] = False
    assert (large[outside] == 7).all()


def test_writes_over_what_was_there_before():
    buffer = np.empty((1, 96, 160, 3), np.uint8)
    for seed, wh in enumerate([(300, 20), (20, 300), (160, 96)]):
        bgr = picture(*wh, seed)
        Letterbox(wh, INPUT_WH).apply(bgr, buffer[0])
        np.testing.assert_array_equal(buffer[0], slow(bgr, INPUT_WH))


@pytest.mark.parametrize("wh", [(160, 96), (320, 192), (77, 31)])
def test_does_not_touch_the_picture(wh):
    bgr = picture(*wh)
    before = bgr.copy()
    letterbox(bgr, INPUT_WH)
    letterbox(bgr, INPUT_WH, 1)
    np.testing.assert_array_equal(bgr, before)


def test_takes_a_picture_that_is_part_of_another():
    large = picture(400, 300)
    part = large[10:200, 20:333]
    np.testing.assert_array_equal(letterbox(part, INPUT_WH), slow(part.copy(), INPUT_WH))


@settings(deadline=None)
@given(sides, sides, inputs, st.tuples(*[st.floats(0, 1, width=32)] * 4))
def test_boxes_come_back_within_three_quarters_of_an_input_pixel(w, h, input_wh, corners):
    frame = Letterbox((w, h), input_wh)
    (rw, rh), (left, top) = frame.resized_wh, frame.top_left
    if min(round(w * frame.gain), round(h * frame.gain)) < 1:
        return  # a sliver that was made a pixel wide
    source = np.float32([corners]) * [w, h, w, h]
    there = source * np.tile([rw / w, rh / h], 2) + np.tile([left, top], 2)
    back = frame.source_from_input(there.astype(np.float32))
    slack = 1e-3 * max(1.0, frame.gain)
    assert (np.abs(back - source) * frame.gain <= 0.75 + slack).all()


@settings(deadline=None)
@given(sides, sides, inputs, st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 4)))
def test_boxes_are_clipped_to_the_picture(w, h, input_wh, boxes):
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    before = xyxy.copy()
    back = Letterbox((w, h), input_wh).source_from_input(xyxy)
    assert back.shape == xyxy.shape
    assert back.dtype == np.float32
    assert (back >= 0).all()
    assert (back <= [w, h, w, h]).all()
    np.testing.assert_array_equal(xyxy, before)


@pytest.mark.parametrize(
    ("source_wh", "box", "expected"),
    [
        pytest.param((1280, 720), (0, 140, 640, 500), (0, 0, 1280, 720), id="whole-picture"),
        pytest.param((1280, 720), (100, 240, 200, 340), (200, 200, 400, 400), id="inside"),
        pytest.param((1280, 720), (-9, 0, 700, 640), (0, 0, 1280, 720), id="clipped"),
        pytest.param((320, 320), (64, 64, 128, 128), (32, 32, 64, 64), id="enlarged"),
        pytest.param((640, 639), (0, 0.5, 1, 1.5), (0, 0, 1, 1), id="fractional-border"),
    ],
)
def test_boxes_in_source_pixels(source_wh, box, expected):
    back = Letterbox(source_wh, (640, 640)).source_from_input(np.float32([box]))
    assert back[0].tolist() == pytest.approx(expected)
