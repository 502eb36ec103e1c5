"""Convolutions, with the batch norm behind them folded in."""

from typing import Any

import numpy as np

from convert.checkpoint import Module
from convert.network.graph import Graph, Map
from runtime.errors import UserError

_TRANSPOSED = ("ConvTranspose2d", "DWConvTranspose2d")

_NORMS = ("BatchNorm2d", "SyncBatchNorm")
"""The second is what --sync-bn makes of the first; they differ in training only."""


def pair(value: Any, what: str, smallest: int = 0) -> tuple[int, int]:
    """An int or a pair of ints, as torch's modules keep sizes; (height, width)."""
    both = (value, value) if type(value) is int else value
    sized = isinstance(both, tuple | list) and len(both) == 2
    if not sized or not all(type(n) is int and smallest <= n <= 4096 for n in both):
        raise UserError(f"{what} is {value!r}, which is no size")
    return int(both[0]), int(both[1])


def weight_of(conv: Module, path: str) -> np.ndarray:
    """A convolution's weight, 4-D; checks that the module is nothing more than a convolution."""
    if conv.children or conv.parameters.keys() - {"weight", "bias"} or conv.buffers:
        raise UserError(f"{path}: {conv.class_name} has parts that a convolution does not have")
    weight = conv.parameters.get("weight")
    if weight is None or weight.ndim != 4 or 0 in weight.shape:
        raise UserError(f"{path}: {conv.class_name} has no 2-D convolution weight")
    if conv.attributes.get("padding_mode", "zeros") != "zeros":
        raise UserError(
            f"{path} pads with {conv.attributes['padding_mode']!r}; only zeros are built"
        )
    return weight


def folded(
    conv: Module, norm: Module | None, path: str, part: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """float64 weight and bias of a convolution and the batch norm behind it as one.

    part: which channels of the norm are this convolution's, where it spans several. The fold is
    w g / sqrt(var + eps) and (b - mean) g / sqrt(var + eps) + beta.
    """
    weight = weight_of(conv, path).astype(np.float64)
    transposed = conv.kind in _TRANSPOSED
    channels = weight.shape[1] * _groups(conv, path) if transposed else len(weight)
    bias = conv.parameters.get("bias", np.zeros(channels)).astype(np.float64)
    if norm is None:
        return weight, bias
    scale, shift = norm_as_scale_and_shift(norm, path)
    scale, shift = scale[part], shift[part]
    if scale.shape != bias.shape or transposed:
        raise UserError(f"{path}: {channels} channels meet a batch norm of {len(scale)}")
    return weight * scale[:, None, None, None], bias * scale + shift


def norm_as_scale_and_shift(norm: Module, path: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm in inference as float64 (channels,) factors and summands."""
    mean, variance = norm.buffers.get("running_mean"), norm.buffers.get("running_var")
    epsilon = norm.attributes.get("eps")
    if norm.kind not in _NORMS or mean is None or variance is None or mean.ndim != 1:
        raise UserError(f"{path}: {norm.class_name} is no batch norm with running statistics")
    if type(epsilon) is not float or mean.shape != variance.shape:
        raise UserError(f"{path}: the batch norm's statistics do not fit each other")
    deviation_squared = variance.astype(np.float64) + epsilon
    if not (deviation_squared > 0).all():
        raise UserError(f"{path}: the batch norm has a negative variance: the file is damaged")
    gamma = norm.parameters.get("weight", np.ones(len(mean)))
    beta = norm.parameters.get("bias", np.zeros(len(mean)))
    if not gamma.shape == beta.shape == mean.shape:
        raise UserError(f"{path}: the batch norm's parameters do not fit each other")
    scale = gamma / np.sqrt(deviation_squared)
    return scale, beta - mean * scale


def convolve(
    graph: Graph,
    conv: Module,
    x: Map,
    path: str,
    norm: Module | None = None,
    part: slice = slice(None),
) -> Map:
    """A Conv2d or ConvTranspose2d, and the batch norm behind it if there is one."""
    if conv.kind in _TRANSPOSED:
        return _transposed(graph, conv, x, path, *folded(conv, norm, path, part))
    if conv.kind != "Conv2d":
        raise UserError(f"{path} is a {conv.class_name} where a Conv2d belongs")
    weight, bias = folded(conv, norm, path, part)
    stride, pads, dilation = geometry(conv, weight, path)
    return emit(graph, x, path, weight, bias, stride, pads, dilation, _groups(conv, path))


def emit(
    graph: Graph,
    x: Map,
    path: str,
    weight: np.ndarray,
    bias: np.ndarray,
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Map:
    """One Conv node; pads are symmetric, (height, width)."""
    _expect_channels(x, weight.shape[1] * groups, path)
    if weight.shape[0] % groups or bias.shape != (weight.shape[0],):
        raise UserError(f"{path}: weight {weight.shape} and bias {bias.shape} do not fit")
    kernel = weight.shape[2:]
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((x.height, x.width), pads, dilation, kernel, stride, strict=True)
    ]
    _expect_positive(size, path)
    name = graph.add(
        "Conv",
        path,
        [
            x.name,
            constant(graph, f"{path}.weight", weight),
            constant(graph, f"{path}.bias", bias),
        ],
        kernel_shape=kernel,
        strides=stride,
        pads=[*pads, *pads],
        dilations=dilation,
        group=groups,
    )
    return Map(name, weight.shape[0], *size)


def _transposed(
    graph: Graph, conv: Module, x: Map, path: str, weight: np.ndarray, bias: np.ndarray
) -> Map:
    stride, pads, dilation = geometry(conv, weight, path)
    extra = pair(conv.attributes.get("output_padding", 0), f"{path}.output_padding")
    groups, kernel = _groups(conv, path), weight.shape[2:]
    _expect_channels(x, weight.shape[0], path)
    if weight.shape[0] % groups or bias.shape != (weight.shape[1] * groups,):
        raise UserError(f"{path}: weight {weight.shape} and bias {bias.shape} do not fit")
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            (x.height, x.width), stride, pads, dilation, kernel, extra, strict=True
        )
    ]
    _expect_positive(size, path)
    name = graph.add(
        "ConvTranspose",
        path,
        [
            x.name,
            constant(graph, f"{path}.weight", weight),
            constant(graph, f"{path}.bias", bias),
        ],
        kernel_shape=kernel,
        strides=stride,
        pads=[*pads, *pads],
        dilations=dilation,
        output_padding=extra,
        group=groups,
    )
    return Map(name, len(bias), *size)


def geometry(conv: Module, weight: np.ndarray, path: str) -> tuple[tuple[int, int], ...]:
    """(stride, padding, dilation), each (height, width)."""
    stride = pair(conv.attributes.get("stride", 1), f"{path}.stride", 1)
    dilation = pair(conv.attributes.get("dilation", 1), f"{path}.dilation", 1)
    padding = conv.attributes.get("padding", 0)
    if padding == "valid":
        padding = 0
    elif padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(span % 2 for span in spans):
            raise UserError(f"{path} pads an even kernel to the same size, which is not built")
        padding = tuple(span // 2 for span in spans)
    return stride, pair(padding, f"{path}.padding"), dilation


def _groups(conv: Module, path: str) -> int:
    groups = conv.attributes.get("groups", 1)
    weight = weight_of(conv, path)
    if type(groups) is not int or groups < 1 or len(weight) % groups:
        raise UserError(
            f"{path}.groups is {groups!r}, which does not divide {len(weight)} channels"
        )
    return groups


def constant(graph: Graph, path: str, array: np.ndarray) -> str:
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise UserError(f"{path} is too large for float32 once its batch norm is folded in")
    return graph.constant(path, single)


def _expect_channels(x: Map, channels: int, path: str) -> None:
    if x.channels != channels:
        raise UserError(
            f"{path} takes {channels} channels and gets {x.channels}: the network is not wired as"
            " stock YOLOv5; export ONNX where it was trained and convert that"
        )


def _expect_positive(size: list[int], path: str) -> None:
    if min(size) < 1:
        raise UserError(f"{path}: nothing is left of the picture here; use a larger --size")
