"""Pickles that would take all time or memory are refused, quickly and in little of it."""

import struct

import pytest
from hostile_pickles import call, named, raw, stacked, text, tupled
from limited import assert_refused
from torch_files import legacy, zipped


def long(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def kept(operations):
    """Pushed, kept in the memo and thrown away; WHAT brings it back."""
    return operations + b"q\x010"


def mapping(pairs):
    return b"}(" + b"".join(pairs) + b"u"


def storage(count):
    """The identifier of a storage of that many numbers."""
    kind = named("torch", "FloatStorage")
    return tupled(text("storage"), kind, text("0"), text("cpu"), long(count)) + b"Q"


WHAT = b"h\x01"
MANY = 100_000
SET, LISTED, TUPLE = (named("builtins", name) for name in ("set", "list", "tuple"))
ORDERED, SIZES = named("collections", "OrderedDict"), named("torch", "Size")
ENCODE, PATH = named("_codecs", "encode"), named("pathlib", "Path")
DEVICE, DTYPE = named("torch", "device"), named("numpy", "dtype")
BUFFER, FLOATS = named("numpy.core.numeric", "_frombuffer"), call(DTYPE, text("f4"))
OBJECT = named("models.common", "Conv") + b")\x81"

DEEP = b")" + b"\x85" * 400_000
NOTHINGS = b"](" + b"N" * 400_000 + b"e"
ONES = b"](" + b"K\x01" * 400_000 + b"e"
NAMES = mapping(text(f"{i}") + b"N" for i in range(200_000))
SENTENCE = text("x" * 3_000_000)
NUMBER = long(1 << (8 * 40_000_000))

SIZE = "far larger pickle than any YOLOv5 checkpoint"
DAMAGED = "is damaged"
REFUSED = "is refused: it asks for"
WHOLE = "holds a [a-zA-Z]+, not a YOLOv5 model"

LENGTHS = {
    "a number of 2 GB": (b"\x8b\xff\xff\xff\x7f1", DAMAGED),
    "a number of less than nothing": (b"\x8b\xff\xff\xff\xff1", DAMAGED),
    "a number of many digits": (b"L" + b"9" * MANY + b"L\n", DAMAGED),
    "text of an exabyte": (b"\x8d" + struct.pack("<Q", 1 << 60) + b"a", DAMAGED),
    "text of more than can be counted": (b"\x8d" + b"\xff" * 8 + b"a", DAMAGED),
    "text of less than nothing": (b"T\xff\xff\xff\xffa", DAMAGED),
    "text that is no text": (b"X\x02\x00\x00\x00\xff\xff", DAMAGED),
    "bytes of a terabyte": (b"\x8e" + struct.pack("<Q", 1 << 40) + b"a", DAMAGED),
    "a byte array of a terabyte": (b"\x96" + struct.pack("<Q", 1 << 40) + b"a", DAMAGED),
    "a frame of a terabyte": (b"\x95" + struct.pack("<Q", 1 << 40) + b"N", WHOLE),
    "a memo far out": (b"Nr\xff\xff\xff\xff", WHOLE),
    "a memo farther out": (b"Np" + b"9" * 4000 + b"\n", WHOLE),
    "a memo beyond all digits": (b"Np" + b"9" * 5000 + b"\n", DAMAGED),
    "a memo that is empty": (b"h\x07", DAMAGED),
    "a storage of a terabyte": (storage(1 << 38), "its storages are larger than the file"),
    "a storage of more than can be counted": (storage(1 << 70), DAMAGED),
    "a storage of less than nothing": (storage(-4), DAMAGED),
}

OPERATIONS = {
    "ten million operations": (b"N0" * 5_000_000 + b"N", SIZE),
    "marks": (b"(" * 2_500_000, SIZE),
    "sets": (b"\x8f" * 2_500_000, SIZE),
    "dictionaries": (b"}" * 1_999_000, DAMAGED),
    "places in the memo": (b"N\x94" * 990_000, DAMAGED),
    "records": (kept(named("models.common", "Conv")) + (WHAT + b")\x81") * 660_000, DAMAGED),
    "a list of itself": (b"]" + b"2a" * 900_000, WHOLE),
}

DEPTH = {
    "a tuple": (DEEP, WHOLE),
    "a list": (b"]" * 400_000 + b"a" * 399_999, WHOLE),
    "a dictionary": (b"}" + (text("a") + b"}") * 400_000 + b"s" * 400_000, "holds no model"),
    "a list in itself": (b"]q\x01h\x01a", WHOLE),
    "a dictionary in itself": (b"}q\x01" + text("model") + b"h\x01s", "holds no model"),
    "a key": (b"}" + DEEP + b"Ns", REFUSED),
    "in a set": (b"\x8f(" + DEEP + b"\x90", REFUSED),
    "in a frozen set": (b"(" + DEEP + b"\x91", REFUSED),
    "in a called set": (call(SET, b"](" + DEEP + b"e"), REFUSED),
    "a key of a called dictionary": (call(ORDERED, b"]" + tupled(DEEP, b"N") + b"a"), REFUSED),
    "a class": (DEEP + b")R", REFUSED),
    "the name of a class": (DEEP + text("x") + b"\x93", DAMAGED),
    "an identifier": (DEEP + b"Q", DAMAGED),
    "in an identifier": (tupled(text("storage"), DEEP) + b"Q", DAMAGED),
    "a codec": (call(ENCODE, text("a"), DEEP), REFUSED),
    "keywords": (OBJECT[:-2] + b")" + DEEP + b"\x92", REFUSED),
    "a class with keywords": (DEEP + b")}" + text("a") + b"Ns\x92", REFUSED),
    "a shape": (call(BUFFER, raw(b""), FLOATS, DEEP, text("C")), REFUSED),
    "a type": (call(DTYPE, DEEP), REFUSED),
    "a dill type": (call(named("dill._dill", "_load_type"), DEEP), REFUSED),
    "state": (OBJECT + DEEP + b"b", "holds a Instance"),
}

COPIES = {
    "a list of a list": (kept(NOTHINGS) + call(LISTED, WHAT) * MANY, SIZE),
    "a tuple of a list": (kept(NOTHINGS) + call(TUPLE, WHAT) * MANY, SIZE),
    "a shape of a list": (kept(NOTHINGS) + call(SIZES, WHAT) * MANY, SIZE),
    "a set of a list": (kept(ONES) + call(SET, WHAT) * MANY, REFUSED),
    "a dictionary of a dictionary": (kept(NAMES) + call(ORDERED, WHAT) * MANY, SIZE),
    "arguments of a list": (kept(NOTHINGS) + (DEVICE + WHAT + b"R") * MANY, REFUSED),
    "arguments of a tuple": (
        kept(call(TUPLE, NOTHINGS)) + (DEVICE + WHAT + b"R") * MANY,
        SIZE,
    ),
    "a path of sentences": (kept(SENTENCE) + call(PATH, *[WHAT] * 1000), SIZE),
    "bytes of a sentence": (kept(SENTENCE) + call(ENCODE, WHAT, text("utf-8")) * MANY, SIZE),
    "state of a dictionary": (kept(NAMES) + (OBJECT + WHAT + b"b") * MANY, SIZE),
    "a shape of large numbers": (
        kept(NUMBER) + call(BUFFER, raw(b""), FLOATS, tupled(*[WHAT] * 8), text("C")),
        REFUSED,
    ),
    "a long name": (stacked("a" * 30_000_000, "b"), REFUSED),
    "a name over and over": (kept(text("a" * 30_000_000)) + (WHAT * 2 + b"\x930") * MANY, REFUSED),
    "a name of many parts": (named("a." * 10_000_000, "b"), REFUSED),
    "a type of many letters": (call(DTYPE, text("f" * 10_000_000)), REFUSED),
    "a method of many letters": (
        kept(text("f" * 3_000_000))
        + call(named("builtins", "getattr"), named("models.common", "Conv"), WHAT) * MANY,
        SIZE,
    ),
}

KEYS = {
    "a large number": (kept(NUMBER) + b"}" + (WHAT + b"Ns") * 600_000, REFUSED),
    "numbers that collide": (mapping(long(i * (2**61 - 1)) + b"N" for i in range(MANY)), REFUSED),
    "numbers without end": (
        mapping(b"J" + struct.pack("<i", i) + b"N" for i in range(500_000)),
        SIZE,
    ),
    "numbers in a set without end": (
        b"\x8f(" + b"".join(b"J" + struct.pack("<i", i) for i in range(500_000)) + b"\x90",
        SIZE,
    ),
    "numbers with one end": (
        mapping(long(i << 40) + b"N" for i in range(1, 19_000)),
        "holds no model",
    ),
    "fractions": (mapping(b"G" + struct.pack(">d", 2.0**i) + b"N" for i in range(9)), REFUSED),
    "tuples": (mapping([b"K\x01\x85N"] * MANY), REFUSED),
    "records": (b"}" + OBJECT + b"Ns", REFUSED),
    "lists": (b"}]Ns", REFUSED),
}  # fmt: skip

ATTACKS = {
    f"{kind}: {name}": attack
    for kind, attacks in {
        "lengths": LENGTHS,
        "operations": OPERATIONS,
        "depth": DEPTH,
        "copies": COPIES,
        "keys": KEYS,
    }.items()
    for name, attack in attacks.items()
}


@pytest.mark.parametrize("operations, reason", ATTACKS.values(), ids=ATTACKS)
def test_pickles(operations, reason, tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(zipped(b"\x80\x02" + operations + b"."))
    assert_refused(path, reason)


@pytest.mark.parametrize(
    "keys",
    [b"\x80\x02](" + DEEP + b"e.", b"\x80\x02](" + b"N" * 1_900_000 + b"e.", b"\x80\x02}."],
    ids=["deep", "many", "no list"],
)
def test_the_list_of_keys_in_the_older_format(keys, tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(legacy(b"\x80\x02N.")[: -len(b"\x80\x02]q\x00.")] + keys)
    assert_refused(path, "its list of storages is not that of its pickle")
