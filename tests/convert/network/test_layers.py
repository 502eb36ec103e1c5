"""Each layer, in a tiny network saved by torch, gives what torch gives."""

import numpy as np
import pytest
import torch
from run_graph import run_graph
from torch import nn
from torch_yolo import (
    C3,
    C3SPP,
    C3TR,
    SPP,
    SPPF,
    AconC,
    Bottleneck,
    BottleneckCSP,
    C3Ghost,
    C3x,
    Concat,
    Contract,
    Conv,
    CrossConv,
    DWConv,
    DWConvTranspose2d,
    Expand,
    Focus,
    FReLU,
    GhostBottleneck,
    GhostConv,
    MemoryEfficientMish,
    Swish,
    TransformerBlock,
    checkpoint_of,
    fuse,
    network,
    save,
)

from convert.checkpoint import read_checkpoint
from convert.network import deploy_graph, facts_for

C = 8
"""Channels in front of the layer under test, and its usual input is 32 x 32."""


def same_as_torch(model, path, size=64, channels=3):
    """Save a model, build it, and hold its head maps against torch's. Gives the graph."""
    save(checkpoint_of(model), path)
    checkpoint = read_checkpoint(path)
    graph = deploy_graph(checkpoint, facts_for(checkpoint, (size, size), "none"))
    picture = np.random.default_rng(0).random((1, channels, size, size), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(picture))
    found = run_graph(graph, picture)
    assert checkpoint.anchors.strides == tuple(sorted(checkpoint.anchors.strides))
    by_stride = sorted(expected, key=lambda one: -one.shape[2])
    for one, wanted in zip(found, by_stride, strict=True):
        assert wanted.std() > 0.01, "the network says the same everywhere, which tests nothing"
        np.testing.assert_allclose(one, wanted.numpy(), atol=1e-4, rtol=0)
    return graph


LAYERS = {
    "conv": lambda: [Conv(C, 12, 3, 2)],
    "conv of a pair kernel": lambda: [Conv(C, 12, (1, 3))],
    "conv with groups": lambda: [Conv(C, 12, 3, 1, g=4)],
    "conv with dilation": lambda: [Conv(C, 12, 3, 1, d=2)],
    "conv without activation": lambda: [Conv(C, 12, act=nn.Identity())],
    "depthwise conv": lambda: [DWConv(C, C, 3, 2)],
    "depthwise conv of other channels": lambda: [DWConv(C, 12, 3)],
    "bare conv": lambda: [nn.Conv2d(C, 12, 3, 2, 1)],
    "bare conv without bias": lambda: [nn.Conv2d(C, 12, 3, padding=1, bias=False)],
    "padding same": lambda: [nn.Conv2d(C, 12, 5, padding="same")],
    "padding same, dilated": lambda: [nn.Conv2d(C, 12, (3, 5), padding="same", dilation=(3, 2))],
    "padding valid": lambda: [nn.Conv2d(C, 12, 1, padding="valid")],
    "dilated, strided, grouped": lambda: [nn.Conv2d(C, 12, 3, 2, 2, dilation=2, groups=4)],
    "stride of a pair": lambda: [nn.Conv2d(C, 12, 4, (2, 2), (1, 1))],
    "transposed conv": lambda: [nn.ConvTranspose2d(C, 12, 2, 2)],
    "transposed conv with groups": lambda: [nn.ConvTranspose2d(C, 12, 4, 2, 1, groups=4)],
    "transposed conv with output padding": lambda: [nn.ConvTranspose2d(C, 12, 3, 2, 1, 1)],
    "transposed conv without bias": lambda: [nn.ConvTranspose2d(C, 12, 2, 2, bias=False)],
    "depthwise transposed conv": lambda: [DWConvTranspose2d(C, 12, 4, 2, 1)],
    "batch norm alone": lambda: [nn.BatchNorm2d(C)],
    "batch norm without factors": lambda: [nn.BatchNorm2d(C, affine=False)],
    "bottleneck with a shortcut": lambda: [Bottleneck(C, C)],
    "bottleneck without": lambda: [Bottleneck(C, C, False)],
    "bottleneck of other channels": lambda: [Bottleneck(C, 12)],
    "cross conv": lambda: [CrossConv(C, C, 3, 1, True)],
    "cross conv, stride 2": lambda: [CrossConv(C, 12, 5, 2)],
    "bottleneck CSP": lambda: [BottleneckCSP(C, 12, 2)],
    "bottleneck CSP of cross convs": lambda: [BottleneckCSP(C, 12, inner=[CrossConv(6, 6)])],
    "C3": lambda: [C3(C, 12)],
    "C3x": lambda: [C3x(C, 12)],
    "C3TR": lambda: [C3TR(C, 16)],
    "C3SPP": lambda: [C3SPP(C, 16)],
    "C3Ghost": lambda: [C3Ghost(C, 16)],
    "transformer with a conv": lambda: [TransformerBlock(C, 12, 3, 1)],
    "transformer without": lambda: [TransformerBlock(C, C, 2, 2)],
    "ghost conv": lambda: [GhostConv(C, 12, 3, 2)],
    "ghost bottleneck": lambda: [GhostBottleneck(C, C)],
    "ghost bottleneck, stride 2": lambda: [GhostBottleneck(C, 12, 3, 2)],
    "SPP": lambda: [SPP(C, 12)],
    "SPP of 3 and 7": lambda: [SPP(C, 12, (3, 7))],
    "SPP of 13": lambda: [SPP(C, 12, (13,))],
    "SPP in another order": lambda: [SPP(C, 12, (9, 5, 5, 1))],
    "SPPF": lambda: [SPPF(C, 12)],
    "SPPF of 3": lambda: [SPPF(C, 12, 3)],
    "max pool": lambda: [nn.MaxPool2d(2, 2, 0)],
    "max pool, size rounded up": lambda: [nn.MaxPool2d(3, 2, 0, ceil_mode=True)],
    "max pool, rounded up with padding": lambda: [nn.MaxPool2d(4, 2, 1, ceil_mode=True)],
    "max pool, nothing to round up": lambda: [nn.MaxPool2d(2, 2, 0, ceil_mode=True)],
    "pad and pool as in v3-tiny": lambda: [nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1, 0)],
    "pad of four sides": lambda: [nn.ZeroPad2d((3, 0, 1, 2)), nn.Conv2d(C, 12, 4)],
    "pad of one number": lambda: [nn.ZeroPad2d(1), nn.Conv2d(C, 12, 3)],
    "upsample": lambda: [nn.Upsample(None, 2, "nearest")],
    "upsample by 4": lambda: [nn.MaxPool2d(4), nn.Upsample(scale_factor=4)],
    "upsample bilinear": lambda: [nn.Upsample(None, 2, "bilinear")],
    "upsample bilinear, corners aligned": lambda: [
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    ],
    "upsample to a size": lambda: [nn.Upsample(64)],
    "upsample bilinear to a size": lambda: [nn.Upsample((64, 64), mode="bilinear")],
    "upsampling nearest": lambda: [nn.UpsamplingNearest2d(scale_factor=2)],
    "down to a size by nearest": lambda: [nn.MaxPool2d(4, 1, 0), nn.Upsample(16)],
    "contract": lambda: [Contract(2)],
    "contract by 4": lambda: [Contract(4)],
    "expand": lambda: [Expand(2)],
    "contract and expand": lambda: [Contract(4), Expand(4)],
    "focus inside": lambda: [Focus(C, 12, 3)],
    "sequential": lambda: [nn.Sequential(Bottleneck(C, C), Conv(C, 12), nn.MaxPool2d(2))],
    "dropout": lambda: [nn.Dropout(0.5)],
    "identity": lambda: [nn.Identity()],
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_a_layer_is_torchs(layers, tmp_path):
    same_as_torch(network([Conv(3, C, 3, 2), *layers()]), tmp_path / "best.pt")


FIRST = {
    "focus, k 1": lambda: Focus(3, C, 1),
    "focus, k 3": lambda: Focus(3, C, 3),
    "focus, k 5 and stride 2": lambda: Focus(3, C, 5, 2),
    "focus by a contract, k 1": lambda: Focus(3, C, 1, contract=True),
    "focus by a contract, k 3": lambda: Focus(3, C, 3, contract=True),
    "conv of 6 and stride 2": lambda: Conv(3, C, 6, 2, 2),
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
def test_a_first_layer_is_torchs(first, fused, tmp_path):
    model = network([first(), Conv(C, 12, 3, 2)])
    graph = same_as_torch(fuse(model) if fused else model, tmp_path / "best.pt")
    assert {node.op_type for node in graph.graph.node} == {"Conv", "Sigmoid", "Mul"}


ACTIVATIONS = {
    "SiLU": nn.SiLU,
    "SiLU of their own": Swish,
    "Hardswish": nn.Hardswish,
    "Hardsigmoid": nn.Hardsigmoid,
    "Mish": nn.Mish,
    "Mish of their own": MemoryEfficientMish,
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "LeakyReLU": nn.LeakyReLU,
    "LeakyReLU 0.1": lambda: nn.LeakyReLU(0.1),
    "ELU": nn.ELU,
    "ELU 0.5": lambda: nn.ELU(0.5),
    "PReLU": nn.PReLU,
    "PReLU of each channel": lambda: nn.PReLU(C),
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Softplus": nn.Softplus,
    "FReLU": lambda: FReLU(C),
    "FReLU of 5": lambda: FReLU(C, 5),
    "AconC": lambda: AconC(C),
    "Identity": nn.Identity,
}


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_an_activation_is_torchs(activation, tmp_path):
    layers = [Conv(3, C, 3, 2, act=activation()), Conv(C, C, 3, act=activation())]
    same_as_torch(network(layers), tmp_path / "best.pt")


@pytest.mark.parametrize("half", [False, True], ids=["", "half"])
def test_a_fused_model_is_torchs(half, tmp_path):
    """What torch.save(model.fuse()) writes: no norms, and methods bound to their modules."""
    model = fuse(network([Conv(3, C, 3, 2), C3(C, 12), GhostBottleneck(12, 16, 3, 2)]))
    if half:
        model.half().float()
    same_as_torch(model, tmp_path / "best.pt")


def test_synchronized_norms_are_torchs(tmp_path):
    """What --sync-bn of the releases up to v5.0 leaves in the EMA."""
    model = network([Conv(3, C, 3, 2), BottleneckCSP(C, 12)])
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronized.modules())
    same_as_torch(synchronized, tmp_path / "best.pt")


def test_large_pools_are_chains_of_small_ones(tmp_path):
    graph = same_as_torch(network([Conv(3, C, 3, 2), SPP(C, 12)]), tmp_path / "best.pt")
    pools = [node for node in graph.graph.node if node.op_type == "MaxPool"]
    kernels = [a.ints for node in pools for a in node.attribute if a.name == "kernel_shape"]
    assert [list(kernel) for kernel in kernels] == [[5, 5]] * 3


WIRING = {
    "one before the last, as in v3-tiny": [
        Conv(3, C, 3, 2), Conv(C, 6, 3, 2), Conv(6, 12), (-2, Conv(6, 10)),
    ],
    "a concat of three": [
        Conv(3, C, 3, 2), Conv(C, 4), Conv(4, 6), ([-1, 0, 1], Concat()), Conv(18, 12),
    ],
    "a concat of one": [Conv(3, C, 3, 2), ([-1], Concat())],
    "a concat of one map twice": [Conv(3, C, 3, 2), ([0, 0], Concat())],
}  # fmt: skip


@pytest.mark.parametrize("layers", WIRING.values(), ids=WIRING)
def test_layers_take_what_they_say(layers, tmp_path):
    same_as_torch(network(layers), tmp_path / "best.pt")


def pyramid(count, channels=3):
    """A first layer of stride 4, and count layers each of half the size of the one before."""
    return [Conv(channels, C, 3, 2), *(Conv(C, C, 3, 2) for _ in range(count))]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_one_to_five_heads(count, tmp_path):
    model = network(pyramid(count), range(1, count + 1), na=count)
    graph = same_as_torch(model, tmp_path / "best.pt")
    strides = [4 * 2**i for i in range(count)]
    assert [out.name for out in graph.graph.output] == [
        f"head{i}_stride{stride}" for i, stride in enumerate(strides)
    ]


@pytest.mark.parametrize("heads", [(3, 2, 1), (2, 3, 1), (1, 3, 2)], ids=str)
def test_heads_come_out_by_stride_however_they_went_in(heads, tmp_path):
    model = network(pyramid(3), heads)
    same_as_torch(model, tmp_path / "best.pt")
    found = read_checkpoint(tmp_path / "best.pt")
    assert found.anchors.strides == (4, 8, 16) and found.head.layers == (1, 2, 3)
    detect = model.model[-1]
    of_stride = {int(s): a * s for s, a in zip(detect.stride, detect.anchors, strict=True)}
    for head in found.anchors.heads:
        np.testing.assert_allclose(head.wh_px, of_stride[head.stride].numpy(), rtol=1e-6)


@pytest.mark.parametrize("first", [Conv(1, C, 3, 2), Focus(1, C, 3)], ids=["conv", "focus"])
def test_grey_pictures(first, tmp_path):
    model = network([first, Conv(C, C, 3, 2)], channels=1)
    same_as_torch(model, tmp_path / "best.pt", channels=1)
    checkpoint = read_checkpoint(tmp_path / "best.pt")
    assert checkpoint.input_channels == 1
    assert facts_for(checkpoint, (64, 64), "none").input.channels == 1


def test_one_activation_shared_by_all_layers(tmp_path):
    """As the act: key of v7.0's yaml leaves it."""
    act = nn.PReLU()
    model = network([Conv(3, C, 3, 2, act=act), Conv(C, C, act=act), Conv(C, 12, act=act)])
    same_as_torch(model, tmp_path / "best.pt")


def test_a_shortcut_given_as_a_number(tmp_path):
    layers = [Conv(3, C, 3, 2), Bottleneck(C, C, 1), Bottleneck(C, C, 0)]
    layers[1].add, layers[2].add = 1, 0
    same_as_torch(network(layers), tmp_path / "best.pt")
