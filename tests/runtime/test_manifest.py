import copy
import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_files import manifest_of
from scenes import facts_of

from anchors import PRESETS, Anchors
from runtime.errors import UserError
from runtime.manifest import (
    CUSTOM_STRING_LIMIT,
    Facts,
    HeadFacts,
    InputFacts,
    Manifest,
    Thresholds,
)

ORIGIN = Path("bundle/manifest.yaml")
pixels = st.floats(0.125, 5000, width=32)
pairs = st.lists(st.tuples(pixels, pixels), min_size=1, max_size=3)
names = st.lists(st.text(max_size=20), min_size=1, max_size=90).map(tuple)


def facts_with_names(*class_names, **options):
    return facts_of(**options).model_copy(update={"class_names": class_names})


@st.composite
def any_facts(draw):
    strides = draw(st.lists(st.sampled_from([4, 8, 16, 32, 64]), min_size=1, max_size=5))
    return Facts(
        input=InputFacts(
            width=64 * draw(st.integers(1, 20)),
            height=64 * draw(st.integers(1, 20)),
            channels=draw(st.sampled_from([1, 3])),
        ),
        heads=tuple(
            HeadFacts(output=f"head{i}", stride=stride, anchors_px=draw(pairs))
            for i, stride in enumerate(sorted(strides))
        ),
        activation=draw(st.sampled_from(["none", "sigmoid"])),
        class_names=draw(names),
    )


@settings(deadline=None)
@given(any_facts())
@example(facts_with_names("\x85", "a\x85b", "\u2028", "\ufeff", "no", "1:30", "~", " ", "\t\n"))
def test_manifest_through_yaml(facts):
    manifest = manifest_of(facts, {"model.rknn": b"x", "ünicode/файл": b""})
    assert Manifest.from_yaml(manifest.to_yaml(), ORIGIN) == manifest


@settings(deadline=None)
@given(any_facts())
def test_facts_through_json(facts):
    assert Facts.from_json(facts.to_json(), "here") == facts
    assert facts.to_json().isascii()


@settings(deadline=None)
@given(any_facts())
def test_facts_through_the_custom_string(facts):
    text = facts.to_custom_string()
    assert text.isascii()
    assert len(text) < CUSTOM_STRING_LIMIT
    back = Facts.from_json(text, "here")
    generic = facts.model_copy(update={"class_names": back.class_names})
    assert back == generic
    assert len(back.class_names) == len(facts.class_names)
    assert facts.agrees_with(text, "here")


@pytest.mark.parametrize(
    ("length", "whole"),
    [
        pytest.param(-1, True, id="one-byte-of-room"),
        pytest.param(0, True, id="just-fits"),
        pytest.param(1, False, id="one-byte-too-long"),
    ],
)
def test_names_stay_as_long_as_they_fit(length, whole):
    room = CUSTOM_STRING_LIMIT - 1 - len(facts_with_names("").to_json())
    facts = facts_with_names("n" * (room + length))
    text = facts.to_custom_string()
    expected = facts.class_names if whole else ("class0",)
    assert Facts.from_json(text, "here").class_names == expected


def test_names_that_are_not_ascii_are_counted_as_they_are_written():
    facts = facts_with_names(*["дорожный знак"] * 10)
    assert len("".join(facts.class_names)) < 200
    assert "count" in json.loads(facts.to_custom_string())["class_names"]


def test_too_many_anchors_are_told():
    anchors = Anchors.from_pairs([8, 16], [[[i + 0.123456, 7.654321] for i in range(1, 40)]] * 2)
    with pytest.raises(UserError, match=r"2 heads have too many anchors .* limit is 1023"):
        facts_of(anchors).to_custom_string()


def leaves(plain, path=()):
    """The paths of everything in plain data that holds nothing else."""
    items = enumerate(plain) if isinstance(plain, list) else plain.items()
    for key, value in items:
        if isinstance(value, list | dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def changed(plain, path):
    """A copy with another value there, of the same kind and possible where there is one."""
    plain = copy.deepcopy(plain)
    inner = plain
    for key in path[:-1]:
        inner = inner[key]
    value = inner[path[-1]]
    others = {"detect": "other", "NHWC": "NCHW", "none": "sigmoid", 3: 1, 640: 672, 8: 4, 114: 0}
    if isinstance(value, str):
        inner[path[-1]] = others.get(value, f"{value}x")
    else:
        inner[path[-1]] = others.get(value, value + 1)
    return plain


SHORT = json.loads(facts_of().to_custom_string())
WHOLE = json.loads(facts_of(classes=2).to_custom_string())


@pytest.mark.parametrize(
    ("facts", "plain", "path"),
    [
        pytest.param(facts, plain, path, id=f"{kind}-{'.'.join(map(str, path))}")
        for kind, facts, plain in (
            ("short", facts_of(), SHORT),
            ("whole", facts_of(classes=2), WHOLE),
        )
        for path in leaves(plain)
    ],
)
def test_every_single_difference_is_seen(facts, plain, path):
    assert facts.agrees_with(json.dumps(plain), "here")
    try:
        agrees = facts.agrees_with(json.dumps(changed(plain, path)), "here")
    except UserError:
        agrees = False
    assert not agrees


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(("a", "b"), ("b", "a"), id="swapped"),
        pytest.param(("a", "b"), ("a",), id="fewer"),
        pytest.param(("a", "b"), ("a", "b", "c"), id="more"),
        pytest.param(("a\nb",), ("a", "b"), id="divided-at-a-line"),
        pytest.param(("a\nb", "c"), ("a", "b\nc"), id="divided-elsewhere"),
    ],
)
@pytest.mark.parametrize("padding", ["", "n" * CUSTOM_STRING_LIMIT], ids=["whole", "digest"])
def test_other_names_are_seen(ours, theirs, padding):
    ours, theirs = facts_with_names(*ours, padding), facts_with_names(*theirs, padding)
    assert ours.agrees_with(ours.to_custom_string(), "here")
    assert not ours.agrees_with(theirs.to_custom_string(), "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "holds no decode facts", id="empty"),
        pytest.param("{", "holds no decode facts", id="broken"),
        pytest.param("[]", "holds no decode facts", id="a-list"),
        pytest.param("{}", "holds no decode facts", id="no-version"),
        pytest.param('{"rkyolo":1}', "input: Field required; heads: Field", id="nothing-else"),
        pytest.param('{"rkyolo":2}', "newer rkyolo: update this one", id="newer"),
        pytest.param("[" * 100_000, "holds no decode facts", id="nested"),
        pytest.param(
            '{"rkyolo":1,"class_names":{"count":1000000000}}', "holds no decode facts", id="names"
        ),
        pytest.param('{"rkyolo":1,"class_names":{}}', "holds no decode facts", id="no-count"),
    ],
)
def test_json_that_holds_no_facts(text, message):
    with pytest.raises(UserError, match=f"^model.rknn.*{message}"):
        Facts.from_json(text, "model.rknn")


def facts_json(**changes):
    return json.dumps(json.loads(facts_of(classes=2).to_json()) | changes)


HEAD = {"output": "a", "stride": 8, "anchors_px": [[1, 2]]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"heads": []}, "heads: Tuple should have at least 1 item", id="no-heads"),
        pytest.param({"class_names": []}, "class_names: Tuple should have at", id="no-names"),
        pytest.param({"extra": 1}, "extra: Extra inputs are not permitted", id="unknown-key"),
        pytest.param({"heads": [{**HEAD, "x": 1}]}, "heads.0.x: Extra inputs", id="unknown-inner"),
        pytest.param({"heads": [{**HEAD, "stride": 0}]}, "heads.0.stride: Input sh", id="stride-0"),
        pytest.param({"heads": [{**HEAD, "anchors_px": []}]}, "heads.0.anchors_px", id="no-anchor"),
        pytest.param(
            {"heads": [{**HEAD, "anchors_px": [[1, -2]]}]}, "anchors_px.0.1", id="below-0"
        ),
        pytest.param(
            {"heads": [{**HEAD, "anchors_px": [[1, 1e300]]}]}, "not all finite", id="beyond-float32"
        ),
        pytest.param({"heads": [{**HEAD, "stride": 16}, HEAD]}, "not ordered", id="order"),
        pytest.param({"input": {"width": 640, "height": 650}}, "multiple of stride 8", id="size"),
        pytest.param(
            {"heads": [{**HEAD, "stride": 7}, {**HEAD, "stride": 8}]},
            "multiple of stride 7",
            id="size-of-a-finer-head",
        ),
        pytest.param({"input": {"width": 10**9, "height": 640}}, "input.width", id="huge"),
        pytest.param(
            {"input": {"width": 16384, "height": 16384}, "heads": [{**HEAD, "stride": 1}]},
            "268435456 places .* more than 16777216",
            id="more-places-than-memory",
        ),
        pytest.param({"activation": "relu"}, "activation: Input should be 'none'", id="activation"),
    ],
)
def test_json_with_wrong_facts(changes, message):
    with pytest.raises(UserError, match=message):
        Facts.from_json(facts_json(**changes), "here")


def test_the_largest_input_there_is():
    assert facts_of(PRESETS["coco-p5"], (16384, 16384)).head_shape(0)[2:] == (2048, 2048)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"surprise": 1}, "surprise: Extra inputs are not permitted", id="unknown"),
        pytest.param({"schema_version": 2}, "schema_version: Input should be 1", id="newer-schema"),
        pytest.param({"target": "rk3399"}, "target: Input should be 'rk3588'", id="target"),
        pytest.param({"precision": None}, "precision: Input should be", id="precision"),
        pytest.param({"thresholds": {"score": 1.5}}, "thresholds.score: Input", id="threshold"),
        pytest.param(
            {"thresholds": {"scores": 0.5}}, "thresholds.scores: Extra", id="threshold-key"
        ),
        pytest.param({"files": {"a": {"sha256": "0", "size": 1}}}, "files.a.sha256", id="hash"),
        pytest.param(
            {"files": {"a\0b": {"sha256": "0" * 64, "size": 1}}}, "match pattern", id="nul"
        ),
        pytest.param({"files": {"a": {"sha256": "0" * 64, "size": -1}}}, "files.a.size", id="size"),
    ],
)
def test_a_manifest_that_is_wrong(changes, message):
    plain = manifest_of(facts_of(), {}).model_dump(mode="json") | changes
    with pytest.raises(UserError, match=rf"^bundle/manifest.yaml: .*{message}"):
        Manifest.from_yaml(yaml.safe_dump(plain), ORIGIN)


def test_all_problems_are_told_at_once():
    plain = manifest_of(facts_of(), {}).model_dump(mode="json")
    plain["heads"][1]["stride"] = "wide"
    plain["input"]["colour"] = "RGB"
    del plain["agreement"]["f1"]
    with pytest.raises(UserError) as caught:
        Manifest.from_yaml(yaml.safe_dump(plain), ORIGIN)
    for key in ("heads.1.stride", "input.colour", "agreement.f1"):
        assert f"{key}: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "content: Input should be", id="empty"),
        pytest.param("- a\n- b", "content: Input should be", id="a-list"),
        pytest.param("a: &x [1]\nb: *x", "is no manifest: .* aliases and tags", id="aliases"),
        pytest.param("a: !!python/name:os.system x", "aliases and tags", id="python-tag"),
        pytest.param("[" * 100_000, "is no manifest: it is nested too deeply", id="nesting"),
        pytest.param("a: 2001-99-99", "is no manifest", id="no-date"),
        pytest.param("{", "is no manifest: it is not plain YAML", id="no-yaml"),
    ],
)
def test_hostile_manifests(text, message):
    start = time.monotonic()
    with pytest.raises(UserError, match=message):
        Manifest.from_yaml(text, ORIGIN)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "options",
    [
        {"score": -0.1},
        {"score": 1.1},
        {"score": float("nan")},
        {"iou": 2},
        {"max_detections": 0},
        {"class_score": {"a": 3}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_thresholds_refuse(options):
    with pytest.raises(ValueError, match="validation error"):
        Thresholds(**options)


def test_facts_know_their_maps():
    facts = facts_of(wh=(640, 320), classes=3)
    assert [facts.head_shape(i) for i in range(3)] == [
        (1, 24, 40, 80),
        (1, 24, 20, 40),
        (1, 24, 10, 20),
    ]
    assert facts.anchors == PRESETS["coco-p5"]
