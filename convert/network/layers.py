"""YOLOv5's layers, from their module objects to nodes.

Each function takes the graph, the module, its inputs and its dotted path, and gives its output map.
A layer is known by its class's bare name, since forks move classes about, and its parts are checked
to be just those of the stock class, so that a changed class of the same name is refused.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convert.checkpoint import Module
from convert.network import attention
from convert.network.activations import ACTIVATIONS, activate
from convert.network.convolution import (
    convolve,
    emit,
    folded,
    norm_as_scale_and_shift,
    pair,
    weight_of,
)
from convert.network.graph import Graph, Map
from runtime.errors import UserError

Layer = Callable[[Graph, Module, Sequence[Map], str], Map]

_LARGEST_POOL = 5
"""Stride-1 pools above this are chains of smaller ones: exact, and fast on the NPU."""


def kind_of(module: Module) -> str:
    """The name a layer is known by; pruning tools add a suffix to the stock name."""
    return module.kind.removesuffix("Pruned")


def build_layer(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """The output of one layer. Raises UserError for layers that are not built, or not as stock."""
    kind = kind_of(module)
    if kind in ACTIVATIONS:
        return activate(graph, module, _only(inputs, module, path), path)
    if kind not in LAYERS:
        raise UserError(f"{path}: {module.class_name} is no layer that rkyolo builds")
    return LAYERS[kind](graph, module, inputs, path)


def is_known(module: Module) -> bool:
    return kind_of(module) in LAYERS or module.kind in ACTIVATIONS


def _only(inputs: Sequence[Map], module: Module, path: str) -> Map:
    if len(inputs) != 1:
        raise UserError(f"{path}: {module.class_name} gets {len(inputs)} inputs, not one")
    return inputs[0]


def _parts(module: Module, path: str, needed: str, optional: str = "") -> None:
    """Check that a module has just these children and no weights of its own."""
    names = set(module.children)
    missing = set(needed.split()) - names
    extra = names - set(needed.split()) - set(optional.split()) | set(module.tensors())
    if missing or extra:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has {', '.join(sorted(extra))}"
        raise UserError(
            f"{path}: {module.class_name} {what}, unlike YOLOv5's own {kind_of(module)}; export"
            " ONNX where the model was trained and convert that"
        )


def _child(graph: Graph, module: Module, name: str, x: Map, path: str) -> Map:
    return build_layer(graph, module.children[name], [x], f"{path}.{name}")


def _concat(graph: Graph, inputs: Sequence[Map], path: str) -> Map:
    sizes = {(x.height, x.width) for x in inputs}
    if len(sizes) != 1:
        raise UserError(f"{path} joins maps of different sizes: {sorted(sizes)}")
    name = graph.add("Concat", path, [x.name for x in inputs], axis=1)
    return Map(name, sum(x.channels for x in inputs), inputs[0].height, inputs[0].width)


def _sum(graph: Graph, a: Map, b: Map, path: str) -> Map:
    if (a.channels, a.height, a.width) != (b.channels, b.height, b.width):
        raise UserError(f"{path} adds maps of different shapes, unlike YOLOv5's own")
    return a.resized(graph.add("Add", path, [a.name, b.name]), a.height, a.width)


def _conv(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """Convolution, batch norm (gone in a fused model), activation."""
    _parts(module, path, "conv act", "bn")
    x = _only(inputs, module, path)
    y = convolve(graph, module.children["conv"], x, f"{path}.conv", module.children.get("bn"))
    return _child(graph, module, "act", y, path)


def _bare_conv(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    return convolve(graph, module, _only(inputs, module, path), path)


def _batch_norm(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """A batch norm on its own, as a 1x1 convolution of each channel."""
    x = _only(inputs, module, path)
    scale, shift = norm_as_scale_and_shift(module, path)
    return emit(graph, x, path, scale[:, None, None, None], shift, groups=len(scale))


def _focus(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """Four pixel parities stacked as channels and convolved, as one convolution of twice the kernel
    and stride. The stock stack goes down the rows first; with a Contract part, along them first."""
    _parts(module, path, "conv", "contract")
    x, inner = _only(inputs, module, path), module.children["conv"]
    _parts(inner, f"{path}.conv", "conv act", "bn")
    conv = inner.children["conv"]
    weight, bias = folded(conv, inner.children.get("bn"), f"{path}.conv.conv")
    out, stacked, kh, kw = weight.shape
    if conv.attributes.get("groups", 1) != 1 or stacked != 4 * x.channels:
        raise UserError(f"{path}: Focus takes {stacked // 4} channels and gets {x.channels}")
    parities = [(0, 0), (1, 0), (0, 1), (1, 1)]  # (row, column)
    if "contract" in module.children:
        parities = [(0, 0), (0, 1), (1, 0), (1, 1)]
    whole = np.zeros((out, x.channels, 2 * kh, 2 * kw))
    for i, (row, column) in enumerate(parities):
        part = weight[:, i * x.channels : (i + 1) * x.channels]
        whole[:, :, row::2, column::2] = part
    stride = pair(conv.attributes.get("stride", 1), f"{path}.stride", 1)
    pads = pair(conv.attributes.get("padding", 0), f"{path}.padding")
    y = emit(
        graph, x, f"{path}.conv.conv", whole, bias,
        (2 * stride[0], 2 * stride[1]), (2 * pads[0], 2 * pads[1]),
    )  # fmt: skip
    return _child(graph, inner, "act", y, f"{path}.conv")


def _bottleneck(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """x + cv2(cv1(x)), or without x; CrossConv has the same form."""
    _parts(module, path, "cv1 cv2")
    x = _only(inputs, module, path)
    y = _child(graph, module, "cv2", _child(graph, module, "cv1", x, path), path)
    return _sum(graph, x, y, path) if _flag(module, "add", path) else y


def _flag(module: Module, name: str, path: str) -> bool:
    value = module.attributes.get(name)
    if not isinstance(value, bool):
        raise UserError(f"{path}: {module.class_name} does not say whether it has a shortcut")
    return value


def _c3(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """cv3(m(cv1(x)) and cv2(x)); the C3 of v3.1's experiments has BottleneckCSP's parts."""
    if "cv4" in module.children:
        return _bottleneck_csp(graph, module, inputs, path)
    _parts(module, path, "cv1 cv2 cv3 m")
    x = _only(inputs, module, path)
    y = _child(graph, module, "m", _child(graph, module, "cv1", x, path), path)
    both = _concat(graph, [y, _child(graph, module, "cv2", x, path)], path)
    return _child(graph, module, "cv3", both, path)


def _bottleneck_csp(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """cv4(act(bn(cv3(m(cv1(x))) and cv2(x)))), the norm folded into the two convolutions."""
    _parts(module, path, "cv1 cv2 cv3 cv4 bn act m")
    x, norm = _only(inputs, module, path), module.children["bn"]
    deep = _child(graph, module, "m", _child(graph, module, "cv1", x, path), path)
    split = len(weight_of(module.children["cv3"], f"{path}.cv3"))
    y1 = convolve(graph, module.children["cv3"], deep, f"{path}.cv3", norm, slice(split))
    y2 = convolve(graph, module.children["cv2"], x, f"{path}.cv2", norm, slice(split, None))
    both = _child(graph, module, "act", _concat(graph, [y1, y2], path), path)
    return _child(graph, module, "cv4", both, path)


def _ghost_conv(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """cv1(x) and cv2(cv1(x))."""
    _parts(module, path, "cv1 cv2")
    y = _child(graph, module, "cv1", _only(inputs, module, path), path)
    return _concat(graph, [y, _child(graph, module, "cv2", y, path)], path)


def _ghost_bottleneck(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """conv(x) + shortcut(x)."""
    _parts(module, path, "conv shortcut")
    x = _only(inputs, module, path)
    y = _child(graph, module, "conv", x, path)
    return _sum(graph, y, _child(graph, module, "shortcut", x, path), path)


def _spp(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """cv2(cv1(x) and its pools); a pool of n behind one of k is a pool of n + k - 1."""
    _parts(module, path, "cv1 cv2 m")
    x = _child(graph, module, "cv1", _only(inputs, module, path), path)
    sizes = [_odd_pool(pool, f"{path}.m") for pool in module.children["m"].children.values()]
    pools, last, reached = {1: x}, x, 1
    for size in sorted(set(sizes) - {1}):
        while reached < size:
            step = min(size - reached + 1, _LARGEST_POOL)
            last = _pool(graph, last, (step, step), (1, 1), (step // 2, step // 2), f"{path}.m")
            reached += step - 1
        pools[size] = last
    both = _concat(graph, [x, *(pools[size] for size in sizes)], path)
    return _child(graph, module, "cv2", both, path)


def _sppf(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """cv2(y and three pools in a row), y = cv1(x)."""
    _parts(module, path, "cv1 cv2 m")
    size = _odd_pool(module.children["m"], f"{path}.m")
    maps = [_child(graph, module, "cv1", _only(inputs, module, path), path)]
    for _ in range(3):
        maps.append(
            _pool(graph, maps[-1], (size, size), (1, 1), (size // 2, size // 2), f"{path}.m")
        )
    return _child(graph, module, "cv2", _concat(graph, maps, path), path)


def _odd_pool(module: Module, path: str) -> int:
    """The kernel of a stride-1 pool that keeps its input's size."""
    size = module.attributes.get("kernel_size")
    kept = type(size) is int and 1 <= size <= 255 and size % 2 == 1
    if module.kind != "MaxPool2d" or not kept or module.attributes.get("padding") != size // 2:
        raise UserError(f"{path}: {module.class_name} is no pool that keeps the size, as in stock")
    if module.attributes.get("stride") != 1 or module.attributes.get("dilation", 1) != 1:
        raise UserError(f"{path}: {module.class_name} is no pool of stride 1, as in stock")
    return size


def _pool(
    graph: Graph, x: Map, kernel: tuple[int, int], stride: tuple[int, int],
    pads: tuple[int, int], path: str, ceil: bool = False,
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


def _max_pool(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    attributes = module.attributes
    kernel = pair(attributes.get("kernel_size"), f"{path}.kernel_size", 1)
    stride = pair(attributes.get("stride") or kernel, f"{path}.stride", 1)
    pads = pair(attributes.get("padding", 0), f"{path}.padding")
    if pair(attributes.get("dilation", 1), f"{path}.dilation", 1) != (1, 1):
        raise UserError(f"{path} is a dilated pool, which is not built")
    if any(p > k // 2 for p, k in zip(pads, kernel, strict=True)):
        raise UserError(f"{path} pads more than half its kernel")
    ceil = attributes.get("ceil_mode") is True
    return _pool(graph, _only(inputs, module, path), kernel, stride, pads, path, ceil)


def _zero_pad(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    x, padding = _only(inputs, module, path), module.attributes.get("padding")
    sides = (padding,) * 4 if type(padding) is int else padding
    sized = isinstance(sides, tuple | list) and len(sides) == 4
    if not sized or not all(type(n) is int and 0 <= n <= 4096 for n in sides):
        raise UserError(f"{path}.padding is {padding!r}, which is no padding")
    left, right, top, bottom = sides
    pads = graph.constant(f"{path}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    name = graph.add("Pad", path, [x.name, pads], mode="constant")
    return x.resized(name, x.height + top + bottom, x.width + left + right)


def _upsample(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    x, attributes = _only(inputs, module, path), module.attributes
    scale = _scale(attributes, x, path)
    mode, aligned = attributes.get("mode", "nearest"), attributes.get("align_corners")
    if mode == "nearest":
        how = {"mode": "nearest", "nearest_mode": "floor"}
        how["coordinate_transformation_mode"] = "asymmetric"
    elif mode == "bilinear":
        how = {"mode": "linear"}
        how["coordinate_transformation_mode"] = "align_corners" if aligned else "pytorch_half_pixel"
    else:
        raise UserError(f"{path} upsamples by {mode!r}; nearest and bilinear are built")
    scales = graph.constant(f"{path}.scales", np.array([1, 1, *scale], np.float32))
    name = graph.add("Resize", path, [x.name, "", scales], **how)
    return x.resized(name, int(x.height * scale[0]), int(x.width * scale[1]))


def _scale(attributes: dict[str, Any], x: Map, path: str) -> tuple[float, float]:
    size, factor = attributes.get("size"), attributes.get("scale_factor")
    if size is not None:
        height, width = pair(size, f"{path}.size", 1)
        return height / x.height, width / x.width
    both = factor if isinstance(factor, tuple | list) else (factor, factor)
    if len(both) != 2 or not all(type(f) in (int, float) and 1 <= f <= 16 for f in both):
        raise UserError(f"{path}.scale_factor is {factor!r}, which is no scale")
    return float(both[0]), float(both[1])


def _concat_layer(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    if module.attributes.get("d", 1) != 1 or module.children:
        raise UserError(f"{path} joins along another axis than channels")
    return _concat(graph, inputs, path)


def _contract(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """Blocks of gain x gain pixels become channels, along the row first."""
    x, gain = _only(inputs, module, path), _gain(module, path)
    if x.height % gain or x.width % gain:
        raise UserError(f"{path} folds {gain} pixels into one, and {x.height}x{x.width} is no multiple")
    name = graph.add("SpaceToDepth", path, [x.name], blocksize=gain)
    return Map(name, x.channels * gain**2, x.height // gain, x.width // gain)


def _expand(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """Channels become blocks of gain x gain pixels, along the row first."""
    x, gain = _only(inputs, module, path), _gain(module, path)
    if x.channels % gain**2:
        raise UserError(f"{path} unfolds {gain}x{gain} pixels, and {x.channels} is no multiple")
    name = graph.add("DepthToSpace", path, [x.name], blocksize=gain, mode="DCR")
    return Map(name, x.channels // gain**2, x.height * gain, x.width * gain)


def _gain(module: Module, path: str) -> int:
    gain = module.attributes.get("gain")
    if type(gain) is not int or not 1 <= gain <= 64:
        raise UserError(f"{path}.gain is {gain!r}, which is no gain")
    return gain


def _sequential(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    if module.tensors():
        raise UserError(f"{path}: {module.class_name} has weights of its own")
    x = _only(inputs, module, path)
    for name in module.children:
        x = _child(graph, module, name, x, path)
    return x


def _pass_through(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    return _only(inputs, module, path)


def _transformer(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """The tokens of conv(x), with a learned position added, through the transformer layers."""
    _parts(module, path, "linear tr", "conv")
    x = _only(inputs, module, path)
    if "conv" in module.children:
        x = _child(graph, module, "conv", x, path)
    x = attention.embed_position(graph, module.children["linear"], x, f"{path}.linear")
    for name, layer in module.children["tr"].children.items():
        _parts(layer, f"{path}.tr.{name}", "q k v ma fc1 fc2")
        x = attention.transformer_layer(graph, layer, x, f"{path}.tr.{name}")
    return x


LAYERS: dict[str, Layer] = {
    "Conv": _conv,
    "DWConv": _conv,
    "Conv2d": _bare_conv,
    "ConvTranspose2d": _bare_conv,
    "DWConvTranspose2d": _bare_conv,
    "BatchNorm2d": _batch_norm,
    "Focus": _focus,
    "Bottleneck": _bottleneck,
    "CrossConv": _bottleneck,
    "BottleneckCSP": _bottleneck_csp,
    "C3": _c3,
    "C3TR": _c3,
    "C3SPP": _c3,
    "C3Ghost": _c3,
    "C3x": _c3,
    "GhostConv": _ghost_conv,
    "GhostBottleneck": _ghost_bottleneck,
    "SPP": _spp,
    "SPPF": _sppf,
    "TransformerBlock": _transformer,
    "MaxPool2d": _max_pool,
    "ZeroPad2d": _zero_pad,
    "Upsample": _upsample,
    "UpsamplingNearest2d": _upsample,
    "Concat": _concat_layer,
    "Contract": _contract,
    "Expand": _expand,
    "Sequential": _sequential,
    "Dropout": _pass_through,
}
