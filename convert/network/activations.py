"""Activation functions, in operations that ONNX opset 13 and the vendor's toolkit both know."""

from collections.abc import Callable

import numpy as np

from convert.checkpoint import Module
from convert.network.convolution import constant, convolve
from convert.network.graph import Graph, Map
from runtime.errors import UserError

Emit = Callable[[Graph, Module, Map, str], str]


def activate(graph: Graph, module: Module, x: Map, path: str) -> Map:
    """x behind the activation that a module is. Raises UserError for one that is not built."""
    name = ACTIVATIONS[module.kind](graph, module, x, path)
    return x.resized(name, x.height, x.width)


def _one(op: str) -> Emit:
    return lambda graph, module, x, path: graph.add(op, path, [x.name])


def _number(module: Module, name: str, default: float, path: str) -> float:
    value = module.attributes.get(name, default)
    if type(value) not in (int, float) or not np.isfinite(value):
        raise UserError(f"{path}.{name} is {value!r}, which is no number")
    return float(value)


def _identity(graph: Graph, module: Module, x: Map, path: str) -> str:
    return x.name


def _silu(graph: Graph, module: Module, x: Map, path: str) -> str:
    return graph.add("Mul", path, [x.name, graph.add("Sigmoid", path, [x.name])])


def _hardswish(graph: Graph, module: Module, x: Map, path: str) -> str:
    gate = graph.add("HardSigmoid", path, [x.name], alpha=1 / 6, beta=0.5)
    return graph.add("Mul", path, [x.name, gate])


def _hardsigmoid(graph: Graph, module: Module, x: Map, path: str) -> str:
    return graph.add("HardSigmoid", path, [x.name], alpha=1 / 6, beta=0.5)


def _mish(graph: Graph, module: Module, x: Map, path: str) -> str:
    gate = graph.add("Tanh", path, [graph.add("Softplus", path, [x.name])])
    return graph.add("Mul", path, [x.name, gate])


def _leaky_relu(graph: Graph, module: Module, x: Map, path: str) -> str:
    slope = _number(module, "negative_slope", 0.01, path)
    return graph.add("LeakyRelu", path, [x.name], alpha=slope)


def _elu(graph: Graph, module: Module, x: Map, path: str) -> str:
    return graph.add("Elu", path, [x.name], alpha=_number(module, "alpha", 1.0, path))


def _relu6(graph: Graph, module: Module, x: Map, path: str) -> str:
    bounds = [graph.constant(f"{path}.{n}", np.array(n, np.float32)) for n in (0, 6)]
    return graph.add("Clip", path, [x.name, *bounds])


def _softplus(graph: Graph, module: Module, x: Map, path: str) -> str:
    if _number(module, "beta", 1, path) != 1:
        raise UserError(f"{path}: only a Softplus with beta 1 is built")
    return graph.add("Softplus", path, [x.name])


def _prelu(graph: Graph, module: Module, x: Map, path: str) -> str:
    slope = _per_channel(module, "weight", x, path)
    return graph.add("PRelu", path, [x.name, constant(graph, f"{path}.weight", slope)])


def _per_channel(module: Module, name: str, x: Map, path: str) -> np.ndarray:
    """A parameter of one number, or of one a channel, as float64 (channels or 1, 1, 1)."""
    values = module.parameters.get(name)
    if values is None or values.size not in (1, x.channels):
        raise UserError(f"{path}.{name} does not fit {x.channels} channels")
    return values.reshape(-1, 1, 1).astype(np.float64)


def _frelu(graph: Graph, module: Module, x: Map, path: str) -> str:
    """max(x, bn(conv(x)))."""
    if module.children.keys() != {"conv", "bn"}:
        raise UserError(
            f"{path}: {module.class_name} has other parts than a convolution and a norm"
        )
    funnel = convolve(graph, module.children["conv"], x, f"{path}.conv", module.children["bn"])
    return graph.add("Max", path, [x.name, funnel.name])


def _acon_c(graph: Graph, module: Module, x: Map, path: str) -> str:
    """(p1 x - p2 x) sigmoid(beta (p1 x - p2 x)) + p2 x, one p1, p2 and beta a channel."""
    p1, p2, beta = (_per_channel(module, name, x, path) for name in ("p1", "p2", "beta"))
    difference = graph.add("Mul", path, [x.name, constant(graph, f"{path}.p1-p2", p1 - p2)])
    scaled = graph.add("Mul", path, [difference, constant(graph, f"{path}.beta", beta)])
    gated = graph.add("Mul", path, [difference, graph.add("Sigmoid", path, [scaled])])
    rest = graph.add("Mul", path, [x.name, constant(graph, f"{path}.p2", p2)])
    return graph.add("Add", path, [gated, rest])


ACTIVATIONS: dict[str, Emit] = {
    "Identity": _identity,
    "SiLU": _silu,
    "Swish": _silu,
    "MemoryEfficientSwish": _silu,
    "Hardswish": _hardswish,
    "Hardsigmoid": _hardsigmoid,
    "Mish": _mish,
    "MemoryEfficientMish": _mish,
    "ReLU": _one("Relu"),
    "ReLU6": _relu6,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "PReLU": _prelu,
    "Sigmoid": _one("Sigmoid"),
    "Tanh": _one("Tanh"),
    "Softplus": _softplus,
    "FReLU": _frelu,
    "AconC": _acon_c,
}
