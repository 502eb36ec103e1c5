"""Tiny networks of YOLOv5's layers in torch: the reference for ours, saved as train.py saves.

The classes have the stock names, parts and attributes, which is what a checkpoint holds of them,
and forwards of our own. While a file is written they live where YOLOv5's do, as far as pickle can
tell.
"""

import math
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, d=1, act=None):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, _half(k, d) if p is None else p, d, g, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)
        self.act = nn.SiLU() if act is None else act

    def forward(self, x):
        y = self.conv(x)
        return self.act(self.bn(y) if "bn" in self._modules else y)

    def forward_fuse(self, x):
        return self.act(self.conv(x))


def _half(k, d=1):
    """The padding that keeps the size of an odd kernel."""
    return tuple(d * (n - 1) // 2 for n in k) if isinstance(k, tuple) else d * (k - 1) // 2


class DWConv(Conv):
    def __init__(self, c1, c2, k=1, s=1, act=None):
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), act=act)


class DWConvTranspose2d(nn.ConvTranspose2d):
    def __init__(self, c1, c2, k=1, s=1, p1=0, p2=0):
        super().__init__(c1, c2, k, s, p1, p2, groups=math.gcd(c1, c2))


class Bottleneck(nn.Module):
    def __init__(self, c1, c2, shortcut=True):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c2 // 2), Conv(c2 // 2, c2, 3)
        self.add = shortcut and c1 == c2

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class CrossConv(nn.Module):
    def __init__(self, c1, c2, k=3, s=1, shortcut=False):
        super().__init__()
        self.cv1 = Conv(c1, c2, (1, k), (1, s))
        self.cv2 = Conv(c2, c2, (k, 1), (s, 1))
        self.add = shortcut and c1 == c2

    forward = Bottleneck.forward


class BottleneckCSP(nn.Module):
    def __init__(self, c1, c2, n=1, inner=None):
        super().__init__()
        half = c2 // 2
        self.cv1 = Conv(c1, half)
        self.cv2 = nn.Conv2d(c1, half, 1, bias=False)
        self.cv3 = nn.Conv2d(half, half, 1, bias=False)
        self.cv4 = Conv(c2, c2)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.LeakyReLU(0.1)
        self.m = nn.Sequential(*(inner or [Bottleneck(half, half) for _ in range(n)]))

    def forward(self, x):
        both = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(both)))


class C3(nn.Module):
    def __init__(self, c1, c2, inner=None):
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, half), Conv(c1, half), Conv(2 * half, c2)
        self.m = nn.Sequential(Bottleneck(half, half)) if inner is None else inner(half)

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C3x(C3):
    def __init__(self, c1, c2):
        super().__init__(c1, c2, lambda c: nn.Sequential(CrossConv(c, c, 3, 1, True)))


class C3TR(C3):
    def __init__(self, c1, c2, heads=4):
        super().__init__(c1, c2, lambda c: TransformerBlock(c, c, heads, 2))


class C3SPP(C3):
    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__(c1, c2, lambda c: SPP(c, c, k))


class C3Ghost(C3):
    def __init__(self, c1, c2):
        super().__init__(c1, c2, lambda c: nn.Sequential(GhostBottleneck(c, c)))


class GhostConv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, act=None):
        super().__init__()
        self.cv1 = Conv(c1, c2 // 2, k, s, act=act)
        self.cv2 = Conv(c2 // 2, c2 // 2, 5, 1, g=c2 // 2, act=act)

    def forward(self, x):
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


class GhostBottleneck(nn.Module):
    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        half, none = c2 // 2, nn.Identity()
        self.conv = nn.Sequential(
            GhostConv(c1, half),
            DWConv(half, half, k, s, none) if s == 2 else nn.Identity(),
            GhostConv(half, c2, act=none),
        )
        self.shortcut = (
            nn.Sequential(DWConv(c1, c1, k, s, none), Conv(c1, c2, act=none))
            if s == 2
            else nn.Identity()
        )

    def forward(self, x):
        return self.conv(x) + self.shortcut(x)


class SPP(nn.Module):
    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c1 // 2), Conv(c1 // 2 * (len(k) + 1), c2)
        self.m = nn.ModuleList(nn.MaxPool2d(n, 1, n // 2) for n in k)

    def forward(self, x):
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


class SPPF(nn.Module):
    def __init__(self, c1, c2, k=5):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c1 // 2), Conv(c1 // 2 * 4, c2)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x):
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(self.m(maps[-1]))
        return self.cv2(torch.cat(maps, 1))


class Contract(nn.Module):
    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        rows = range(self.gain)
        return torch.cat([x[..., i :: self.gain, j :: self.gain] for i in rows for j in rows], 1)


class Expand(nn.Module):
    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        g, (b, c, h, w) = self.gain, x.shape
        y = x.new_empty(b, c // g**2, h * g, w * g)
        for i, part in enumerate(x.chunk(g**2, 1)):
            y[..., i // g :: g, i % g :: g] = part
        return y


class Focus(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, contract=False):
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s)
        if contract:
            self.contract = Contract(2)

    def forward(self, x):
        if "contract" in self._modules:
            return self.conv(self.contract(x))
        corners = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.conv(torch.cat(corners, 1))


class TransformerLayer(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.ma = nn.MultiheadAttention(c, heads)
        self.fc1, self.fc2 = nn.Linear(c, c, bias=False), nn.Linear(c, c, bias=False)

    def forward(self, x):
        x = self.ma(self.q(x), self.k(x), self.v(x))[0] + x
        return self.fc2(self.fc1(x)) + x


class TransformerBlock(nn.Module):
    def __init__(self, c1, c2, heads, layers):
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, heads) for _ in range(layers)))

    def forward(self, x):
        x = x if self.conv is None else self.conv(x)
        tokens = x.flatten(2).permute(2, 0, 1)
        tokens = self.tr(tokens + self.linear(tokens))
        return tokens.permute(1, 2, 0).reshape(x.shape)


class Concat(nn.Module):
    def __init__(self, d=1):
        super().__init__()
        self.d = d

    def forward(self, maps):
        return torch.cat(maps, self.d)


class FReLU(nn.Module):
    def __init__(self, c, k=3):
        super().__init__()
        self.conv = nn.Conv2d(c, c, k, 1, k // 2, groups=c, bias=False)
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x):
        return torch.max(x, self.bn(self.conv(x)))


class AconC(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.p1, self.p2 = (nn.Parameter(torch.randn(1, c, 1, 1)) for _ in range(2))
        self.beta = nn.Parameter(torch.rand(1, c, 1, 1) + 0.5)

    def forward(self, x):
        d = (self.p1 - self.p2) * x
        return d * torch.sigmoid(self.beta * d) + self.p2 * x


class MemoryEfficientMish(nn.Module):
    def forward(self, x):
        return functional.mish(x)


class Swish(nn.Module):
    def forward(self, x):
        return functional.silu(x)


class Detect(nn.Module):
    """Gives the bare convolutions' outputs, which is where the deploy graph ends."""

    def __init__(self, classes, anchors_px, strides, channels):
        super().__init__()
        pairs = torch.as_tensor(anchors_px, dtype=torch.float32)
        self.nc, self.no, self.nl, self.na = classes, classes + 5, len(pairs), pairs.shape[1]
        self.stride = torch.tensor([float(stride) for stride in strides])
        self.register_buffer("anchors", pairs / self.stride[:, None, None])
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels)

    def forward(self, maps):
        return [conv(x) for conv, x in zip(self.m, maps, strict=True)]


class Model(nn.Module):
    def __init__(self, layers, names):
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.names = names

    def forward(self, x):
        return self.maps(x)[-1]

    def maps(self, x):
        found = []
        for layer in self.model:
            many = isinstance(layer.f, list)
            inputs = [found[source] if found else x for source in (layer.f if many else [layer.f])]
            found.append(layer(inputs if many else inputs[0]))
        return found


def network(layers, heads=(-1,), *, classes=2, channels=3, names=None, size=64, na=2, seed=0):
    """A Model in eval mode with random weights: layers, then a Detect on those of the numbers in
    heads. layers are modules that take the one before, or pairs (sources, module)."""
    torch.manual_seed(seed)
    pairs = [layer if isinstance(layer, tuple) else (-1, layer) for layer in layers]
    for i, (source, module) in enumerate(pairs):
        module.i, module.f, module.type = i, source, f"models.common.{type(module).__name__}"
    model = Model([module for _, module in pairs], names or [f"thing{i}" for i in range(classes)])
    with torch.no_grad():
        maps = model.eval().maps(torch.zeros(1, channels, size, size))
    at = [maps[head] for head in heads]
    strides = [size // found.shape[2] for found in at]
    anchors = torch.rand(len(heads), na, 2) * 30 + 4
    detect = Detect(classes, anchors, strides, [found.shape[1] for found in at])
    detect.i, detect.f, detect.type = len(pairs), list(heads), "models.yolo.Detect"
    model.model.append(detect)
    _randomize(model)
    return model.eval()


def _randomize(model):
    """Statistics and factors of every norm, which are all 0 or 1 in a fresh model."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            nn.init.uniform_(norm.running_mean, -0.3, 0.3)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.uniform_(norm.bias, -0.3, 0.3)


def fuse(model):
    """Batch norms folded into their convolutions and gone, as Model.fuse() does."""
    for module in model.modules():
        if isinstance(module, Conv) and "bn" in module._modules:
            norm = module.bn
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weight = module.conv.weight * factor[:, None, None, None]
            module.conv.bias = nn.Parameter((norm.bias - norm.running_mean * factor).detach())
            module.conv.weight = nn.Parameter(weight.detach())
            del module.bn
            module.forward = module.forward_fuse
    return model


def checkpoint_of(model, **more):
    """What train.py saves about a model."""
    empty = dict.fromkeys(("best_fitness", "ema", "updates", "optimizer", "wandb_id", "date"))
    return {"epoch": -1, "model": model} | empty | more


def save(value, path, package="", **options):
    """torch.save of a value whose classes live in YOLOv5's modules, below a package if one is
    given. Gives the path."""
    with yolo_names(package):
        torch.save(value, path, **options)
    return path


_HOMES = {
    Detect: "models.yolo",
    Model: "models.yolo",
    CrossConv: "models.experimental",
    **dict.fromkeys((FReLU, AconC, MemoryEfficientMish, Swish), "utils.activations"),
}


@contextmanager
def yolo_names(package="", more=()):
    """While it lasts, this file's classes, and more, live where YOLOv5's do."""
    classes = [
        cls for cls in globals().values() if isinstance(cls, type) and cls.__module__ == __name__
    ]
    modules, before = {}, {cls: cls.__module__ for cls in (*classes, *more)}
    for cls in before:
        home = ".".join(filter(None, (package, _HOMES.get(cls, "models.common"))))
        for depth in range(home.count(".") + 1):
            name = home.rsplit(".", depth)[0]
            modules.setdefault(name, types.ModuleType(name)).__file__ = str(Path(__file__))
        cls.__module__ = home
        setattr(modules[home], cls.__name__, cls)
    hidden = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for cls, name in before.items():
            cls.__module__ = name
        for name, module in hidden.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
