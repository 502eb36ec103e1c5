"""YOLOv5's layers, from their module objects to nodes.

Each function takes the graph, the module, its input and its dotted path, and gives its output map.
A layer is known by its class's bare name, since forks move classes about, and its parts are checked
to be just those of the stock class, so that a changed class of the same name is refused.
"""

from collections.abc import Callable, Sequence

import numpy as np

from convert.checkpoint import Module
from convert.network import attention
from convert.network.activations import ACTIVATIONS, activate
from convert.network.convolution import (
    convolve,
    emit,
    folded,
    geometry,
    norm_as_scale_and_shift,
    weight_of,
)
from convert.network.graph import Graph, Map
from convert.network.spatial import (
    add,
    concat,
    contract,
    expand,
    max_pool,
    max_pool_layer,
    odd_pool,
    upsample,
    zero_pad,
)
from runtime.errors import UserError

Layer = Callable[[Graph, Module, Map, str], Map]

_JOIN = "Concat"
"""The one layer of several inputs."""

_LARGEST_POOL = 5
"""Stride-1 pools above this are chains of smaller ones: exact, and fast on the NPU."""

_FOCUS_PLAIN = ("groups", "dilation")

_INNER = frozenset(
    "ModuleList TransformerLayer MultiheadAttention Linear NonDynamicallyQuantizableLinear"
    " _LinearWithBias".split()
)
"""Parts that are built by the layer they are in."""


def kind_of(module: Module) -> str:
    """The name a layer is known by; pruning tools add a suffix to the stock name."""
    return module.kind.removesuffix("Pruned")


def build_layer(graph: Graph, module: Module, inputs: Sequence[Map], path: str) -> Map:
    """The output of one layer. Raises UserError for layers that are not built, or not as stock."""
    kind = kind_of(module)
    if kind == _JOIN:
        if module.attributes.get("d", 1) != 1 or module.children:
            raise UserError(f"{path} joins along another axis than channels")
        return concat(graph, inputs, path)
    if not is_known(module):
        raise UserError(f"{path}: {module.class_name} is no layer that rkyolo builds")
    if len(inputs) != 1:
        raise UserError(f"{path}: {module.class_name} gets {len(inputs)} inputs, not one")
    return (LAYERS.get(kind) or activate)(graph, module, inputs[0], path)


def is_known(module: Module) -> bool:
    return kind_of(module) in {*LAYERS, *ACTIVATIONS, _JOIN}


def unknown_in(module: Module) -> set[str]:
    """Class names of the layers in a module, itself included, that are not built. What is inside
    such a layer is not looked at."""
    if not is_known(module) and module.kind not in _INNER:
        return {module.class_name}
    return set().union(*map(unknown_in, module.children.values()))


def _parts(module: Module, path: str, needed: str, optional: str = "") -> None:
    """Check that a module has just these children and no weights of its own."""
    names = set(module.children)
    missing = set(needed.split()) - names
    extra = names - set(needed.split()) - set(optional.split()) | set(module.tensors())
    if missing or extra:
        what = (
            f"lacks {', '.join(sorted(missing))}" if missing else f"has {', '.join(sorted(extra))}"
        )
        raise UserError(
            f"{path}: {module.class_name} {what}, unlike YOLOv5's own {kind_of(module)}; export"
            " ONNX where the model was trained and convert that"
        )


def _child(graph: Graph, module: Module, name: str, x: Map, path: str) -> Map:
    return build_layer(graph, module.children[name], [x], f"{path}.{name}")


def _conv(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """Convolution, batch norm (gone in a fused model), activation."""
    _parts(module, path, "conv act", "bn")
    y = convolve(graph, module.children["conv"], x, f"{path}.conv", module.children.get("bn"))
    return _child(graph, module, "act", y, path)


def _bare_conv(graph: Graph, module: Module, x: Map, path: str) -> Map:
    return convolve(graph, module, x, path)


def _batch_norm(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """A batch norm on its own, as a 1x1 convolution of each channel."""
    scale, shift = norm_as_scale_and_shift(module, path)
    return emit(graph, x, path, scale[:, None, None, None], shift, groups=len(scale))


def _focus(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """Four pixel parities stacked as channels and convolved, as one convolution of twice the kernel
    and stride. The stock stack goes down the rows first; with a Contract part, along them first."""
    _parts(module, path, "conv", "contract")
    inner = module.children["conv"]
    _parts(inner, f"{path}.conv", "conv act", "bn")
    conv = inner.children["conv"]
    plain = all(conv.attributes.get(name, 1) in (1, (1, 1), [1, 1]) for name in _FOCUS_PLAIN)
    if conv.kind != "Conv2d" or not plain:
        raise UserError(f"{path}: a Focus with groups or dilation is not built")
    weight, bias = folded(conv, inner.children.get("bn"), f"{path}.conv.conv")
    out, stacked, kh, kw = weight.shape
    if stacked != 4 * x.channels:
        raise UserError(f"{path}: Focus takes {stacked // 4} channels and gets {x.channels}")
    parities = [(0, 0), (1, 0), (0, 1), (1, 1)]  # (row, column)
    if "contract" in module.children:
        parities = [(0, 0), (0, 1), (1, 0), (1, 1)]
    whole = np.zeros((out, x.channels, 2 * kh, 2 * kw))
    for i, (row, column) in enumerate(parities):
        part = weight[:, i * x.channels : (i + 1) * x.channels]
        whole[:, :, row::2, column::2] = part
    stride, pads, _ = geometry(conv, weight, path)
    y = emit(
        graph, x, f"{path}.conv.conv", whole, bias,
        (2 * stride[0], 2 * stride[1]), (2 * pads[0], 2 * pads[1]),
    )  # fmt: skip
    return _child(graph, inner, "act", y, f"{path}.conv")


def _bottleneck(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """x + cv2(cv1(x)), or without x; CrossConv has the same form."""
    _parts(module, path, "cv1 cv2")
    y = _child(graph, module, "cv2", _child(graph, module, "cv1", x, path), path)
    return add(graph, x, y, path) if _flag(module, "add", path) else y


def _flag(module: Module, name: str, path: str) -> bool:
    value = module.attributes.get(name)
    if type(value) not in (bool, int):  # YAML's 0 and 1 are kept as such
        raise UserError(f"{path}: {module.class_name} does not say whether it has a shortcut")
    return bool(value)


def _c3(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """cv3(m(cv1(x)) and cv2(x)); the C3 of v3.1's experiments has BottleneckCSP's parts."""
    if "cv4" in module.children:
        return _bottleneck_csp(graph, module, x, path)
    _parts(module, path, "cv1 cv2 cv3 m")
    y = _child(graph, module, "m", _child(graph, module, "cv1", x, path), path)
    both = concat(graph, [y, _child(graph, module, "cv2", x, path)], path)
    return _child(graph, module, "cv3", both, path)


def _bottleneck_csp(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """cv4(act(bn(cv3(m(cv1(x))) and cv2(x)))), the norm folded into the two convolutions."""
    _parts(module, path, "cv1 cv2 cv3 cv4 bn act m")
    norm = module.children["bn"]
    deep = _child(graph, module, "m", _child(graph, module, "cv1", x, path), path)
    split = len(weight_of(module.children["cv3"], f"{path}.cv3"))
    y1 = convolve(graph, module.children["cv3"], deep, f"{path}.cv3", norm, slice(split))
    y2 = convolve(graph, module.children["cv2"], x, f"{path}.cv2", norm, slice(split, None))
    both = _child(graph, module, "act", concat(graph, [y1, y2], path), path)
    return _child(graph, module, "cv4", both, path)


def _ghost_conv(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """cv1(x) and cv2(cv1(x))."""
    _parts(module, path, "cv1 cv2")
    y = _child(graph, module, "cv1", x, path)
    return concat(graph, [y, _child(graph, module, "cv2", y, path)], path)


def _ghost_bottleneck(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """conv(x) + shortcut(x)."""
    _parts(module, path, "conv shortcut")
    y = _child(graph, module, "conv", x, path)
    return add(graph, y, _child(graph, module, "shortcut", x, path), path)


def _spp(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """cv2(cv1(x) and its pools); a pool of n behind one of k is a pool of n + k - 1."""
    _parts(module, path, "cv1 cv2 m")
    x = _child(graph, module, "cv1", x, path)
    sizes = [odd_pool(pool, f"{path}.m") for pool in module.children["m"].children.values()]
    pools, last, reached = {1: x}, x, 1
    for size in sorted(set(sizes) - {1}):
        while reached < size:
            step = min(size - reached + 1, _LARGEST_POOL)
            last = max_pool(graph, last, (step, step), (1, 1), (step // 2, step // 2), f"{path}.m")
            reached += step - 1
        pools[size] = last
    both = concat(graph, [x, *(pools[size] for size in sizes)], path)
    return _child(graph, module, "cv2", both, path)


def _sppf(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """cv2(y and three pools in a row), y = cv1(x)."""
    _parts(module, path, "cv1 cv2 m")
    size = odd_pool(module.children["m"], f"{path}.m")
    maps = [_child(graph, module, "cv1", x, path)]
    for _ in range(3):
        maps.append(
            max_pool(graph, maps[-1], (size, size), (1, 1), (size // 2, size // 2), f"{path}.m")
        )
    return _child(graph, module, "cv2", concat(graph, maps, path), path)


def _sequential(graph: Graph, module: Module, x: Map, path: str) -> Map:
    if module.tensors():
        raise UserError(f"{path}: {module.class_name} has weights of its own")
    for name in module.children:
        x = _child(graph, module, name, x, path)
    return x


def _pass_through(graph: Graph, module: Module, x: Map, path: str) -> Map:
    return x


def _transformer(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """The tokens of conv(x), with a learned position added, through the transformer layers."""
    _parts(module, path, "linear tr", "conv")
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
    "SyncBatchNorm": _batch_norm,
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
    "MaxPool2d": max_pool_layer,
    "ZeroPad2d": zero_pad,
    "Upsample": upsample,
    "UpsamplingNearest2d": upsample,
    "Contract": contract,
    "Expand": expand,
    "Sequential": _sequential,
    "Dropout": _pass_through,
}
