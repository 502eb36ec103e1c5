"""What a model costs: the table the vendor's compiler prints, read, kept and shown."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from convert.hybrid import hybrid_line
from runtime.cost import BASIS, BASIS_TARGET, MS_PER_MEGACYCLE, Cost, Costs, LayerCost
from runtime.manifest import Precision
from runtime.terminal import printable

DEAREST = 5
"""How many of the layers are kept by name."""
LABEL = "the vendor's compiler's own model, not a measurement"

_COMPILER = r"[DI] RKNN: \[[\d:.]+\] "
_TITLE = re.compile(_COMPILER + r"\s*Network Layer Information Table\s*")
_HEADER = re.compile(
    _COMPILER + r"ID +OpType +DataType +Target +InputShape +OutputShape"
    r" +Cycles\(DDR/NPU/Total\) +RW\(KB\) +FullName\s*"
)
_RULE = re.compile(_COMPILER + r"-+\s*")
_ROW = re.compile(
    _COMPILER + r"(?P<id>\d{1,6}) +(?P<operation>\S+) +\S+ +\S+ +\S+ +\S+"
    r" +(?P<memory>\d{1,15})/(?P<arithmetic>\d{1,15})/(?P<total>\d{1,15})"
    r" +(?P<moved>\d{1,12}(?:\.\d+)?) +(?P<name>\S.*?)\s*"
)
_MEMORY = re.compile(
    _COMPILER + r"Total (?P<what>Internal|Weight) Memory Size: (?P<kib>\d{1,12}(?:\.\d+)?)KB\s*"
)
_LONGEST_NAME = 120


def is_cost_line(line: str) -> bool:
    """Whether a line of the toolkit's log belongs to what is read here."""
    return any(p.fullmatch(line) for p in (_TITLE, _HEADER, _ROW, _MEMORY))


def read_cost(log: str) -> Cost | None:
    """The cost in the log of one build. None where its table is not there just once, is cut off, or
    has a row that cannot be read: a sum that lacks a layer is worse than none."""
    lines = log.split("\n")
    starts = [i for i, line in enumerate(lines) if _HEADER.fullmatch(line)]
    memory = [found for line in lines if (found := _MEMORY.fullmatch(line))]
    kib = {found["what"]: float(found["kib"]) for found in memory}
    layers = _layers(lines[starts[0] + 1 :]) if len(starts) == 1 else None
    if not layers or len(memory) != 2 or len(kib) != 2:
        return None
    dearest = sorted(layers, key=lambda layer: -layer.cycles)[:DEAREST]
    return Cost(
        layers=len(layers),
        cycles=sum(layer.cycles for layer in layers),
        moved_kib=sum(layer.moved_kib for layer in layers),
        weights_kib=kib["Weight"],
        features_kib=kib["Internal"],
        dearest=tuple(layer for layer in dearest if layer.cycles),
    )


def _layers(lines: list[str]) -> list[LayerCost] | None:
    """The rows between the rule under the header and the next one; their ids count from 0."""
    if not lines or not _RULE.fullmatch(lines[0]):
        return None
    layers = []
    for line in lines[1:]:
        if _RULE.fullmatch(line):
            return layers
        row = _ROW.fullmatch(line)
        if not row or int(row["id"]) != len(layers):
            return None
        layers.append(_layer(row))
    return None


def _layer(row: re.Match[str]) -> LayerCost:
    # the full name is an operation and the name of a node, which may hold anything
    name = row["name"].partition(":")[2] or row["name"]
    return LayerCost(
        name=printable(name)[:_LONGEST_NAME],
        operation=row["operation"],
        cycles=int(row["total"]),
        memory_cycles=int(row["memory"]),
        arithmetic_cycles=int(row["arithmetic"]),
        moved_kib=float(row["moved"]),
    )


def as_text(costs: Costs, target: str, hybrid: Sequence[str] = ()) -> str:
    """Both precisions side by side, then the layers with the most cycles of each; "" where neither
    is known. hybrid: tensors of the int8 model that stay in float16."""
    columns = {p: c for p in get_args(Precision) if (c := getattr(costs, p)) is not None}
    if not columns:
        return ""
    lines = [f"Cost of a picture on one core of an {target.upper()}: {LABEL}"]
    lines += [_line("", columns)]
    lines += [
        _line(name, [texts[i] for texts in map(_figures, columns.values())])
        for i, name in enumerate(_names(target))
    ]
    if target == BASIS_TARGET:
        lines += list(_basis())
    if hybrid:
        lines += [f"In int8, {hybrid_line(hybrid)}"]
    for precision, cost in columns.items():
        lines += ["", f"dearest layers in {precision:<24}{'million cycles':>16}{'share':>8}"]
        lines += [
            f"{printable(layer.name):<42}{layer.cycles / 1e6:>15.3f}"
            f"{layer.cycles / max(1, cost.cycles):>8.0%}"
            for layer in cost.dearest
        ]
    return "\n".join(lines)


def as_plain(costs: Costs, target: str, hybrid: Sequence[str] = ()) -> dict[str, Any]:
    """The same as plain data for programs."""
    plain = {"label": LABEL, "target": target} | costs.model_dump(mode="json")
    if hybrid:
        plain["hybrid"] = list(hybrid)
    if target != BASIS_TARGET:
        return plain
    for precision in get_args(Precision):
        if plain[precision]:
            plain[precision]["estimate_ms"] = list(getattr(costs, precision).milliseconds)
    keys = "model", "million_cycles", "frames_a_second"
    rates = [dict(zip(keys, row, strict=True)) for row in BASIS]
    return plain | {
        "estimate_basis": {"ms_per_million_cycles": list(MS_PER_MEGACYCLE), "published": rates}
    }


def _names(target: str) -> list[str]:
    names = ["million cycles", "weights, MiB", "feature maps, MiB", "read and written, MiB"]
    return [*names, "estimate, ms"] if target == BASIS_TARGET else names


def _figures(cost: Cost) -> list[str]:
    kib = cost.weights_kib, cost.features_kib, cost.moved_kib
    low, high = cost.milliseconds
    figures = [f"{cost.cycles / 1e6:.2f}", *(f"{n / 1024:.2f}" for n in kib)]
    return [*figures, f"{low:.1f} to {high:.1f}"]


def _line(name: str, values: Iterable[str]) -> str:
    return f"{name:<26}" + "".join(f"{value:>16}" for value in values)


def _basis() -> Iterator[str]:
    low, high = MS_PER_MEGACYCLE
    yield f"The estimate is the cycles at 1 GHz times {low:g} to {high:g}, which is how far off the"
    yield "rates are that the vendor publishes (int8, 640 x 640, one core):"
    for name, cycles, rate in BASIS:
        yield f"  {name}: {cycles:g} million cycles, {rate:g} frames a second"
