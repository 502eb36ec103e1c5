import copy
import json
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_files import rknn_bytes, rknn_description

from runtime.errors import UserError
from runtime.rknn_file import read_rknn

ORIGIN = Path("some/model.rknn")
FACTS = '{"rkyolo":1,"more":"facts"}'
OUTPUTS = (("small", (1, 255, 80, 60)), ("large", (1, 255, 40, 30)))


def test_the_format_of_the_rk3588():
    found = read_rknn(rknn_bytes(rknn_description(OUTPUTS), FACTS), ORIGIN)
    assert (found.format_version, found.target, found.toolkit) == (6, "rk3588", "2.5.0")
    assert found.custom_string == FACTS
    assert found.outputs == (
        ("small", (1, 255, 80, 60), "int8"),
        ("large", (1, 255, 40, 30), "int8"),
    )


def test_the_format_of_the_rv1103():
    data = rknn_bytes(rknn_description(OUTPUTS, "rv1103"), version=0x1004)
    found = read_rknn(data, ORIGIN)
    assert (found.format_version, found.target) == (0x1004, "rv1103")
    assert [output.name for output in found.outputs] == ["small", "large"]


def test_the_first_generation_has_another_header_and_another_order_of_sizes():
    whcn = [(name, size[::-1]) for name, size in OUTPUTS]
    description = rknn_description(whcn, "RK1808", "VSI_NN_TYPE_UINT8")
    found = read_rknn(rknn_bytes(description, version=1), ORIGIN)
    assert (found.format_version, found.target) == (1, "RK1808")
    assert found.outputs[0] == ("small", (1, 255, 80, 60), "uint8")


def test_outputs_stand_in_the_graphs_order():
    description = rknn_description(OUTPUTS)
    description["norm_tensor"].reverse()
    assert [o.name for o in read_rknn(rknn_bytes(description), ORIGIN).outputs] == [
        "small",
        "large",
    ]


@pytest.mark.parametrize(
    ("custom", "found"),
    [
        pytest.param(None, None, id="none"),
        pytest.param("", None, id="empty"),
        pytest.param('{"someone":"else"}', None, id="someone-elses"),
        pytest.param(FACTS, FACTS, id="ours"),
        pytest.param(FACTS + "\0\0", FACTS, id="padded-with-zeros"),
    ],
)
def test_custom_strings(custom, found):
    assert read_rknn(rknn_bytes(custom_string=custom), ORIGIN).custom_string == found


@pytest.mark.parametrize("length", [0, 5, 2**31, 2**32 - 1])
def test_a_custom_string_that_lies_about_its_length(length):
    data = rknn_bytes(custom_string=FACTS)
    right = struct.pack("<I", len(FACTS)) + FACTS.encode()
    assert data.count(right) == 1
    data = data.replace(right, struct.pack("<I", length) + FACTS.encode())
    assert len(read_rknn(data, ORIGIN).custom_string) <= len(data)


@pytest.mark.parametrize(
    ("description", "target", "toolkit", "outputs"),
    [
        pytest.param({}, "unknown", "unknown", (), id="empty"),
        pytest.param({"target_platform": "rk3566"}, "rk3566", "unknown", (), id="no-list"),
        pytest.param({"target_platform": [], "version": 3}, "[]", "3", (), id="other-types"),
        pytest.param({"norm_tensor": 5, "graph": None}, "unknown", "unknown", (), id="no-lists"),
        pytest.param(
            {"norm_tensor": [{"tensor_id": []}], "graph": [{"right_tensor_id": []}]},
            "unknown",
            "unknown",
            (),
            id="lists-for-ids",
        ),
        pytest.param(
            {
                "norm_tensor": [{"tensor_id": 1, "size": 7, "dtype": "x"}],
                "graph": [{"left": "output", "right_tensor_id": 1}],
            },
            "unknown",
            "unknown",
            (("unknown", (), "unknown"),),
            id="a-tensor-of-nothing",
        ),
    ],
)
def test_what_is_not_said_is_unknown(description, target, toolkit, outputs):
    found = read_rknn(rknn_bytes(description), ORIGIN)
    assert (found.target, found.toolkit, found.outputs) == (target, toolkit, outputs)


GOOD = rknn_bytes(custom_string=FACTS)


def with_body_length(length):
    return GOOD[:16] + struct.pack("<Q", length) + GOOD[24:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "is not a .rknn file", id="empty"),
        pytest.param(b"RKNN", "is not a .rknn file", id="only-the-magic"),
        pytest.param(b"PK\3\4" + GOOD[4:], "is not a .rknn file", id="a-zip"),
        pytest.param(b"CYPTRKNN" + bytes(100), "is encrypted", id="encrypted"),
        pytest.param(b"CYPTRKNN", "is encrypted", id="encrypted-and-cut"),
        pytest.param(GOOD[:64], "damaged", id="only-the-header"),
        pytest.param(GOOD[:-1], "damaged", id="last-byte-missing"),
        pytest.param(GOOD[: len(GOOD) // 2], "damaged", id="half-of-it"),
        pytest.param(with_body_length(0), "damaged", id="body-of-nothing"),
        pytest.param(with_body_length(2**40), "damaged", id="body-beyond-the-end"),
        pytest.param(with_body_length(2**64 - 1), "damaged", id="body-beyond-all-memory"),
        pytest.param(with_body_length(2**64 - 64), "damaged", id="body-that-wraps-around"),
        pytest.param(rknn_bytes(b'{"version": "\xff\xfe"}'), "damaged", id="no-utf-8"),
        pytest.param(rknn_bytes(b"[" * 100_000), "damaged", id="nested"),
        pytest.param(rknn_bytes(b"9" * 5000), "damaged", id="a-long-number"),
        pytest.param(rknn_bytes([1, 2]), "is no JSON object", id="a-list"),
        pytest.param(rknn_bytes(b"null"), "is no JSON object", id="nothing"),
    ],
)
def test_refused(data, message):
    with pytest.raises(UserError, match=f"^some/model.rknn .*{message}"):
        read_rknn(data, ORIGIN)


STRANGE = [None, True, -1, 2**70, 1e308, "", "x", [], [[]], {}, {"tensor_id": {}}, [1, "a", None]]


def mutated_json(plain, rng):
    """A copy with one value, of whatever depth, replaced or removed."""
    plain = copy.deepcopy(plain)
    inner = plain
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = keys[rng.integers(len(keys))]
        if isinstance(inner[key], dict | list) and inner[key] and rng.random() < 0.75:
            inner = inner[key]
            continue
        if rng.random() < 0.2:
            del inner[key]
        else:
            inner[key] = STRANGE[rng.integers(len(STRANGE))]
        return plain


def mutated_bytes(data, rng):
    """A copy that is cut, or has bytes changed where the header and the description are."""
    data = bytearray(data)
    if rng.random() < 0.3:
        return bytes(data[: rng.integers(len(data))])
    for _ in range(rng.integers(1, 5)):
        near = rng.choice([rng.integers(64), len(data) - 1 - rng.integers(min(len(data), 2000))])
        data[near] = rng.integers(256)
    return bytes(data)


def outcome(data):
    try:
        read_rknn(data, ORIGIN)
    except UserError as error:
        assert "\n" not in str(error)
        return "refused"
    return "read"


def test_mutations_are_read_or_refused():
    rng = np.random.default_rng(0)
    plain = rknn_description(OUTPUTS)
    counts = Counter(outcome(mutated_bytes(GOOD, rng)) for _ in range(500))
    counts += Counter(outcome(rknn_bytes(mutated_json(plain, rng), FACTS)) for _ in range(500))
    assert counts["read"] > 300
    assert counts["refused"] > 300


EXPECTED = {
    "skeeser-quad-yolov5n_02.rknn": (6, "rk3588", "1.5.2+b642f30c", [255] * 3),
    "exie-luckfox-yolov5n.rknn": (0x1004, "rv1103", "1.6.0+81f21f4d", [255] * 3),
    "j094-mower-yolov5n_mower_640.rknn": (1, "RK1808", "1.7.1", [30] * 3),
    "tyt-elf-best.rknn": (6, "rk3588", "2.1.0+708089d1", [64, None, 1] * 3),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_files_that_other_people_published(name, shared):
    found = read_rknn((shared / "wild" / name).read_bytes(), ORIGIN)
    version, target, toolkit, channels = EXPECTED[name]
    assert (found.format_version, found.target, found.toolkit) == (version, target, toolkit)
    assert found.custom_string is None
    assert len(found.outputs) == len(channels)
    for output, expected in zip(found.outputs, channels, strict=True):
        assert expected in (None, output.shape[1])
        assert output.shape[0] == 1
        assert output.shape[2] == output.shape[3]
        assert output.type in ("int8", "uint8")


def test_every_published_file_is_expected(shared):
    sources = json.loads((shared / "wild" / "sources.json").read_text())
    assert {s["file"] for s in sources if s["file"].endswith(".rknn")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_mutations_of_them(name, shared):
    data = (shared / "wild" / name).read_bytes()
    rng = np.random.default_rng(1)
    counts = Counter(outcome(mutated_bytes(data, rng)) for _ in range(125))
    assert counts["read"] + counts["refused"] == 125
