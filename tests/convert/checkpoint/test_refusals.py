"""Files that are no YOLOv5 detection checkpoint are refused, saying what they are instead."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA
from torch import nn
from torch_files import legacy, members_of, with_pickle, zip_of, zipped
from torch_yolo import Conv, Detect, Focus, checkpoint_of, network, save, yolo_names

from convert.checkpoint import read_checkpoint
from runtime.errors import UserError

GOLDEN = DATA / "golden" / "checkpoints"


def model():
    return network([Conv(3, 8, 3, 2), Conv(8, 8, 3, 2)], (0, 1))


@pytest.fixture
def best(tmp_path):
    return tmp_path / "best.pt"


def assert_refused(path, reason):
    with pytest.raises(UserError, match=f"(?s)^(cannot read )?{path}.*{reason}") as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable()


# What is given instead of a checkpoint.

TINY = (GOLDEN / "v70_v3tiny.pt").read_bytes()
OLDER = (GOLDEN / "v50_s_legacy.pt").read_bytes()

FILES = {
    "empty": (b"", "no torch checkpoint"),
    "text": (b"epoch, loss\n1, 0.5\n", "no torch checkpoint: give the best.pt"),
    "a page": (b"<!DOCTYPE html><html>not found</html>", "no torch checkpoint"),
    "zeros": (bytes(10_000), "no torch checkpoint"),
    "random bytes": (np.random.default_rng(0).bytes(10_000), "no torch checkpoint"),
    "random bytes like a pickle": (b"\x80\x02" + np.random.default_rng(1).bytes(9999), "damaged"),
    "random bytes like a zip": (b"PK\x03\x04" + np.random.default_rng(2).bytes(9999), "damaged"),
    "a pickle": (pickle.dumps({"model": 1}), "no torch checkpoint"),
    "the magic number alone": (OLDER[:15], "damaged"),
    "a zip of something else": (zip_of({"a/b.txt": b"x"}), "zip archive but no torch checkpoint"),
    "an empty zip": (zip_of({}), "zip archive but no torch checkpoint: it has 0"),
    "two checkpoints in one": (
        zip_of({"a/data.pkl": b"N.", "b/data.pkl": b"N."}),
        "it has 2 data.pkl",
    ),
    "a zip, cut in its directory": (TINY[:-30], r"damaged or cut short \(.*\): copy it again"),
    "a zip, cut in half": (TINY[: len(TINY) // 2], "damaged or cut short"),
    "older, cut in its pickle": (OLDER[:5000], "damaged"),
    "older, cut between": (OLDER[:-200_000], "damaged or cut short .*is cut short"),
    "older, cut at its end": (OLDER[:-1], "damaged or cut short"),
    "a checkpoint of a number": (zipped(pickle.dumps(1.5, 2)), "holds a float, not a YOLOv5 model"),
    "a checkpoint of a list": (legacy(pickle.dumps([1], 2)), "holds a list"),
    "a checkpoint of nothing": (zipped(pickle.dumps({}, 2)), "holds no model"),
    "a checkpoint without a model": (
        zipped(pickle.dumps({"epoch": 1, "a\nb": 2, 3: 4}, 2)),
        r"holds no model \(its keys are: epoch, a\?b, 3\): give the best.pt",
    ),
    "a checkpoint of another machine": (
        zipped(pickle.dumps({}, 2), **{"archive/byteorder": b"big"}),
        "big-endian",
    ),
}


@pytest.mark.parametrize("content, reason", FILES.values(), ids=FILES)
def test_other_files(content, reason, best):
    best.write_bytes(content)
    assert_refused(best, reason)


def test_a_folder_and_a_file_that_is_not_there(tmp_path):
    assert_refused(tmp_path, "is no file")
    assert_refused(Path(os.devnull), "is no file")
    assert_refused(tmp_path / "missing.pt", "No such file or directory")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(best):
    best.write_bytes(TINY)
    best.chmod(0)
    assert_refused(best, "Permission denied")


def test_torchscript(best):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(nn.Conv2d(3, 4, 1), torch.rand(1, 3, 8, 8)), str(best))
    assert_refused(
        best, "TorchScript archive.*give the best.pt that train.py wrote, or export ONNX"
    )


WEIGHTS = {
    "alone": lambda weights: weights,
    "as parameters": lambda weights: {k: nn.Parameter(v) for k, v in weights.items()},
    "as model": lambda weights: {"epoch": 3, "model": weights},
    "as ema": lambda weights: {"ema": weights, "model": None},
    "as both": lambda weights: {"ema": weights, "model": weights},
    "as state_dict": lambda weights: {"state_dict": weights},
    "as model_state_dict": lambda weights: {"epoch": 3, "model_state_dict": dict(weights)},
    "as weights": lambda weights: {"meta": {}, "weights": weights},
}


@pytest.mark.parametrize("form", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_without_a_network(form, best):
    weights = {k: v for k, v in model().state_dict().items() if v.is_floating_point()}
    save(form(weights), best)
    assert_refused(best, r"only weights \(a state dict\).*give the best.pt")


# Other networks.


def with_head(change, kind="Detect", more=()):
    """A saved model whose head was changed, under another class name if one is given."""

    def write(path):
        changed = model()
        head = changed.model[-1]
        cls = type(kind, (Detect,), {})
        head.__class__ = cls
        change(head)
        with yolo_names(more=[cls, *more]):
            torch.save(checkpoint_of(changed), path)

    return write


def convs(*channels):
    return nn.ModuleList(nn.Conv2d(8, c, 1) for c in channels)


def anchor_free(head):
    head.cv2, head.cv3, head.dfl = convs(64, 64), convs(2, 2), nn.Conv2d(16, 1, 1)
    head.reg_max = 16
    del head.m, head.anchors


def classifier(head):
    head.conv, head.pool = Conv(8, 16), nn.AdaptiveAvgPool2d(1)
    head.drop, head.linear = nn.Dropout(), nn.Linear(16, 10)
    del head.m, head.anchors, head.stride


def segmentation(head):
    head.nm, head.npr, head.proto, head.m = 4, 8, Conv(8, 4), convs(22, 22)


def implicit(head):
    head.ia, head.im = nn.ModuleList([nn.Identity()] * 2), nn.ModuleList([nn.Identity()] * 2)


def decoupled(head):
    head.m = nn.ModuleList(nn.Sequential(Conv(8, 8), nn.Conv2d(8, 14, 1)) for _ in range(2))


def set_to(**values):
    """Sets attributes; a buffer or a part is set as that."""

    def change(head):
        for name, value in values.items():
            setattr(head, name, value)

    return change


HEADS = {
    "YOLOv8": (with_head(anchor_free), "anchor-free .YOLOv8 or later.*model zoo"),
    "YOLOv10": (
        with_head(lambda head: (anchor_free(head), setattr(head, "one2one_cv2", convs(4)))),
        "anchor-free",
    ),
    "classification": (with_head(classifier, "Classify"), "classification head .*Classify"),
    "segmentation": (with_head(segmentation, "Segment"), "segmentation head .*detection models"),
    "segmentation of another name": (with_head(segmentation), "segmentation head"),
    "YOLOv7": (with_head(implicit, "IDetect"), "YOLOv7 head .*implicit layers"),
    "keypoint branch": (
        with_head(lambda head: setattr(head, "m_kpt", convs(51, 51))),
        "keypoint or landmark head .*plain box heads only",
    ),
    "keypoint attribute": (with_head(set_to(nkpt=17)), "keypoint or landmark head"),
    "keypoint class": (with_head(lambda head: None, "PoseKeypointDetect"), "keypoint or landmark"),
    "landmark channels": (
        with_head(set_to(m=convs(34, 34))),
        r"34 channels, and 2 anchors with 2 classes need 2 x \(5 \+ 2\): it is a landmark",
    ),
    "rotated boxes": (with_head(set_to(m=convs(374, 374))), "374 channels.*rotated-box"),
    "other classes than it says": (with_head(set_to(nc=3)), r"14 channels.*need 2 x \(5 \+ 3\)"),
    "no number of classes": (with_head(lambda head: delattr(head, "nc")), "with None classes"),
    "channels of two kinds": (with_head(set_to(m=convs(14, 16))), "14, 16 channels"),
    "decoupled": (with_head(decoupled), "Sequential, not one 1x1 conv.*decoupled"),
    "3x3 output": (with_head(set_to(m=nn.ModuleList([nn.Conv2d(8, 14, 3)] * 2))), "not one 1x1"),
    "linear output": (with_head(set_to(m=nn.ModuleList([nn.Linear(8, 14)] * 2))), "not one 1x1"),
    "parts besides": (
        with_head(lambda head: setattr(head, "fusion", Conv(8, 8))),
        r"head models\.common\.Detect has parts besides its output convolutions \(fusion\)",
    ),
    "no anchors": (with_head(lambda head: delattr(head, "anchors")), "does not end in a YOLOv5"),
    "no convolutions": (with_head(lambda head: delattr(head, "m")), "does not end in a YOLOv5"),
    "strides missing": (with_head(lambda head: delattr(head, "stride")), "strides are missing"),
    "strides of text": (with_head(set_to(stride="8, 16")), "strides are missing or no whole"),
    "strides of zero": (with_head(set_to(stride=torch.zeros(2))), "no whole numbers"),
    "strides with a fraction": (with_head(set_to(stride=[8.5, 16.0])), "no whole numbers"),
    "strides below zero": (with_head(set_to(stride=[-8, 16])), "no whole numbers"),
    "strides that are no numbers": (with_head(set_to(stride=[float("nan"), 16.0])), "not usable"),
    "strides too large": (with_head(set_to(stride=[8, 4096])), r"strides \[8.0, 4096.0\] are not"),
    "strides enormous": (with_head(set_to(stride=[8, 10**400])), "strides are missing or no"),
    "strides too few": (with_head(set_to(stride=[8])), "2 convolutions, 2 inputs, 1 strides and 2"),
    "anchors too few": (
        with_head(set_to(anchors=torch.ones(1, 2, 2))),
        "2 inputs, 2 strides and 1 rows of anchors, which should be one number",
    ),
    "anchors of a bad shape": (with_head(set_to(anchors=torch.ones(6))), r"shape \(6,\), not"),
    "anchors of no size": (with_head(set_to(anchors=torch.ones(2, 0, 2))), "anchors have shape"),
    "anchors of zero": (with_head(set_to(anchors=torch.zeros(2, 2, 2))), "unusable anchors"),
    "anchors below zero": (with_head(set_to(anchors=-torch.ones(2, 2, 2))), "unusable anchors"),
    "anchors that are no numbers": (
        with_head(set_to(anchors=torch.full((2, 2, 2), float("nan")))),
        "unusable anchors",
    ),
    "anchors too large": (
        with_head(set_to(anchors=torch.full((2, 2, 2), 3e38))),
        "unusable anchors",
    ),
}


@pytest.mark.parametrize("write, reason", HEADS.values(), ids=HEADS)
def test_other_heads(write, reason, best):
    write(best)
    assert_refused(best, reason)


class IterableSimpleNamespace:
    def __reduce__(self):
        return IterableSimpleNamespace, (), {"lr0": 0.01}


def test_a_last_checkpoint_of_yolov8_with_its_options(best):
    """Its options are pickled as a call without arguments; the reason is the head all the same."""

    def change(head):
        anchor_free(head)
        head.args = IterableSimpleNamespace()

    with_head(change, more=[IterableSimpleNamespace])(best)
    name = b"cmodels.common\nIterableSimpleNamespace\n"
    assert name in members_of(best.read_bytes())["best/data.pkl"]
    assert_refused(best, "asks for a call of models.common.IterableSimpleNamespace")
    renamed = b"cultralytics.utils\nIterableSimpleNamespace\n"
    best.write_bytes(with_pickle(best.read_bytes(), lambda c: c.replace(name, renamed)))
    assert_refused(best, "anchor-free")


def test_six_heads(best):
    layers = [Conv(3, 8, 3, 2), *(Conv(8, 8, 3, 2) for _ in range(5))]
    save(checkpoint_of(network(layers, range(6))), best)
    assert_refused(best, "has 6 heads; one to five are supported")


@pytest.mark.parametrize(
    "layers, channels, reason",
    [
        ([Conv(4, 8, 3, 2)], 4, "takes 4 channels; only 3 .RGB. and 1 .grey."),
        ([Conv(6, 8, 3, 2)], 6, "takes 6 channels"),
        ([Focus(4, 8)], 4, "takes 4 channels"),
        ([nn.Conv2d(8, 8, 2, 2, groups=2)], 8, "takes 8 channels"),
    ],
    ids=["four", "two cameras", "focus", "groups"],
)
def test_other_inputs(layers, channels, reason, best):
    save(checkpoint_of(network(layers, channels=channels)), best)
    assert_refused(best, reason)


@pytest.mark.parametrize("source", [None, "all", [0, 1], 5, -3, [], [0.0], [True], {0: 1}], ids=str)
def test_layers_that_do_not_say_what_they_take(source, best):
    changed = model()
    changed.model[1].f = source
    save(checkpoint_of(changed), best)
    assert_refused(best, r"layer 1 \(models.common.Conv\) does not say which layers it takes")


def test_other_modules(best):
    save({"model": nn.Sequential(nn.Conv2d(3, 4, 1))}, best)
    assert_refused(best, r"holds a torch\.nn\.modules\.container\.Sequential, not a YOLOv5 model")


def damaged(change):
    def write(path):
        changed = model()
        with torch.no_grad():
            change(changed)
        save(checkpoint_of(changed), path)

    return write


def set_all(value):
    def change(changed):
        for parameter in changed.parameters():
            parameter.fill_(value)

    return change


NOT_FINITE = {
    "one": (lambda m: m.model[1].conv.weight[0, 0].fill_(float("nan")), r"1 of .*model\.1\.conv"),
    "a minus": (lambda m: m.model[0].bn.bias[0].fill_(-float("inf")), r"model\.0\.bn\.bias"),
    "statistics": (lambda m: m.model[0].bn.running_var.fill_(float("inf")), r"running_var"),
    "in the head": (lambda m: m.model[-1].m[0].bias.fill_(float("nan")), r"model\.2\.m\.0\.bias"),
    "all": (set_all(float("nan")), r"\(every weight\)"),
    "all infinite": (set_all(float("inf")), r"\(every weight\)"),
}


@pytest.mark.parametrize("change, reason", NOT_FINITE.values(), ids=NOT_FINITE)
def test_weights_that_are_no_numbers(change, reason, best):
    damaged(change)(best)
    assert_refused(best, f"NaN or infinite numbers .*{reason}.*diverged, use an earlier checkpoint")


@pytest.mark.parametrize(
    "name", ["a.b", "a/b", "", "a\x1bb", "\udc80", "x" * 101, 7, None], ids=ascii
)
def test_parts_whose_names_torch_does_not_allow(name, best):
    changed = model()
    parts = changed.model[0]._modules
    parts[name] = parts.pop("act")
    save(checkpoint_of(changed), best)
    assert_refused(best, "damaged: a part of the network has an unreadable name")


@pytest.mark.parametrize("missing", ["data.pkl", "data/0"])
def test_a_member_is_missing(missing, best):
    members = members_of(TINY)
    best.write_bytes(zip_of({n: c for n, c in members.items() if not n.endswith(f"/{missing}")}))
    assert_refused(best, "data.pkl|damaged or cut short")


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b""])
def test_a_storage_of_another_size(change, best):
    members = members_of(TINY)
    name = next(n for n in members if n.endswith("/data/0"))
    best.write_bytes(zip_of(members | {name: change(members[name])}))
    assert_refused(best, "damaged or cut short .* were expected")


def test_a_wrong_checksum(best):
    at = TINY.index(members_of(TINY)["v70_v3tiny/data/1"])
    best.write_bytes(TINY[:at] + bytes([TINY[at] ^ 1]) + TINY[at + 1 :])
    assert_refused(best, "damaged or cut short .*CRC")
