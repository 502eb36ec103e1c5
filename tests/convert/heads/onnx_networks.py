"""Small networks with YOLOv5's heads, and what its releases and forks put behind them, exported by
torch. Written from the formula in the runtime's decode; only what they compute is YOLOv5's."""

import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Network(nn.Module):
    """Convolutions down to the largest stride, one map taken up again, a head at each stride.

    tail: a function of (network, head maps) that gives the outputs. wh: the input (width, height).
    """

    def __init__(
        self,
        tail,
        strides=(8, 16, 32),
        na=3,
        classes=4,
        wh=(96, 64),
        channels=3,
        shared=False,
        seed=0,
    ):
        super().__init__()
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        self.tail, self.strides, self.na, self.each = tail, strides, na, 5 + classes
        self.wh, self.channels = wh, channels
        depth, width = int(np.log2(max(strides))), 8
        self.stages = nn.ModuleList(
            nn.Conv2d(width if i else channels, width, 3, 2, 1) for i in range(depth)
        )
        convs = [nn.Conv2d(2 * width, na * self.each, 1) for _ in strides]
        self.convs = nn.ModuleList(convs[:1] * len(strides) if shared else convs)
        for conv in convs:
            nn.init.normal_(conv.weight, 0, 1)
        sizes = rng.uniform(4, 40, (len(strides), na, 2)) * np.array(strides)[:, None, None] / 8
        self.anchors_px = torch.tensor(sizes, dtype=torch.float32)

    def forward(self, x):
        return self.tail(self, self.maps(x))

    def maps(self, x):
        """Head maps (1, na * (5 + nc), ny, nx)."""
        at = {}
        for i, stage in enumerate(self.stages):
            x = functional.silu(stage(x))
            at[2 ** (i + 1)] = x
        coarse = functional.max_pool2d(at[max(self.strides)], 3, 1, 1)
        found = []
        for conv, stride in zip(self.convs, self.strides, strict=True):
            scale = max(self.strides) // stride
            up = functional.interpolate(coarse, scale_factor=scale) if scale > 1 else coarse
            found.append(conv(torch.cat((at[stride], up), 1)))
        return found


def logits(network, maps):
    return tuple(maps)


def sigmoids(network, maps):
    return tuple(m.sigmoid() for m in maps)


def five_d(network, maps):
    """(1, na, ny, nx, 5 + nc), as the training form has it."""
    shape = (1, network.na, network.each)
    return tuple(m.view(*shape, *m.shape[2:]).permute(0, 1, 3, 4, 2).contiguous() for m in maps)


def joined_logits(network, maps):
    return torch.cat([m.reshape(1, -1, network.each) for m in five_d(network, maps)], 1)


def joined_sigmoids_reversed(network, maps):
    rows = [m.reshape(1, -1, network.each) for m in five_d(network, maps)]
    return torch.cat(rows[::-1], 1).sigmoid()


def split(network, maps):
    """Decoded with the parts split off and joined again."""
    rows = []
    for raw, stride, anchors in _heads(network, maps):
        xy, wh, rest = raw.sigmoid().split((2, 2, network.each - 4), 4)
        xy = (xy * 2 + (_grid(network, raw) - 0.5)) * stride
        wh = (wh * 2) ** 2 * anchors
        rows.append(torch.cat((xy, wh, rest), 4).view(1, -1, network.each))
    return torch.cat(rows, 1)


def sliced(network, maps):
    """Decoded from slices, with the half cell taken off by itself."""
    rows = []
    for raw, stride, anchors in _heads(network, maps):
        y = raw.sigmoid()
        xy = (y[..., 0:2] * 2.0 - 0.5 + _grid(network, raw)) * stride
        wh = (y[..., 2:4] * 2) ** 2 * anchors
        rows.append(torch.cat((xy, wh, y[..., 4:]), -1).view(1, -1, network.each))
    return torch.cat(rows, 1)


def written_in_place(network, maps):
    """Decoded by assignment to slices, and the raw maps beside it, as older releases do."""
    rows, raws = [], []
    for raw, stride, anchors in _heads(network, maps):
        y = raw.sigmoid()
        y[..., 0:2] = (y[..., 0:2] * 2.0 - 0.5 + _grid(network, raw)) * stride
        y[..., 2:4] = (y[..., 2:4] * 2) ** 2 * anchors
        rows.append(y.view(1, -1, network.each))
        raws.append(raw)
    return torch.cat(rows, 1), *raws


def exponential(network, maps):
    """The formula before YOLOv5's."""
    rows = []
    for raw, stride, anchors in _heads(network, maps):
        xy = (raw[..., 0:2].sigmoid() + _grid(network, raw)) * stride
        wh = raw[..., 2:4].exp() * anchors
        rows.append(torch.cat((xy, wh, raw[..., 4:].sigmoid()), -1).view(1, -1, network.each))
    return torch.cat(rows, 1)


def exponential_sizes(network, maps):
    """YOLOv5's centres, and sizes by the formula before it."""
    rows = []
    for raw, stride, anchors in _heads(network, maps):
        xy = (raw[..., 0:2].sigmoid() * 2 - 0.5 + _grid(network, raw)) * stride
        wh = raw[..., 2:4].exp() * anchors
        rows.append(torch.cat((xy, wh, raw[..., 4:].sigmoid()), -1).view(1, -1, network.each))
    return torch.cat(rows, 1)


def landmarks(network, maps):
    """Decoded, with points behind the objectness, as face and plate detectors have them."""
    rows = []
    for raw, stride, anchors in _heads(network, maps):
        q = raw.sigmoid()
        xy = (q[..., 0:2] * 2 - 0.5 + _grid(network, raw)) * stride
        wh = (q[..., 2:4] * 2) ** 2 * anchors
        points = raw[..., 5:7] * anchors + _grid(network, raw) * stride
        rows.append(torch.cat((xy, wh, q[..., 4:5], points, q[..., 7:]), -1))
    return torch.cat([row.view(1, -1, network.each) for row in rows], 1)


def corners(network, maps):
    """Decoded to the corners of boxes."""
    xy, wh, rest = split(network, maps).split((2, 2, network.each - 4), 2)
    return torch.cat((xy - wh / 2, xy + wh / 2, rest), 2)


def _heads(network, maps):
    """(raw 5-D map, stride, anchors) of each head."""
    anchors = network.anchors_px.view(len(maps), 1, network.na, 1, 1, 2)
    return zip(five_d(network, maps), network.strides, anchors, strict=True)


def _grid(network, raw):
    """(1, 1, ny, nx, 2), computed from the sizes where those are open."""
    ny, nx = raw.shape[2:4]
    y, x = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
    return torch.stack((x, y), 2).view(1, 1, ny, nx, 2).float()


class DistributionHead(nn.Module):
    """An anchor-free detector's end: sides of a box as distributions, classes beside them."""

    def __init__(self, classes=4, strides=(8, 16, 32), joined=True):
        super().__init__()
        torch.manual_seed(0)
        depth = int(np.log2(max(strides)))
        self.stages = nn.ModuleList(nn.Conv2d(8 if i else 3, 8, 3, 2, 1) for i in range(depth))
        self.boxes = nn.ModuleList(nn.Conv2d(8, 64, 1) for _ in strides)
        self.classes = nn.ModuleList(nn.Conv2d(8, classes, 1) for _ in strides)
        self.sums = nn.Conv2d(16, 1, 1, bias=False)
        self.strides, self.joined, self.wh, self.channels = strides, joined, (96, 64), 3

    def forward(self, x):
        at = {}
        for i, stage in enumerate(self.stages):
            x = functional.silu(stage(x))
            at[2 ** (i + 1)] = x
        parts = [
            (box(at[s]), classes(at[s]))
            for box, classes, s in zip(self.boxes, self.classes, self.strides, strict=True)
        ]
        if not self.joined:
            # the vendor's form: box, classes, and the sum of the classes, of each head
            triples = [(b, c.sigmoid(), c.sigmoid().sum(1, keepdim=True)) for b, c in parts]
            return tuple(output for triple in triples for output in triple)
        both = torch.cat([torch.cat(part, 1).flatten(2) for part in parts], 2)
        box, classes = both.split((64, both.shape[1] - 64), 1)
        sides = self.sums(box.view(1, 4, 16, -1).transpose(2, 1).softmax(1)).view(1, 4, -1)
        return torch.cat((sides, classes.sigmoid()), 1)


def export(network: nn.Module, path: Path, opset: int = 12, sizes_open: bool = False) -> None:
    """Write a network as torch's older exporter does."""
    open_axes = {"images": {0: "batch", 2: "height", 3: "width"}} if sizes_open else None
    with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # it deprecates itself, and remarks on traced sizes
        torch.onnx.export(
            network.eval(),
            torch.zeros(1, network.channels, network.wh[1], network.wh[0]),
            path,
            opset_version=opset,
            input_names=["images"],
            dynamic_axes=open_axes,
            dynamo=False,
        )
