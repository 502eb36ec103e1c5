"""Layers without weights: they join, pool, pad and move pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from convert.checkpoint import Module
from convert.network.convolution import pair
from convert.network.graph import Graph, Map
from runtime.errors import UserError


def concat(graph: Graph, inputs: Sequence[Map], path: str) -> Map:
    """Maps of one size, their channels one behind the other."""
    sizes = {(x.height, x.width) for x in inputs}
    if len(sizes) != 1:
        raise UserError(f"{path} joins maps of different sizes: {sorted(sizes)}")
    name = graph.add("Concat", path, [x.name for x in inputs], axis=1)
    return Map(name, sum(x.channels for x in inputs), inputs[0].height, inputs[0].width)


def add(graph: Graph, a: Map, b: Map, path: str) -> Map:
    """The sum of two maps of one shape."""
    if (a.channels, a.height, a.width) != (b.channels, b.height, b.width):
        raise UserError(f"{path} adds maps of different shapes, unlike YOLOv5's own")
    return a.resized(graph.add("Add", path, [a.name, b.name]), a.height, a.width)


def odd_pool(module: Module, path: str) -> int:
    """The kernel of a stride-1 pool that keeps its input's size."""
    size = module.attributes.get("kernel_size")
    kept = type(size) is int and 1 <= size <= 255 and size % 2 == 1
    if module.kind != "MaxPool2d" or not kept or module.attributes.get("padding") != size // 2:
        raise UserError(f"{path}: {module.class_name} is no pool that keeps the size, as in stock")
    if module.attributes.get("stride") != 1 or module.attributes.get("dilation", 1) != 1:
        raise UserError(f"{path}: {module.class_name} is no pool of stride 1, as in stock")
    return size


def max_pool(
    graph: Graph,
    x: Map,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int],
    path: str,
    ceil: bool = False,
) -> Map:
    """A max pool. Rounding the size up is written as more padding at the end, which is exact."""
    size, ends = [], []
    for n, k, s, p in zip((x.height, x.width), kernel, stride, pads, strict=True):
        out = (n + 2 * p - k) // s + 1
        if ceil and (n + 2 * p - k) % s and out * s < n + p:
            out += 1
        size.append(out)
        ends.append(max(p, (out - 1) * s + k - n - p))
    if min(size) < 1:
        raise UserError(f"{path}: nothing is left of the picture here; use a larger --size")
    name = graph.add(
        "MaxPool", path, [x.name], kernel_shape=kernel, strides=stride, pads=[*pads, *ends]
    )
    return x.resized(name, *size)


def max_pool_layer(graph: Graph, module: Module, x: Map, path: str) -> Map:
    attributes = module.attributes
    kernel = pair(attributes.get("kernel_size"), f"{path}.kernel_size", 1)
    stride = pair(attributes.get("stride") or kernel, f"{path}.stride", 1)
    pads = pair(attributes.get("padding", 0), f"{path}.padding")
    if pair(attributes.get("dilation", 1), f"{path}.dilation", 1) != (1, 1):
        raise UserError(f"{path} is a dilated pool, which is not built")
    if attributes.get("return_indices"):
        raise UserError(f"{path} also returns the places of its maxima, unlike YOLOv5's own")
    if any(p > k // 2 for p, k in zip(pads, kernel, strict=True)):
        raise UserError(f"{path} pads more than half its kernel")
    ceil = attributes.get("ceil_mode") is True
    return max_pool(graph, x, kernel, stride, pads, path, ceil)


def zero_pad(graph: Graph, module: Module, x: Map, path: str) -> Map:
    padding = module.attributes.get("padding")
    sides = (padding,) * 4 if type(padding) is int else padding
    sized = isinstance(sides, tuple | list) and len(sides) == 4
    if not sized or not all(type(n) is int and 0 <= n <= 4096 for n in sides):
        raise UserError(f"{path}.padding is {padding!r}, which is no padding")
    left, right, top, bottom = sides
    pads = graph.constant(f"{path}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    name = graph.add("Pad", path, [x.name, pads], mode="constant")
    return x.resized(name, x.height + top + bottom, x.width + left + right)


def upsample(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """torch's Upsample, by a factor or to a size; nearest and bilinear."""
    attributes = module.attributes
    mode, aligned = attributes.get("mode", "nearest"), attributes.get("align_corners")
    if mode == "nearest":
        how = {"mode": "nearest", "nearest_mode": "floor"}
        how["coordinate_transformation_mode"] = "asymmetric"
    elif mode == "bilinear":
        how = {"mode": "linear"}
        how["coordinate_transformation_mode"] = "align_corners" if aligned else "pytorch_half_pixel"
    else:
        raise UserError(f"{path} upsamples by {mode!r}; nearest and bilinear are built")
    if attributes.get("size") is not None:
        height, width = pair(attributes["size"], f"{path}.size", 1)
        sizes = graph.constant(f"{path}.sizes", np.array([1, x.channels, height, width]))
        inputs = [x.name, "", "", sizes]
    else:
        scale = _scale(attributes, path)
        height, width = int(x.height * scale[0]), int(x.width * scale[1])
        inputs = [x.name, "", graph.constant(f"{path}.scales", np.array([1, 1, *scale], "<f4"))]
    return x.resized(graph.add("Resize", path, inputs, **how), height, width)


def _scale(attributes: dict[str, Any], path: str) -> tuple[float, float]:
    factor = attributes.get("scale_factor")
    both = factor if isinstance(factor, tuple | list) else (factor, factor)
    if len(both) != 2 or not all(type(f) in (int, float) and 1 <= f <= 16 for f in both):
        raise UserError(f"{path}.scale_factor is {factor!r}, which is no scale")
    return float(both[0]), float(both[1])


def contract(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """Blocks of gain x gain pixels become channels, along the row first."""
    gain = _gain(module, path)
    if x.height % gain or x.width % gain:
        raise UserError(
            f"{path} folds {gain} pixels into one, and {x.height}x{x.width} is no multiple"
        )
    name = graph.add("SpaceToDepth", path, [x.name], blocksize=gain)
    return Map(name, x.channels * gain**2, x.height // gain, x.width // gain)


def expand(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """Channels become blocks of gain x gain pixels, along the row first."""
    gain = _gain(module, path)
    if x.channels % gain**2:
        raise UserError(f"{path} unfolds {gain}x{gain} pixels, and {x.channels} is no multiple")
    name = graph.add("DepthToSpace", path, [x.name], blocksize=gain, mode="DCR")
    return Map(name, x.channels // gain**2, x.height * gain, x.width * gain)


def _gain(module: Module, path: str) -> int:
    gain = module.attributes.get("gain")
    if type(gain) is not int or not 1 <= gain <= 64:
        raise UserError(f"{path}.gain is {gain!r}, which is no gain")
    return gain
