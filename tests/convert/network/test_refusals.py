"""Networks that are not built, or not as stock, are refused by name, with the way out."""

import re

import pytest
import torch
from conftest import DATA
from torch import nn
from torch_yolo import (
    C3,
    C3TR,
    SPP,
    SPPF,
    Bottleneck,
    Concat,
    Contract,
    Conv,
    Detect,
    Expand,
    Focus,
    TransformerBlock,
    checkpoint_of,
    network,
    yolo_names,
)

from convert.checkpoint import read_checkpoint
from convert.network import deploy_graph, facts_for
from runtime.errors import UserError

C = 8


class CBAM(nn.Module):
    """An attention that forks put into stock classes."""

    def forward(self, x):
        return x


class InvolutionBottleneck(CBAM):
    """A layer of nobody's."""


class WeirdAct(CBAM):
    """An activation of nobody's."""


FORKS = [CBAM, InvolutionBottleneck, WeirdAct]


def refuse(model, path, reason, size=64):
    """That a model is refused once its graph is built, in one readable line."""
    with yolo_names(more=FORKS):
        torch.save(checkpoint_of(model), path)
    with pytest.raises(UserError, match=f"(?s){reason}") as caught:
        build(path, (size, size))
    assert str(caught.value).isprintable()


def build(path, wh):
    checkpoint = read_checkpoint(path)
    return deploy_graph(checkpoint, facts_for(checkpoint, wh, "none"))


def test_every_unknown_layer_is_named_with_the_way_out(tmp_path):
    inside = C3(C, C)
    inside.m = nn.Sequential(InvolutionBottleneck(), Bottleneck(4, 4))
    layers = [Conv(3, C, 3, 2), CBAM(), inside, Conv(C, C, act=WeirdAct()), nn.GELU(), CBAM()]
    names = "models.common.CBAM, models.common.InvolutionBottleneck, models.common.WeirdAct"
    reason = re.escape(f"best.pt has layers that rkyolo cannot build: {names}, ") + (
        r"torch\.nn\.modules\.activation\.GELU; export ONNX with the code the model was trained "
        r"with \(export\.py\) and convert that"
    )
    refuse(network(layers), tmp_path / "best.pt", reason)


def test_what_is_inside_an_unknown_layer_is_not_named(tmp_path):
    outer = CBAM()
    outer.inner, outer.act = InvolutionBottleneck(), nn.GELU()
    refuse(
        network([Conv(3, C, 3, 2), outer]), tmp_path / "best.pt", r"build: models\.common\.CBAM;"
    )


def adding(layer, name, part):
    setattr(layer, name, part)
    return layer


def taking(layer, name):
    del layer._modules[name]
    return layer


def setting(layer, **values):
    for name, value in values.items():
        place = layer
        *path, last = name.split("__")
        for part in path:
            place = getattr(place, part)
        setattr(place, last, value)
    return layer


CHANGED = {
    "attention in C3": (
        lambda: adding(C3(C, C), "att", nn.Conv2d(C, C, 1)),
        r"model\.1: models\.common\.C3 has att, unlike YOLOv5's own C3; export ONNX",
    ),
    "attention in a bottleneck": (
        lambda: adding(Bottleneck(C, C), "se", Conv(C, C)),
        r"model\.1: models\.common\.Bottleneck has se, unlike",
    ),
    "attention of a fork in a bottleneck": (
        lambda: adding(Bottleneck(C, C), "cbam", CBAM()),
        r"cannot build: models\.common\.CBAM; export ONNX",
    ),
    "a second activation in Conv": (
        lambda: adding(Conv(C, C), "act2", nn.ReLU()),
        r"model\.1: models\.common\.Conv has act2, unlike",
    ),
    "weights in a container": (
        lambda: adding(Bottleneck(C, C), "gamma", nn.Parameter(torch.ones(C))),
        r"models\.common\.Bottleneck has gamma, unlike",
    ),
    "weights in a sequence": (
        lambda: adding(nn.Sequential(Conv(C, C)), "gamma", nn.Parameter(torch.ones(C))),
        r"Sequential has weights of its own",
    ),
    "weights in a convolution": (
        lambda: adding(nn.Conv2d(C, C, 1), "mask", nn.Parameter(torch.ones(C))),
        r"model\.1: .*Conv2d has parts that a convolution does not have",
    ),
    "no activation": (lambda: taking(Conv(C, C), "act"), r"models\.common\.Conv lacks act, unlike"),
    "no convolution": (lambda: taking(Conv(C, C), "conv"), r"models\.common\.Conv lacks conv"),
    "no third convolution": (lambda: taking(C3(C, C), "cv3"), r"models\.common\.C3 lacks cv3"),
    "a shortcut it does not speak of": (
        lambda: setting(Bottleneck(C, C), add="yes"),
        r"model\.1: .*Bottleneck does not say whether it has a shortcut",
    ),
    "another norm": (
        lambda: setting(Conv(C, C), bn=nn.InstanceNorm2d(C)),
        r"cannot build: torch\.nn\.modules\.instancenorm\.InstanceNorm2d",
    ),
    "a norm without statistics": (
        lambda: setting(Conv(C, C), bn=nn.BatchNorm2d(C, track_running_stats=False)),
        r"BatchNorm2d is no batch norm with running statistics",
    ),
    "a norm of other channels": (
        lambda: setting(Conv(C, C), bn=nn.BatchNorm2d(C + 1)),
        r"8 channels meet a batch norm of 9",
    ),
    "a norm alone of other channels": (
        lambda: nn.BatchNorm2d(C + 1),
        r"takes 9 channels and gets 8: the network is not wired as stock",
    ),
    "a negative variance": (
        lambda: setting(Conv(C, C), bn__running_var=torch.full((C,), -1.0)),
        r"model\.1\.conv: the batch norm has a negative variance: the file is damaged",
    ),
    "factors of another shape": (
        lambda: setting(Conv(C, C), bn__weight=nn.Parameter(torch.ones(C, 1))),
        r"the batch norm's parameters do not fit each other",
    ),
    "statistics of another shape": (
        lambda: setting(Conv(C, C), bn__running_mean=torch.zeros(C - 1)),
        r"the batch norm's statistics do not fit each other",
    ),
    "a norm without epsilon": (
        lambda: setting(Conv(C, C), bn__eps=None),
        r"the batch norm's statistics do not fit each other",
    ),
    "folded to infinity": (
        lambda: setting(
            Conv(C, C),
            bn__weight=nn.Parameter(torch.full((C,), 1e38)),
            bn__running_var=torch.full((C,), 1e-40),
            bn__eps=1e-40,
        ),
        r"model\.1\.conv\.(weight|bias) is too large for float32 once its batch norm is folded in",
    ),
    "wired wrongly": (lambda: Conv(C + 2, C), r"takes 10 channels and gets 8: the network is not"),
    "a bias of another shape": (
        lambda: setting(nn.Conv2d(C, C, 1), bias=nn.Parameter(torch.ones(1))),
        r"model\.1: weight \(8, 8, 1, 1\) and bias \(1,\) do not fit",
    ),
    "groups that do not divide": (
        lambda: setting(nn.Conv2d(C, C, 1), groups=3),
        r"model\.1\.groups is 3, which does not divide 8 channels",
    ),
    "no groups": (lambda: setting(nn.Conv2d(C, C, 1), groups=0), r"model\.1\.groups is 0"),
    "more groups than a convolution back has": (
        lambda: setting(nn.ConvTranspose2d(C, C, 1, bias=False), groups=2**40),
        r"groups is 1099511627776, which does not divide 8 channels",
    ),
    "a norm behind a convolution back": (
        lambda: setting(Conv(C, C), conv=nn.ConvTranspose2d(C, C, 1)),
        r"8 channels meet a batch norm of 8",
    ),
    "a stride of text": (lambda: setting(nn.Conv2d(C, C, 1), stride="2"), r"stride is '2', which"),
    "a stride of zero": (
        lambda: setting(nn.Conv2d(C, C, 1), stride=0),
        r"stride is 0, which",
    ),
    "a padding below zero": (
        lambda: setting(nn.Conv2d(C, C, 1), padding=(0, -1)),
        r"padding is \(0, -1\), which is no size",
    ),
    "a padding of mirrors": (
        lambda: nn.Conv2d(C, C, 3, padding=1, padding_mode="reflect"),
        r"model\.1 pads with 'reflect'; only zeros are built",
    ),
    "an even kernel padded to the same size": (
        lambda: nn.Conv2d(C, C, 4, padding="same"),
        r"pads an even kernel to the same size, which is not built",
    ),
    "a convolution of one dimension": (
        lambda: setting(nn.Conv2d(C, C, 1), weight=nn.Parameter(torch.ones(C, C, 1))),
        r"Conv2d has no 2-D convolution weight",
    ),
    "a convolution of nothing": (
        lambda: setting(nn.Conv2d(C, C, 1), weight=nn.Parameter(torch.ones(0, C, 1, 1))),
        r"Conv2d has no 2-D convolution weight",
    ),
    "something else for a convolution": (
        lambda: setting(Conv(C, C), conv=nn.Identity()),
        r"model\.1\.conv is a .*Identity where a Conv2d belongs",
    ),
    "a focus with groups": (
        lambda: setting(Focus(C, C), conv__conv__groups=2),
        r"model\.1: a Focus with groups or dilation is not built",
    ),
    "a focus with dilation": (
        lambda: setting(Focus(C, C, 3), conv__conv__dilation=(2, 2)),
        r"model\.1: a Focus with groups or dilation is not built",
    ),
    "a focus of other channels": (lambda: Focus(4, C), r"Focus takes 4 channels and gets 8"),
    "a concat along the height": (lambda: ([-1, 0], Concat(2)), r"joins along another axis"),
    "a pool of several inputs": (lambda: ([-1, 0], nn.MaxPool2d(2)), r"gets 2 inputs, not one"),
    "a pool that returns places": (
        lambda: nn.MaxPool2d(2, return_indices=True),
        r"model\.1 also returns the places of its maxima",
    ),
    "a dilated pool": (lambda: nn.MaxPool2d(3, 2, 1, 2), r"is a dilated pool, which is not built"),
    "a pool that pads too much": (
        lambda: setting(nn.MaxPool2d(3, 2, 1), padding=2),
        r"pads more than half its kernel",
    ),
    "a pool that leaves nothing": (lambda: nn.MaxPool2d(40), r"nothing is left of the picture"),
    "a convolution that leaves nothing": (lambda: nn.Conv2d(C, C, 40), r"use a larger --size"),
    "SPP with pools that shrink": (
        lambda: setting(SPP(C, C, (5,)), m=nn.ModuleList([nn.MaxPool2d(4, 1, 2)])),
        r"model\.1\.m: .*MaxPool2d is no pool that keeps the size",
    ),
    "SPPF with a stride": (
        lambda: setting(SPPF(C, C), m=nn.MaxPool2d(5, 2, 2)),
        r"MaxPool2d is no pool of stride 1",
    ),
    "SPPF with an average": (
        lambda: setting(SPPF(C, C), m=nn.AvgPool2d(5, 1, 2)),
        r"cannot build: torch\.nn\.modules\.pooling\.AvgPool2d",
    ),
    "an upsampling of cubes": (
        lambda: nn.Upsample(scale_factor=2, mode="bicubic"),
        r"model\.1 upsamples by 'bicubic'; nearest and bilinear are built",
    ),
    "an upsampling by nothing": (
        lambda: setting(nn.Upsample(scale_factor=2), scale_factor=None),
        r"scale_factor is None, which is no scale",
    ),
    "an upsampling without end": (
        lambda: setting(nn.Upsample(scale_factor=2), scale_factor=float("inf")),
        r"scale_factor is inf, which is no scale",
    ),
    "a contract that does not divide": (
        lambda: Contract(3),
        r"model\.1 folds 3 pixels into one, and 32x32 is no multiple",
    ),
    "an expand that does not divide": (lambda: Expand(3), r"unfolds 3x3 pixels, and 8 is no"),
    "a gain of text": (lambda: setting(Contract(2), gain="2"), r"gain is '2', which is no gain"),
    "a padding of text": (
        lambda: setting(nn.ZeroPad2d(1), padding="1"),
        r"padding is '1', which is no padding",
    ),
    "a steeper softplus": (lambda: nn.Softplus(2), r"only a Softplus with beta 1 is built"),
    "a slope of text": (
        lambda: setting(nn.LeakyReLU(), negative_slope="0.1"),
        r"negative_slope is '0\.1', which is no number",
    ),
    "slopes of other channels": (lambda: nn.PReLU(5), r"model\.1\.weight does not fit 8 channels"),
    "attention with more biases": (
        lambda: setting(C3TR(C, 16), m__tr=transformer(add_bias_kv=True)),
        r"MultiheadAttention is no plain self-attention of 8 channels",
    ),
    "attention batch first": (
        lambda: setting(C3TR(C, 16), m__tr=transformer(batch_first=True)),
        r"MultiheadAttention is no plain self-attention of 8 channels",
    ),
    "attention to a zero": (
        lambda: setting(C3TR(C, 16), m__tr=transformer(add_zero_attn=True)),
        r"MultiheadAttention is no plain self-attention of 8 channels",
    ),
    "attention of no heads": (
        lambda: setting(TransformerBlock(C, C, 2, 1), tr__0__ma__num_heads=3),
        r"MultiheadAttention has 3 heads for 8 channels",
    ),
    "attention of other channels": (
        lambda: setting(TransformerBlock(C, C, 2, 1), tr__0__q__weight=weight(C + 1, C)),
        r"model\.1\.tr\.0\.q has a bias or another size",
    ),
    "attention with a bias": (
        lambda: setting(TransformerBlock(C, C, 2, 1), tr__0__q=nn.Linear(C, C)),
        r"model\.1\.tr\.0\.q has a bias or another size",
    ),
    "a linear layer of other channels": (
        lambda: setting(TransformerBlock(C, C, 2, 1), linear=nn.Linear(C + 1, C)),
        r"linear: .*Linear is no linear layer of 8 channels",
    ),
    "a linear layer with more": (
        lambda: adding(TransformerBlock(C, C, 2, 1), "norm", nn.Identity()),
        r"models\.common\.TransformerBlock has norm, unlike",
    ),
}


def transformer(**options):
    layer = TransformerBlock(C, C, 2, 1).tr
    layer[0].ma = nn.MultiheadAttention(C, 2, **options)
    return layer


def weight(*shape):
    return nn.Parameter(torch.ones(shape))


@pytest.mark.parametrize("make, reason", CHANGED.values(), ids=CHANGED)
def test_changed_layers(make, reason, tmp_path):
    model = network([Conv(3, C, 3, 2), Conv(C, C)])
    changed = make()
    source, layer = changed if isinstance(changed, tuple) else (-1, changed)
    layer.i, layer.f = 1, source
    model.model[1] = layer
    refuse(model, tmp_path / "best.pt", reason)


def test_strides_that_are_not_the_networks(tmp_path):
    model = network([Conv(3, C, 3, 2), Conv(C, C, 3, 2)], (0, 1))
    model.model[-1].stride = torch.tensor([4.0, 8.0])
    refuse(model, tmp_path / "best.pt", "head 0 is 14 x 32 x 32, but its stride 4 .* 14 x 16 x 16")


def test_strides_that_do_not_divide_each_other(tmp_path):
    model = network([Conv(3, C, 3, 2), Conv(C, C, 3, 2)], (0, 1))
    model.model[-1].stride = torch.tensor([3.0, 16.0])
    refuse(model, tmp_path / "best.pt", "at 64x64: input 64x64 is no multiple of stride 3")


def test_upsampling_until_no_memory_is_left(tmp_path):
    layers = [nn.Upsample(scale_factor=16) for _ in range(12)]
    model = network([Conv(3, C, 3, 2)])
    detect = model.model[-1]
    del model.model[-1]
    for i, layer in enumerate(layers, 1):
        layer.i, layer.f = i, -1
        model.model.append(layer)
    detect.f = [0]
    model.model.append(detect)
    refuse(model, tmp_path / "best.pt", "is 8 x 8192 x 131072|which no memory holds")


SIZES = {
    (100, 100): "size 100x100 .* no multiple of the model's largest stride 32: use 128x128",
    (96, 100): "size 100x96 .height x width. .* stride 32: use 128x96",
    (31, 64): "use 64x32",
    (1, 1): "use 32x32",
    (0, 64): "size 64x0 .height x width. is no size",
    (-32, 64): "is no size",
    (32768, 32): "at 32x32768: .*less than or equal to 16384",
}


@pytest.mark.parametrize("wh, reason", SIZES.items(), ids=str)
def test_sizes(wh, reason):
    checkpoint = read_checkpoint(DATA / "golden" / "checkpoints" / "v70_n.pt")
    with pytest.raises(UserError, match=reason):
        facts_for(checkpoint, wh, "none")


def test_the_head_is_built_on_what_it_says(tmp_path):
    model = network([Conv(3, C, 3, 2), Conv(C, C + 4, 3, 2)], (0, 1))
    model.model[-1].f = [1, 0]
    assert isinstance(model.model[-1], Detect)
    refuse(model, tmp_path / "best.pt", r"model\.2\.m\.0 takes 8 channels and gets 12")
