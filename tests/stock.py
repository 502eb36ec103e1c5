"""Networks shaped like YOLOv5's own v6 releases, with random weights, saved as train.py saves them.

Only for saving: the classes have the stock names and parts, and no forward.
"""

import sys
import types
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from anchors import PRESETS

MULTIPLES = {"n": (0.33, 0.25), "s": (0.33, 0.50), "m": (0.67, 0.75)}
"""Depth and width of the releases, by their letter."""


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, p=None):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)
        self.act = nn.SiLU()
        nn.init.uniform_(self.bn.running_mean, -0.1, 0.1)
        nn.init.uniform_(self.bn.running_var, 0.8, 1.2)


class Bottleneck(nn.Module):
    def __init__(self, c, shortcut):
        super().__init__()
        self.cv1, self.cv2 = Conv(c, c), Conv(c, c, 3)
        self.add = shortcut


class C3(nn.Module):
    def __init__(self, c1, c2, n, shortcut=True):
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, half), Conv(c1, half), Conv(2 * half, c2)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(n)))


class SPPF(nn.Module):
    def __init__(self, c, k=5):
        super().__init__()
        self.cv1, self.cv2 = Conv(c, c // 2), Conv(c * 2, c)
        self.m = nn.MaxPool2d(k, 1, k // 2)


class Concat(nn.Module):
    def __init__(self):
        super().__init__()
        self.d = 1


class Detect(nn.Module):
    def __init__(self, classes, anchors, channels):
        super().__init__()
        pairs = torch.tensor([head.wh_px.tolist() for head in anchors.heads])
        self.nc, self.no, self.nl, self.na = classes, classes + 5, len(pairs), pairs.shape[1]
        self.stride = torch.tensor([float(stride) for stride in anchors.strides])
        self.register_buffer("anchors", pairs / self.stride[:, None, None])
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels)
        with torch.no_grad():  # as a trained head, sure of almost nothing
            for conv in self.m:
                conv.bias.view(self.na, -1)[:, 4] = -10
        self.inplace = True


class Model(nn.Module):
    def __init__(self, layers, names):
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.names = names


def stock_model(letter="s", classes=80):
    """A v6 network of that size, in half precision."""
    depth, width = MULTIPLES[letter]

    def c(channels):
        return int(-(-channels * width // 8) * 8)

    def n(count):
        return max(round(count * depth), 1)

    layers = [
        (-1, Conv(3, c(64), 6, 2, 2)),
        (-1, Conv(c(64), c(128), 3, 2)),
        (-1, C3(c(128), c(128), n(3))),
        (-1, Conv(c(128), c(256), 3, 2)),
        (-1, C3(c(256), c(256), n(6))),
        (-1, Conv(c(256), c(512), 3, 2)),
        (-1, C3(c(512), c(512), n(9))),
        (-1, Conv(c(512), c(1024), 3, 2)),
        (-1, C3(c(1024), c(1024), n(3))),
        (-1, SPPF(c(1024))),
        (-1, Conv(c(1024), c(512))),
        (-1, nn.Upsample(None, 2, "nearest")),
        ([-1, 6], Concat()),
        (-1, C3(2 * c(512), c(512), n(3), False)),
        (-1, Conv(c(512), c(256))),
        (-1, nn.Upsample(None, 2, "nearest")),
        ([-1, 4], Concat()),
        (-1, C3(2 * c(256), c(256), n(3), False)),
        (-1, Conv(c(256), c(256), 3, 2)),
        ([-1, 14], Concat()),
        (-1, C3(c(512), c(512), n(3), False)),
        (-1, Conv(c(512), c(512), 3, 2)),
        ([-1, 10], Concat()),
        (-1, C3(c(1024), c(1024), n(3), False)),
        ([17, 20, 23], Detect(classes, PRESETS["coco-p5"], [c(256), c(512), c(1024)])),
    ]
    for i, (source, module) in enumerate(layers):
        module.i, module.f, module.type = i, source, type(module).__name__
    return Model([module for _, module in layers], [f"class{i}" for i in range(classes)]).half()


def save_stock(path: Path, letter="s", classes=80, seed=0):
    """Save such a network as a checkpoint."""
    torch.manual_seed(seed)
    with stock_names():
        torch.save({"epoch": -1, "model": stock_model(letter, classes), "ema": None}, path)


@contextmanager
def stock_names():
    """While it lasts, the classes above live where YOLOv5's do, as far as pickle can tell."""
    places = {"models.common": (Conv, Bottleneck, C3, SPPF, Concat), "models.yolo": (Detect, Model)}
    before = {name: sys.modules.get(name) for name in ("models", *places)}
    sys.modules["models"] = types.ModuleType("models")
    old_names = {}
    for place, classes in places.items():
        sys.modules[place] = types.ModuleType(place)
        for cls in classes:
            old_names[cls] = cls.__module__
            cls.__module__ = place
            setattr(sys.modules[place], cls.__name__, cls)
    try:
        yield
    finally:
        for cls, name in old_names.items():
            cls.__module__ = name
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
