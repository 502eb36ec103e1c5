"""Which tensors of an int8 model stay in float16: by name, by the toolkit, or by its analysis."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.errors import UserError
from runtime.terminal import printable

SHOWN = 12
"""So many are named where a person reads them; the manifest has all."""

_ROW = re.compile(r"\[(?P<operation>[^\]]+)\] (?P<tensor>\S.*?)\s*")
_NUMBERS = re.compile(r"(?P<names>.*?)(?P<numbers>(?:\s+\S+ \| \S+){2})\s*")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CONVOLUTIONS = "Conv", "Gemm", "MatMul", "exMatMul"
_ACTIVATIONS = (
    "Clip",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Tanh",
    "exHardSwish",
    "exMish",
    "exSwish",
)


@dataclass(frozen=True)
class Row:
    """A line of the analysis: a tensor, what makes it, and the cosine of float and int8 with
    nothing but its own operation quantized; None where the analysis does not say."""

    operation: str
    tensor: str
    cosine: float | None


def read_analysis(text: str) -> list[Row]:
    """The rows of the toolkit's error_analysis.txt, in the order of the network; what is none is
    passed over. The columns are "entire" (errors add up) and "single", each cosine | distance."""
    rows = []
    for line in _COLOURS.sub("", text).splitlines():
        numbers = _NUMBERS.fullmatch(line)
        found = _ROW.fullmatch(numbers["names"] if numbers else line)
        if found:
            rows.append(Row(found["operation"], found["tensor"], numbers and _single(numbers)))
    return rows


def worst_layers(texts: Sequence[str], count: int, tensors: Sequence[str]) -> tuple[str, ...]:
    """The tensors of the layers that lose most by int8, a convolution and the activation behind it
    each, in the network's order. texts: an analysis a picture, whose losses are added; tensors: all
    that may be chosen. Raises UserError where the analyses name no layer of those."""
    allowed, losses, members = {*tensors}, {}, {}
    for text in texts:
        for layer in _layers(read_analysis(text)):
            names = tuple(row.tensor for row in layer if row.tensor in allowed)
            loss = max((1 - row.cosine for row in layer if row.cosine is not None), default=None)
            if names and loss is not None:
                members[layer[0].tensor] = names
                losses[layer[0].tensor] = losses.get(layer[0].tensor, 0.0) + loss
    if not losses:
        raise UserError(
            "the toolkit's accuracy analysis names no layer of this model; this version of it may"
            " print another table"
        )
    worst = sorted(losses, key=lambda name: -losses[name])[:count]
    chosen = {tensor for name in worst for tensor in members[name]}
    return tuple(name for name in tensors if name in chosen)


def named(names: Collection[str], tensors: Sequence[str]) -> tuple[str, ...]:
    """The names a user gave as the toolkit's, in the network's order. tensors: all that may be
    chosen. An output is known by its own name too. Raises UserError for one that does not exist."""
    found = set()
    for name in names:
        known = next((n for n in (name, f"{name}_int8") if n in tensors), None)
        if known is None:
            raise UserError(f"the model has no tensor {printable(name)!r}{_nearest(name, tensors)}")
        found.add(known)
    return tuple(name for name in tensors if name in found)


def hybrid_line(hybrid: Sequence[str]) -> str:
    """Which tensors stay in float16, for people; nothing where there are none."""
    if not hybrid:
        return ""
    more = f" and {len(hybrid) - SHOWN} more" if len(hybrid) > SHOWN else ""
    names = ", ".join(printable(name) for name in hybrid[:SHOWN])
    tensors = "1 tensor stays" if len(hybrid) == 1 else f"{len(hybrid)} tensors stay"
    return f"{tensors} in float16: {names}{more}"


def _single(numbers: re.Match[str]) -> float | None:
    try:
        cosine = float(numbers["numbers"].split()[3])
    except ValueError:
        return None
    return cosine if np.isfinite(cosine) else None


def _layers(rows: Sequence[Row]) -> list[list[Row]]:
    """Convolutions, each with the activation right behind it. A fused one is a row of its own."""
    layers, last = [], None
    for row in rows:
        if row.operation.startswith(_CONVOLUTIONS):
            last = [row]
            layers.append(last)
        else:
            if last and row.operation in _ACTIVATIONS:
                last.append(row)
            last = None
    return layers


def _nearest(name: str, tensors: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, tensors, 1, 0)
    return f"; the nearest name is {printable(near[0])}" if near else ""
