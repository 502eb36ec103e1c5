"""Archives, tensors and module trees that would take all time or memory are refused."""

import io
import struct
import warnings
import zipfile

import pytest
import torch
from conftest import DATA
from hostile_pickles import named, text, tupled
from limited import assert_refused, outcome_of
from torch import nn
from torch_files import PICKLE, legacy, legacy_parts, members_of, with_pickle, zip_of, zipped
from torch_yolo import Concat, Conv, checkpoint_of, network, save

TINY = (DATA / "golden" / "checkpoints" / "v70_v3tiny.pt").read_bytes()
OLDER = (DATA / "golden" / "checkpoints" / "v50_s_legacy.pt").read_bytes()
FOLDER = "v70_v3tiny"


@pytest.fixture
def best(tmp_path):
    return tmp_path / "best.pt"


def storage(key, count, kind="FloatStorage"):
    """A storage's identifier."""
    name = named("torch", kind)
    number = b"\x8a\x09" + count.to_bytes(9, "little", signed=True)
    return tupled(text("storage"), name, text(key), text("cpu"), number) + b"Q"


# Containers.


def archive_of(members, compression=zipfile.ZIP_DEFLATED):
    return zip_of({f"{FOLDER}/{name}": content for name, content in members.items()}, compression)


def listed(*operations):
    return b"\x80\x02](" + b"".join(operations) + b"e."


def repeated_member(name):
    """An archive in which a member is there twice, of other content."""
    members = members_of(TINY)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{FOLDER}/{name}", b"\x80\x02N.")
    return stream.getvalue()


def overlapping():
    """An archive whose directory names one run of bytes many times."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(PICKLE, listed(*(storage(f"{i}", 1 << 18) for i in range(10))))
        archive.writestr("archive/data/0", bytes(1 << 20))
        first = archive.getinfo("archive/data/0")
        for i in range(1, 10):
            copy = zipfile.ZipInfo(f"archive/data/{i}")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(copy, name, getattr(first, name))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
    return stream.getvalue()


def lied_about(real, said):
    """An archive whose pickle inflates to more than it says."""
    data = bytearray(zip_of({PICKLE: bytes(real)}, zipfile.ZIP_DEFLATED))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(signature) + at
        data[place : place + 4] = struct.pack("<I", said)
    return bytes(data)


def lzma_of_4_gb():
    """A member whose decompressor is told to take four gigabytes for its dictionary."""
    data = bytearray(zip_of({PICKLE: b"N." * 1000}, zipfile.ZIP_LZMA))
    at = data.index(b"\x09\x04\x05\x00") + 5
    data[at : at + 4] = struct.pack("<I", (1 << 32) - 1)
    return bytes(data)


CONTAINERS = {
    "an inflated pickle": (
        lambda: zip_of({PICKLE: bytes(200 << 20)}, zipfile.ZIP_DEFLATED),
        r"says it has \d+ bytes",
    ),
    "an inflated pickle that is one": (
        lambda: zip_of({PICKLE: b"N0" * (30 << 20)}, zipfile.ZIP_DEFLATED),
        "far larger pickle",
    ),
    "a pickle that inflates to more than it says": (
        lambda: lied_about(200 << 20, 1000),
        "damaged or cut short",
    ),
    "a pickle that inflates to less than it says": (
        lambda: lied_about(1000, 60 << 20),
        "damaged or cut short",
    ),
    "an inflated storage": (
        lambda: archive_of(
            {"data.pkl": listed(storage("0", 50 << 20)), "data/0": bytes(200 << 20)}
        ),
        "its storages are larger than the file",
    ),
    "many inflated storages": (
        lambda: archive_of(
            {"data.pkl": listed(*(storage(f"{i}", 1 << 20) for i in range(40)))}
            | {f"data/{i}": bytes(4 << 20) for i in range(40)}
        ),
        "its storages are larger than the file",
    ),
    "one storage over and over": (overlapping, "damaged or cut short .*(overlap|Overlap)"),
    "a pickle that is there twice": (
        lambda: repeated_member("data.pkl"),
        "two of its members have one name",
    ),
    "a storage that is there twice": (
        lambda: repeated_member("data/0"),
        "two of its members have one name",
    ),
    "a compression that takes 4 GB": (lzma_of_4_gb, "compressed in another way than torch does"),
    "another compression": (
        lambda: zip_of({PICKLE: b"N."}, zipfile.ZIP_BZIP2),
        "compressed in another way than torch does",
    ),
    "a storage larger than its member": (
        lambda: zipped(listed(storage("0", 1000)), **{"archive/data/0": bytes(40)}),
        "has 40 bytes, 4000 were expected",
    ),
    "a storage that is not there": (
        lambda: zipped(listed(storage("0", 1000))),
        "damaged or cut short .*archive/data/0",
    ),
    "a storage of two sizes": (
        lambda: zipped(listed(storage("0", 1), storage("0", 2)), **{"archive/data/0": bytes(4)}),
        "damaged",
    ),
    "a storage outside the archive": (
        lambda: zipped(listed(storage("../../../../etc/passwd", 100))),
        "damaged or cut short",
    ),
    "older: a storage larger than the file": (
        lambda: legacy(listed(storage("0", 1 << 40)), struct.pack("<q", 1 << 40), ["0"]),
        "a storage of 1099511627776 numbers is cut short",
    ),
    "older: a storage of less than nothing": (
        lambda: legacy(listed(storage("0", 1)), struct.pack("<q", -1) + bytes(4), ["0"]),
        "a storage of 1 numbers is cut short",
    ),
    "older: keys over and over": (
        lambda: legacy(listed(storage("0", 0)), bytes(8) * 100_000, ["0"] * 100_000),
        "its list of storages is not that of its pickle",
    ),
    "older: a key that nobody asked for": (
        lambda: legacy(listed(), bytes(8), ["0"]),
        "its list of storages is not that of its pickle",
    ),
}


@pytest.mark.parametrize("make, reason", CONTAINERS.values(), ids=CONTAINERS)
def test_containers(make, reason, best):
    best.write_bytes(make())
    assert_refused(best, reason)


@pytest.mark.parametrize("data", [TINY, OLDER], ids=["zip", "older"])
def test_the_limits_leave_room_for_a_checkpoint(data, best):
    best.write_bytes(data)
    assert outcome_of(best) == "a model"


def test_a_compressed_checkpoint_is_read(best):
    best.write_bytes(zip_of(members_of(TINY), zipfile.ZIP_DEFLATED))
    assert outcome_of(best) == "a model"


# Tensors.

REBUILT = named("torch._utils", "_rebuild_tensor_v2")
HOOKS = named("collections", "OrderedDict") + b")R"


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def tensor(count, offset, size, stride):
    parts = [storage("0", count), number(offset), tupled(*map(number, size))]
    return REBUILT + tupled(*parts, tupled(*map(number, stride)), b"\x89", HOOKS) + b"R"


def model_of(*tensors):
    """A checkpoint that is a module with these tensors among its buffers."""
    buffers = b"}(" + b"".join(text(f"b{i}") + one for i, one in enumerate(tensors)) + b"u"
    state = b"}(" + text("_modules") + b"}" + text("_buffers") + buffers + b"u"
    return b"\x80\x02" + named("models.yolo", "Model") + b")\x81" + state + b"b."


OVER = "damaged: a tensor of [0-9]+ numbers does not fit its storage of 1000"
STRANGE = "_rebuild_tensor_v2 with unexpected arguments"

TENSORS = {
    "repeated by a stride of zero": (tensor(1000, 0, (1 << 40,), (0,)), OVER),
    "repeated in two directions": (tensor(1000, 0, (1000, 1000), (0, 0)), OVER),
    "overlapping itself": (tensor(1000, 0, (500, 500), (1, 1)), OVER),
    "larger than its storage": (tensor(1000, 0, (1001,), (1,)), OVER),
    "behind its storage": (tensor(1000, 1, (1000,), (1,)), OVER),
    "far behind its storage": (tensor(1000, 1 << 47, (1,), (1,)), OVER),
    "of steps beyond its storage": (tensor(1000, 0, (2,), (1 << 47,)), OVER),
    "before its storage": (tensor(1000, -1, (1,), (1,)), STRANGE),
    "backwards": (tensor(1000, 999, (1000,), (-1,)), STRANGE),
    "of less than nothing": (tensor(1000, 0, (-1,), (1,)), STRANGE),
    "of sizes beyond counting": (tensor(1000, 0, (1 << 60,), (0,)), STRANGE),
    "of many sizes": (tensor(1000, 0, (1 << 40,) * 8, (0,) * 8), OVER),
    "of too many dimensions": (tensor(1000, 0, (1,) * 9, (1,) * 9), STRANGE),
    "of two kinds of dimensions": (tensor(1000, 0, (1, 1), (1,)), STRANGE),
    "of nothing, but large": (tensor(1000, 0, (0, 1 << 47, 1 << 47), (1, 1, 1)), "damaged: "),
}


@pytest.mark.parametrize("one, reason", TENSORS.values(), ids=TENSORS)
def test_tensors(one, reason, best):
    best.write_bytes(zipped(model_of(one), **{"archive/data/0": bytes(4000)}))
    assert_refused(best, reason)


@pytest.mark.parametrize("count, views", [(1 << 22, 1000), (1 << 10, 50_000)], ids=["big", "many"])
def test_tensors_that_share_a_storage_over_and_over(count, views, best):
    content = model_of(*[tensor(count, 0, (count,), (1,))] * views)
    best.write_bytes(zipped(content, **{"archive/data/0": bytes(4 * count)}))
    assert_refused(best, "damaged: its weights overlap")


def test_half_precision_that_inflates(best):
    """Compressed to little, and twice as large in float32."""
    count = 30 << 20
    content = model_of(tensor(count, 0, (count,), (1,))).replace(b"FloatStorage", b"HalfStorage")
    members = {PICKLE: content, "archive/data/0": bytes(2 * count)}
    best.write_bytes(zip_of(members, zipfile.ZIP_DEFLATED))
    assert_refused(best, "holds a models.yolo.Model, not a YOLOv5 model")


# Module trees and attributes.


def nested(levels, times):
    """A layer that is part of another, so often, and that one of the next."""
    layer = nn.Identity()
    for _ in range(levels):
        layer = nn.Sequential(*[layer] * times)
    return layer


def with_layer(layer):
    model = network([Conv(3, 8, 3, 2), nn.Identity()])
    layer.i, layer.f = 1, -1
    model.model[1] = layer
    return model


def part_of_itself():
    layer = nn.Sequential(nn.Identity())
    layer.append(layer)
    return layer


def of_many(count):
    return nn.Sequential(*(nn.Identity() for _ in range(count)))


def sharing(parameters, times):
    """Layers that all have the same dictionary of other things for parameters."""
    layer = nn.Sequential(*(nn.Identity() for _ in range(times)))
    shared = dict.fromkeys(map(str, range(parameters)))
    for part in layer:
        part.__dict__["_parameters"] = shared
    return layer


NO_NETWORK = "damaged: its module tree is not that of a network"

TREES = {
    "part of itself": (part_of_itself, NO_NETWORK),
    "doubled forty times": (lambda: nested(40, 2), NO_NETWORK),
    "thousandfold thrice": (lambda: nested(3, 1000), NO_NETWORK),
    "a hundred deep": (lambda: nested(100, 1), NO_NETWORK),
    "of many parts": (lambda: of_many(20_000), NO_NETWORK),
    "of parts that share state": (lambda: sharing(50_000, 5000), NO_NETWORK),
}


@pytest.mark.parametrize("make, reason", TREES.values(), ids=TREES)
def test_trees(make, reason, best):
    save(checkpoint_of(with_layer(make())), best)
    assert_refused(best, reason)


def test_a_tree_that_is_only_large(best):
    save(checkpoint_of(with_layer(of_many(2000))), best)
    assert outcome_of(best) == "a model"


def test_weights_that_are_part_of_the_model_over_and_over(best):
    layer = nn.Sequential(*[nn.Sequential(*[nn.Conv2d(8, 8, 9, padding=4)] * 50)] * 50)
    save(checkpoint_of(with_layer(layer)), best)
    assert_refused(best, "damaged: its weights overlap")


def laughs(levels):
    """A small value that is enormous when written out."""
    value = ["ha", "ha"]
    for _ in range(levels):
        value = [value, value]
    return value


def in_itself():
    value = [1, 2]
    value.append(value)
    return value


VALUES = {"laughs": lambda: laughs(60), "in itself": in_itself, "a number": lambda: 10**100_000}

PLACES = {
    "names": lambda model, value: setattr(model, "names", value),
    "an option": lambda model, value: setattr(model, "hyp", {"a": value}),
    "a yaml": lambda model, value: setattr(model, "yaml", {"anchors": value}),
    "sources": lambda model, value: setattr(model.model[1], "f", value),
    "a stride": lambda model, value: setattr(model.model[0].conv, "stride", value),
    "a dilation": lambda model, value: setattr(model.model[0].conv, "dilation", value),
    "a padding": lambda model, value: setattr(model.model[0].conv, "padding", value),
    "a padding mode": lambda model, value: setattr(model.model[0].conv, "padding_mode", value),
    "groups": lambda model, value: setattr(model.model[0].conv, "groups", value),
    "a shortcut": lambda model, value: setattr(model.model[1], "d", value),
    "strides of the head": lambda model, value: setattr(model.model[-1], "stride", value),
    "a number of classes": lambda model, value: setattr(model.model[-1], "nc", value),
    "epsilon": lambda model, value: setattr(model.model[0].bn, "eps", value),
}

HARMLESS = [PLACES[name] for name in ("names", "an option", "a yaml")]


@pytest.mark.parametrize("change", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_attributes(change, value, best):
    model = network([Conv(3, 8, 3, 2), ([-1, -1], Concat())])
    change(model, value())
    save(checkpoint_of(model), best)
    if change in HARMLESS:
        assert outcome_of(best) == "a model"
    else:
        assert_refused(best, ".")


def test_the_pickle_may_end_early(best):
    head, content, tail = legacy_parts(OLDER)
    best.write_bytes(head + content[:-1])
    assert_refused(best, "damaged")
    best.write_bytes(with_pickle(TINY, lambda content: content[:-1]))
    assert_refused(best, "damaged")
    best.write_bytes(head + content + tail[:3])
    assert_refused(best, "damaged")


def test_an_upsampled_map_that_no_memory_holds(best):
    layers = [nn.Upsample(scale_factor=16) for _ in range(10)]
    model = network([Conv(3, 8, 3, 2), *(nn.Identity() for _ in layers)])
    for i, layer in enumerate(layers, 1):
        layer.i, layer.f = i, -1
        model.model[i] = layer
    with torch.no_grad():
        save(checkpoint_of(model), best)
    assert_refused(best, "which no memory holds")
