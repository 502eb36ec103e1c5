import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import facts_of, scene
from slow_decode import candidates

from anchors import PRESETS, Anchors
from runtime.decode import Decoder, Tensor
from runtime.errors import UserError
from runtime.manifest import Thresholds

ONE_HEAD = Anchors.from_pairs([32], [[[20.5, 30.25]]])


def anchors_of(strides, na, seed=0):
    rng = np.random.default_rng(seed)
    return Anchors.from_pairs(strides, [rng.uniform(5, 200, (na, 2)) for _ in strides])


def maps(facts, seed=0, dtype=np.float32):
    """Maps in which about every fifth place has something."""
    rng = np.random.default_rng(seed)
    shapes = [facts.head_shape(i) for i in range(len(facts.heads))]
    if facts.activation == "none":
        return [Tensor(rng.normal(-1, 2, shape).astype(dtype)) for shape in shapes]
    return [Tensor(rng.beta(0.5, 1, shape).astype(dtype)) for shape in shapes]


def assert_same(facts, tensors, thresholds):
    """The fast decode finds what the slow one finds, in the same order; gives their number."""
    found = Decoder(facts, thresholds)(tensors)
    xyxy, score, class_id = candidates(facts, tensors, thresholds)
    np.testing.assert_array_equal(found.class_id, class_id)
    np.testing.assert_allclose(found.score, score, rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, xyxy, rtol=1e-5, atol=1e-3)
    assert (found.xyxy.dtype, found.score.dtype, found.class_id.dtype) == (
        np.float32,
        np.float32,
        np.int64,
    )
    return len(score)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize(
    ("strides", "na", "wh", "classes"),
    [
        pytest.param((8, 16, 32), 3, (128, 128), 80, id="as-yolov5"),
        pytest.param((8, 16, 32), 3, (128, 128), 1, id="one-class"),
        pytest.param((8, 16, 32), 3, (224, 64), 2, id="wide"),
        pytest.param((8, 16, 32), 3, (64, 224), 2, id="tall"),
        pytest.param((32,), 1, (32, 32), 3, id="a-single-place"),
        pytest.param((16, 32), 4, (96, 128), 5, id="two-heads-of-four"),
        pytest.param((8, 16, 32, 64), 2, (128, 64), 3, id="p6"),
        pytest.param((4, 8, 16, 32, 64), 1, (64, 64), 7, id="five-heads"),
        pytest.param((8, 8, 16), 3, (64, 64), 3, id="equal-strides"),
    ],
)
def test_equals_the_slow_decode(strides, na, wh, classes, activation, multi_label):
    facts = facts_of(anchors_of(strides, na), wh, classes, activation)
    thresholds = Thresholds(multi_label=multi_label)
    assert assert_same(facts, maps(facts), thresholds) or na == 1


def test_heads_with_different_numbers_of_anchors():
    pairs = [np.full((n, 2), 10.0 * n) for n in (1, 2, 4)]
    facts = facts_of(Anchors.from_pairs((8, 16, 32), pairs), (96, 64), 3)
    assert assert_same(facts, maps(facts), Thresholds())


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "dtype"),
    [
        pytest.param("none", 0.11, 37, np.int8, id="logits"),
        pytest.param("none", 0.11, -100, np.int8, id="logits-mostly-high"),
        pytest.param("sigmoid", 1 / 256, -128, np.int8, id="sigmoid"),
        pytest.param("sigmoid", 1 / 256, 0, np.uint8, id="unsigned"),
        pytest.param("sigmoid", 1 / 256, 0, np.int8, id="no-zero-point"),
        pytest.param("none", 1.0, 3, np.int8, id="only-a-zero-point"),
    ],
)
def test_quantized_maps(activation, scale, zero_point, dtype, multi_label):
    facts = facts_of(PRESETS["coco-p5"], (96, 64), 4, activation)
    rng, bounds = np.random.default_rng(1), np.iinfo(dtype)
    tensors = [
        Tensor(
            rng.integers(bounds.min, bounds.max + 1, facts.head_shape(i)).astype(dtype),
            scale,
            zero_point,
        )
        for i in range(3)
    ]
    assert assert_same(facts, tensors, Thresholds(score=0.1, multi_label=multi_label))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_floats_of_another_width(dtype, activation):
    facts = facts_of(PRESETS["coco-p5"], (96, 64), 4, activation)
    assert assert_same(facts, maps(facts, dtype=dtype), Thresholds())


def test_a_half_float_is_compared_with_the_threshold_itself():
    facts = facts_of(ONE_HEAD, (32, 32), 1, "sigmoid")
    half = np.float16(0.3)  # a little more than 0.3
    tensor = Tensor(np.full((1, 6, 1, 1), half))
    tensor.array[0, 5] = 1
    assert len(Decoder(facts, Thresholds(score=0.3))([tensor]).score) == 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.floats(0, 1), st.booleans(), st.sampled_from(["none", "sigmoid"]))
def test_any_threshold(seed, score, multi_label, activation):
    facts = facts_of(anchors_of((16, 32), 2), (64, 32), 3, activation)
    assert_same(facts, maps(facts, seed), Thresholds(score=score, multi_label=multi_label))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 8), st.booleans())
def test_thresholds_that_are_met_exactly(seed, eighths, multi_label):
    """Of eighths a product is exact, so that scores do lie on the threshold."""
    facts = facts_of(anchors_of((16, 32), 2), (64, 32), 3, "sigmoid")
    rng = np.random.default_rng(seed)
    shapes = [facts.head_shape(i) for i in range(2)]
    tensors = [Tensor(np.float32(rng.integers(0, 9, shape) / 8)) for shape in shapes]
    assert_same(facts, tensors, Thresholds(score=eighths / 8, multi_label=multi_label))


@pytest.mark.parametrize(
    ("activation", "objectness", "label", "score", "found"),
    [
        pytest.param("sigmoid", 0.5, 1.0, 0.5, 0, id="objectness-on-the-threshold"),
        pytest.param(
            "sigmoid", np.nextafter(np.float32(0.5), np.float32(1)), 1.0, 0.5, 1, id="just-above"
        ),
        pytest.param(
            "sigmoid", np.nextafter(np.float32(0.5), np.float32(0)), 1.0, 0.5, 0, id="just-below"
        ),
        pytest.param("sigmoid", 1.0, 0.5, 0.5, 0, id="product-on-the-threshold"),
        pytest.param("sigmoid", 0.9, 0.5, 0.5, 0, id="product-below-objectness-above"),
        pytest.param("sigmoid", 0.0, 1.0, 0.0, 0, id="nothing-at-threshold-0"),
        pytest.param("sigmoid", 1e-30, 1.0, 0.0, 1, id="next-to-nothing-at-threshold-0"),
        pytest.param("sigmoid", 1.0, 1.0, 1.0, 0, id="certainty-at-threshold-1"),
        pytest.param("none", 0.0, 40.0, 0.5, 0, id="logit-on-the-threshold"),
        pytest.param("none", 1e-3, 40.0, 0.5, 1, id="logit-just-above"),
        pytest.param("none", -1e-3, 40.0, 0.5, 0, id="logit-just-below"),
        pytest.param("none", -80.0, 1.0, 0.0, 1, id="low-logit-at-threshold-0"),
        pytest.param("none", -np.inf, 1.0, 0.0, 0, id="minus-infinity-at-threshold-0"),
        pytest.param("none", np.inf, np.inf, 1.0, 0, id="infinity-at-threshold-1"),
        pytest.param("none", 1e4, 1e4, 0.999, 1, id="huge-logits"),
    ],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_score_is_strictly_above(activation, objectness, label, score, found, multi_label):
    facts = facts_of(ONE_HEAD, (32, 32), 1, activation)
    array = np.full((1, 6, 1, 1), 0.5, np.float32)
    array[0, 4], array[0, 5] = objectness, label
    thresholds = Thresholds(score=score, multi_label=multi_label)
    assert len(Decoder(facts, thresholds)([Tensor(array)]).score) == found


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [100.0, 1e4, 3e38, np.inf])
def test_huge_logits_are_no_trouble(value, multi_label):
    facts = facts_of(PRESETS["coco-p5"], (64, 64), 3)
    rng = np.random.default_rng(2)
    shapes = [facts.head_shape(i) for i in range(3)]
    tensors = [
        Tensor(np.float32(rng.choice([-1, 1], shape)) * np.float32(value)) for shape in shapes
    ]
    assert assert_same(facts, tensors, Thresholds(multi_label=multi_label))


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize(
    ("channel", "best_only", "every"),
    [
        pytest.param(None, [1], [0, 1], id="all-numbers"),
        *(pytest.param(i, [], [], id=f"box-{i}") for i in range(4)),
        pytest.param(4, [], [], id="objectness"),
        pytest.param(5, [], [1], id="a-class"),
    ],
)
def test_what_is_not_a_number_is_no_candidate(activation, channel, best_only, every):
    facts = facts_of(ONE_HEAD, (32, 32), 2, activation)
    array = np.full((1, 7, 1, 1), 0.9, np.float32)
    array[0, 6] = 0.95
    if channel is not None:
        array[0, channel] = np.nan
    for multi_label, expected in ((False, best_only), (True, every)):
        found = Decoder(facts, Thresholds(multi_label=multi_label))([Tensor(array)])
        assert found.class_id.tolist() == expected
        assert np.isfinite(found.xyxy).all()


def test_maps_full_of_noise_and_gaps():
    facts = facts_of(PRESETS["coco-p5"], (64, 64), 3)
    tensors = maps(facts)
    rng = np.random.default_rng(3)
    for tensor in tensors:
        tensor.array[rng.random(tensor.array.shape) < 0.05] = np.nan
    assert assert_same(facts, tensors, Thresholds())
    assert assert_same(facts, tensors, Thresholds(multi_label=True))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"class_score": {"a": 0.9}}, id="one-class-stricter"),
        pytest.param({"class_score": {"b": 0.01}}, id="one-class-looser"),
        pytest.param({"class_score": {"a": 0.0, "b": 1.0, "c": 0.5}}, id="each-its-own"),
        pytest.param({"classes": ("b",)}, id="one-wanted"),
        pytest.param({"classes": ("c", "a")}, id="two-wanted"),
        pytest.param({"classes": ()}, id="none-wanted"),
        pytest.param({"classes": ("b",), "class_score": {"a": 0.01, "b": 0.6}}, id="both"),
    ],
)
def test_thresholds_for_classes(options, multi_label):
    facts = facts_of(anchors_of((8, 16), 3), (64, 64), 3, "sigmoid")
    facts = facts.model_copy(update={"class_names": ("a", "b", "c")})
    thresholds = Thresholds(score=0.25, multi_label=multi_label, **options)
    found = assert_same(facts, maps(facts), thresholds)
    assert bool(found) == (options.get("classes") != ())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [0, 1, 2], id="all"),
        pytest.param({"classes": ("twin",)}, [0, 2], id="both-of-the-name-are-wanted"),
        pytest.param({"class_score": {"twin": 0.9}}, [1], id="both-of-the-name-are-stricter"),
        pytest.param({"classes": ("other",)}, [1], id="the-other"),
    ],
)
def test_classes_of_the_same_name(options, expected):
    facts = facts_of(ONE_HEAD, (32, 32), 3, "sigmoid")
    facts = facts.model_copy(update={"class_names": ("twin", "other", "twin")})
    array = np.full((1, 8, 1, 1), 0.8, np.float32)
    found = Decoder(facts, Thresholds(multi_label=True, **options))([Tensor(array)])
    assert found.class_id.tolist() == expected


def test_a_box_does_not_fall_back_to_its_second_best_class():
    facts = facts_of(ONE_HEAD, (32, 32), 2, "sigmoid")
    array = np.full((1, 7, 1, 1), 0.8, np.float32)
    array[0, 5] = 0.9
    wanted = Thresholds(classes=("thing1",))
    assert len(Decoder(facts, wanted)([Tensor(array)]).score) == 0


@pytest.mark.parametrize(
    "options",
    [{"class_score": {"cat": 0.5}}, {"classes": ("thing0", "cat")}],
    ids=["score", "list"],
)
def test_an_unknown_class_is_told(options):
    facts = facts_of(ONE_HEAD, (32, 32), 2)
    with pytest.raises(UserError, match=r"no class is called cat.* are thing0, thing1"):
        Decoder(facts, Thresholds(**options))


@pytest.mark.parametrize(
    "shape",
    [(1, 6, 1, 2), (1, 12, 1, 1), (6, 1, 1), (1, 1, 1, 6), (2, 6, 1, 1)],
    ids=["wider", "more-channels", "no-batch", "nhwc", "batch-of-two"],
)
def test_a_map_of_another_shape(shape):
    facts = facts_of(ONE_HEAD, (32, 32), 1)
    with pytest.raises(ValueError, match=r"has shape .*expected \(1, 6, 1, 1\)"):
        Decoder(facts, Thresholds())([Tensor(np.zeros(shape, np.float32))])


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_maps(count):
    facts = facts_of(ONE_HEAD, (32, 32), 1)
    tensors = [Tensor(np.zeros((1, 6, 1, 1), np.float32))] * count
    with pytest.raises(ValueError, match="zip"):
        Decoder(facts, Thresholds())(tensors)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("objectness", "label"),
    [pytest.param(-9, 9, id="no-place-passes"), pytest.param(9, -9, id="no-product-passes")],
)
def test_nothing_is_empty_arrays(objectness, label, multi_label):
    facts = facts_of(PRESETS["coco-p5"], (64, 32), 2)
    tensors = maps(facts)
    for tensor in tensors:
        planes = tensor.array.reshape(3, 7, -1)
        planes[:, 4], planes[:, 5:] = objectness, label
    assert assert_same(facts, tensors, Thresholds(multi_label=multi_label)) == 0
    found = Decoder(facts, Thresholds(multi_label=multi_label))(tensors)
    assert (found.xyxy.shape, found.score.shape, found.class_id.shape) == ((0, 4), (0,), (0,))


def test_ties_stand_in_the_order_of_the_maps():
    """Head after head; in it anchor after anchor, row after row, column after column."""
    facts = facts_of(anchors_of((16, 32), 2), (64, 32), 2, "sigmoid")
    tensors = [Tensor(np.full(facts.head_shape(i), 0.75, np.float32)) for i in range(2)]
    assert assert_same(facts, tensors, Thresholds()) == 2 * (8 + 2)
    found = Decoder(facts, Thresholds())(tensors)
    centres = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    assert centres[:4, 0].tolist() == [16, 32, 48, 64]
    assert centres[:8, 1].tolist() == [16] * 4 + [32] * 4
    assert set(found.class_id.tolist()) == {0}  # of equal classes the first


def test_a_decoder_can_be_used_again():
    facts = facts_of(PRESETS["coco-p5"], (96, 64), 4)
    decoder, first = Decoder(facts, Thresholds()), maps(facts, 1)
    before = decoder(first)
    copies = [tensor.array.copy() for tensor in first]
    decoder(maps(facts, 2))
    after = decoder(first)
    np.testing.assert_array_equal(before.xyxy, after.xyxy)
    np.testing.assert_array_equal(before.score, after.score)
    for copy, tensor in zip(copies, first, strict=True):
        np.testing.assert_array_equal(copy, tensor.array)


def test_a_scene_as_a_trained_network_would_see_it():
    facts = facts_of()
    tensors = scene(facts, 20, 300, np.random.default_rng(0))
    assert assert_same(facts, tensors, Thresholds()) > 100
    assert assert_same(facts, tensors, Thresholds(score=0.001, multi_label=True)) > 100
