"""What releases, forks and other tools leave in checkpoints, and read_checkpoint makes of it."""

import argparse
import collections
import datetime
import pathlib
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch_files import members_of, with_pickle
from torch_yolo import (
    C3,
    C3TR,
    Bottleneck,
    Conv,
    Focus,
    checkpoint_of,
    network,
    save,
    yolo_names,
)

from convert.checkpoint import read_checkpoint
from runtime.errors import UserError


@pytest.fixture
def model():
    return network([Conv(3, 8, 3, 2), C3(8, 8), Conv(8, 8, 3, 2)], (1, 2))


@pytest.fixture
def best(tmp_path):
    return tmp_path / "best.pt"


def assert_is(checkpoint, model):
    """That a checkpoint has all of a model's weights, in their places, and its anchors."""
    parts = {layer.number: layer.module for layer in checkpoint.layers}
    arrays = {
        f"model.{number}.{place}.{name}".replace("..", "."): array
        for number, part in parts.items()
        for place, module in part.walk()
        for name, array in module.tensors().items()
    }
    expected = {
        name: tensor.float().numpy()
        for name, tensor in model.state_dict().items()
        if not name.startswith(f"model.{len(parts)}.")
    }
    assert arrays.keys() == expected.keys() and len(arrays) > 10
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, name)
    detect = model.model[-1]
    for conv, expected in zip(checkpoint.head.convs, detect.m, strict=True):
        np.testing.assert_array_equal(conv.parameters["weight"], expected.weight.detach().float())
    for head, anchors, stride in zip(
        checkpoint.anchors.heads, detect.anchors.float(), detect.stride, strict=True
    ):
        assert head.stride == stride
        np.testing.assert_allclose(head.wh_px, anchors * stride, rtol=1e-6)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("newer", [True, False], ids=["zip", "older"])
def test_both_formats_and_every_protocol(model, best, protocol, newer):
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": newer}
    save(checkpoint_of(model), best, **options)
    assert best.read_bytes().startswith(b"PK") == newer
    assert_is(read_checkpoint(best), model)


def test_the_older_format_holds_the_source_of_its_classes(model, best):
    save(checkpoint_of(model), best, _use_new_zipfile_serialization=False)
    assert b"class Bottleneck(nn.Module):" in best.read_bytes()
    assert_is(read_checkpoint(best), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("newer", [True, False], ids=["zip", "older"])
def test_weights_of_any_precision(model, best, dtype, newer):
    save(checkpoint_of(model.to(dtype)), best, _use_new_zipfile_serialization=newer)
    checkpoint = read_checkpoint(best)
    assert_is(checkpoint, model)
    assert checkpoint.half == (dtype == torch.float16)


def test_float64_that_float32_cannot_hold_is_refused(model, best):
    model.double().model[0].conv.weight.data[0] = 1e300
    save(checkpoint_of(model), best)
    with pytest.raises(UserError, match=r"infinite numbers .*model\.0\.conv\.weight"):
        read_checkpoint(best)


@pytest.mark.parametrize("wrap", [nn.DataParallel], ids=["DataParallel"])
def test_a_wrapped_model(model, best, wrap):
    save(checkpoint_of(wrap(model)), best)
    assert_is(read_checkpoint(best), model)


@pytest.mark.parametrize("name", ["AutoShape", "autoShape", "DetectMultiBackend"])
def test_a_model_for_use_from_torch_hub(model, best, name):
    wrapper = type(name, (nn.Module,), {})
    hub = wrapper()
    hub.model = model
    with yolo_names(more=[wrapper]):
        torch.save(hub, best)
    assert_is(read_checkpoint(best), model)


def test_a_bare_model(model, best):
    save(model, best)
    assert_is(read_checkpoint(best), model)


def test_a_model_with_suppression_behind_it(model, best):
    """As Model.nms() of the releases up to v5.0 leaves it."""
    suppression = type("NMS", (nn.Module,), {})
    model.model[-1].register_buffer("anchor_grid", torch.ones(2, 1, 2, 1, 1, 2))
    model.model.append(suppression())
    model.model[-1].f, model.model[-1].i = -1, 4
    with yolo_names(more=[suppression]):
        torch.save(checkpoint_of(model), best)
    found = read_checkpoint(best)
    assert found.looks_like == "v4.0 or v5.0" and len(found.layers) == 3
    np.testing.assert_array_equal(found.anchors.heads[0].wh_px, np.ones((2, 2)))


class ModelEMA:
    def __init__(self, ema):
        self.ema, self.updates = ema, 7


@pytest.mark.parametrize(
    "form",
    [lambda m: m, lambda m: (m, 100), lambda m: [m, 100], ModelEMA],
    ids=["alone", "with updates", "in a list", "as a ModelEMA"],
)
def test_the_ema_comes_first(model, best, form):
    ema = network([Conv(3, 8, 3, 2), C3(8, 8), Conv(8, 8, 3, 2)], (1, 2), seed=1)
    with yolo_names(more=[ModelEMA]):
        torch.save(checkpoint_of(model, ema=form(ema)), best)
    checkpoint = read_checkpoint(best)
    assert checkpoint.ema
    assert_is(checkpoint, ema)


@pytest.mark.parametrize(
    "ema",
    [None, lambda m: m.state_dict(), lambda m: (None, 0), False],
    ids=["none", "weights alone", "empty", "false"],
)
def test_without_an_ema_that_is_a_model_the_model_counts(model, best, ema):
    save(checkpoint_of(model, ema=ema(model) if callable(ema) else ema), best)
    checkpoint = read_checkpoint(best)
    assert not checkpoint.ema
    assert_is(checkpoint, model)


@pytest.mark.parametrize("package", ["yolov5", "my_company.detection.yolov5", "site-code.v5"])
def test_classes_under_other_module_names(model, best, package):
    save(checkpoint_of(model), best, package)
    checkpoint = read_checkpoint(best)
    assert checkpoint.layers[1].module.class_name == f"{package}.models.common.C3"
    assert_is(checkpoint, model)


def test_the_pixel_buffer_of_v5_and_earlier_wins(model, best):
    """Those releases decode with it, and it may differ from the other by the rounding to half."""
    detect = model.model[-1]
    grid = torch.rand(2, 1, 2, 1, 1, 2) * 50 + 5
    detect.register_buffer("anchor_grid", grid)
    save(checkpoint_of(model.half()), best)
    found = read_checkpoint(best).anchors
    for head, pairs in zip(found.heads, grid.half().float(), strict=True):
        np.testing.assert_array_equal(head.wh_px, pairs.reshape(-1, 2))
    assert read_checkpoint(best).looks_like == "v4.0 or v5.0"


def test_pixel_anchors_that_are_no_buffer_are_scratch(model, best):
    """v6.0 and later keep there what the last forward left."""
    model.model[-1].anchor_grid = [torch.zeros(1), torch.full((1, 2, 4, 4, 2), 9.0)]
    model.model[-1].grid = [torch.empty(0)] * 2
    save(checkpoint_of(model), best)
    assert_is(read_checkpoint(best), model)


@pytest.mark.parametrize(
    "stride",
    [lambda s: s, lambda s: s.half(), lambda s: s.long(), lambda s: s.tolist(), lambda s: (2, 4)],
    ids=["tensor", "half", "integers", "list", "tuple"],
)
def test_strides_in_any_form(model, best, stride):
    model.model[-1].stride = stride(model.model[-1].stride)
    save(checkpoint_of(model), best)
    assert read_checkpoint(best).anchors.strides == (2, 4)


@pytest.mark.parametrize(
    "names, expected",
    [
        (["cat", "dog"], ("cat", "dog")),
        (("cat", "dog"), ("cat", "dog")),
        ({0: "cat", 1: "dog"}, ("cat", "dog")),
        ({1: "dog", 0: "cat"}, ("cat", "dog")),
        ({"0": "cat", "1": "dog"}, ("cat", "dog")),
        ([7, 1.5], ("7", "1.5")),
        ([True, None], ("True", "?")),
        (["cat"], ("cat", "1")),
        (["cat", "dog", "cow"], ("cat", "dog")),
        ([["cat"], "dog"], ("?", "dog")),
        (["c\nat\x1b[2J", "\udc80"], ("c?at?[2J", "?")),
        (["猫", "Ω" * 500], ("猫", "Ω" * 200)),
        (None, ("0", "1")),
        ("cat", ("0", "1")),
        ([10**4000, -(10**400)], ("?", "?")),
    ],
    ids=[
        "list", "tuple", "dict", "dict in another order", "dict of text", "numbers", "YAML's words",
        "too few", "too many", "nested", "not printable", "not Latin, and long", "none", "no list",
        "huge numbers",
    ],
)  # fmt: skip
def test_names(model, best, names, expected):
    model.names = names
    with warnings.catch_warnings():
        torch.save(model.names, best)  # that torch itself can
    save(checkpoint_of(model), best)
    assert read_checkpoint(best).class_names == expected


class Reduced:
    """Pickled as a call."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


OPTIONS = {
    "a path": pathlib.PurePosixPath("/runs/train/exp"),
    "a path of this system": pathlib.Path("runs/train/exp"),
    "a path of Windows": Reduced(pathlib.WindowsPath, ("C:\\", "runs", "exp")),
    "a path of Unix": Reduced(pathlib.PosixPath, ("/", "runs", "exp")),
    "a date": datetime.datetime(2021, 4, 11, 12, 0),
    "a day and a span": [datetime.date(2021, 4, 11), datetime.timedelta(3)],
    "numpy numbers": [np.float64(0.5), np.int64(3), np.bool_(True), np.float32(1), np.str_("a")],
    "a numpy array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "numpy text": np.array(["a", "bc"]),
    "numpy objects": np.array([None, "a"], object),
    "an options object": argparse.Namespace(weights="yolov5s.pt", imgsz=[640, 640]),
    "a namespace": types.SimpleNamespace(lr0=0.01),
    "a device": torch.device("cpu"),
    "a shape": torch.Size([1, 3]),
    "a dtype": torch.float16,
    "sets": [{1, 2}, frozenset({"a"}), set()],
    "bytes": b"a\x80",
    "an ordered dictionary": collections.OrderedDict(a=1),
    "a dictionary of a default": collections.defaultdict(list, a=[1]),
    "a loss": nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)),
    "a parameter": nn.Parameter(torch.ones(2)),
    "a part of a tensor": torch.arange(12.0).reshape(3, 4).t()[1:, ::2],
    "an empty tensor": torch.empty(0, 3),
    "a tensor of one": torch.tensor(1),
    "truths": torch.tensor([True, False]),
    "large numbers": [2**80, -(2**40), 1e300, float("inf")],
}


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_else_is_in_a_checkpoint(model, best, option, protocol):
    model.hyp = {"given": option}
    save(checkpoint_of(model, opt={"given": option}), best, pickle_protocol=protocol)
    assert_is(read_checkpoint(best), model)


@pytest.mark.parametrize(
    "old, new",
    [
        (b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"),
        (b"cpathlib\n", b"cpathlib._local\n"),
        (b"c__builtin__\nset", b"cbuiltins\nset"),
    ],
    ids=["numpy 2", "Python 3.13", "Python 3 names"],
)
def test_what_other_versions_call_things(model, best, old, new):
    options = [np.float64(1), pathlib.PurePosixPath("a"), {1}]
    save(checkpoint_of(model, opt=options), best, pickle_protocol=2)
    (content,) = (c for n, c in members_of(best.read_bytes()).items() if n.endswith("data.pkl"))
    content = content.replace(b"cbuiltins\nset", b"c__builtin__\nset")
    assert old in content
    best.write_bytes(with_pickle(best.read_bytes(), lambda _: content.replace(old, new)))
    assert_is(read_checkpoint(best), model)


def test_an_optimizer_with_its_state(model, best):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model.train()(torch.rand(1, 3, 64, 64))[0].sum().backward()
    optimizer.step()
    model.eval()
    save(checkpoint_of(model, optimizer=optimizer.state_dict()), best)
    assert_is(read_checkpoint(best), model)


def test_what_a_profiler_left_in_every_module(model, best):
    for module in model.modules():
        module.register_buffer("total_ops", torch.zeros(1, dtype=torch.float64))
        module.register_buffer("total_params", torch.zeros(1, dtype=torch.float64))
    save(checkpoint_of(model), best)
    for module in model.modules():
        del module.total_ops, module.total_params
    assert_is(read_checkpoint(best), model)


def hook(module, inputs):
    """Changes what a layer takes."""


def test_hooks_are_refused(model, best):
    hook.__module__ = "models.common"
    model.model[1].register_forward_pre_hook(hook)
    with yolo_names(more=[hook]):
        torch.save(checkpoint_of(model), best)
    with pytest.raises(UserError, match=r"hooks.* on model\.1 \(models\.common\.C3\)"):
        read_checkpoint(best)


@pytest.mark.parametrize(
    "layers, expected",
    [
        ([Focus(3, 8, 3)], "v6.2 or v7.0"),
        ([Conv(3, 8, 3, 2), C3TR(8, 8)], "v6.2 or v7.0"),
        ([Conv(3, 8, 3, 2), Bottleneck(8, 8)], "v6.2 or v7.0"),
    ],
    ids=["focus", "transformer", "bottleneck"],
)
def test_what_it_looks_like(best, layers, expected):
    model = network(layers)
    model.__class__ = type("DetectionModel", (type(model),), {})
    with yolo_names(more=[type(model)]):
        torch.save(checkpoint_of(model), best)
    assert read_checkpoint(best).looks_like == expected


def test_a_file_that_git_was_asked_about_is_of_v7(best, model):
    model.__class__ = type("DetectionModel", (type(model),), {})
    with yolo_names(more=[type(model)]):
        torch.save(checkpoint_of(model, git={"branch": "master"}), best)
    assert read_checkpoint(best).looks_like == "v7.0"
