"""A network as plain data: the module objects of a checkpoint with their weights as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.checkpoint.archive import Archive
from convert.checkpoint.values import Global, Instance, Opaque, StoredTensor

_MOST_PARTS = 200_000
"""Modules, tensors and other state of all modules together. The largest YOLOv5 has a tenth."""

_DEEPEST = 64
_LONGEST_NAME = 100
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_PROFILER_BUFFERS = frozenset({"total_ops", "total_params"})
"""What the profiler thop leaves behind in every module."""

_NOT_PLAIN = Opaque(Global("builtins", "object"))


@dataclass(frozen=True, eq=False)
class Module:
    """One torch.nn.Module of a checkpoint.

    class_name: as pickled, module path and all. attributes: its public state but for tensors, plain
    and flat. parameters, buffers, plain_tensors (attributes that are tensors): arrays by name,
    floats as float32. children: submodules by name, in order. hooked: whether it has functions of
    its own that run before or behind it.
    """

    class_name: str
    attributes: dict[str, Any]
    parameters: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    plain_tensors: dict[str, np.ndarray]
    children: dict[str, "Module"]
    hooked: bool = False

    @property
    def kind(self) -> str:
        """The class's bare name: forks move classes to other modules and keep their names."""
        return self.class_name.rpartition(".")[2]

    def walk(self, path: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and all below it with their dotted paths, parents first."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(f"{path}.{name}" if path else name)

    def tensors(self) -> dict[str, np.ndarray]:
        return self.parameters | self.buffers


def is_module(value: Any) -> bool:
    """Whether a pickle's value is a torch.nn.Module's record."""
    return isinstance(value, Instance) and isinstance(value.state.get("_modules"), dict)


def build_tree(value: Instance, archive: Archive) -> Module:
    """The module tree below a record that is_module. Raises ValueError where a tensor does not fit
    its storage, a module is part of itself, or the tree is larger than any network."""
    return _Builder(archive).build(value, 0)[0]


class _Builder:
    """Builds every module once, however often it is part of others, and counts it as often as it
    is, so that a small file cannot describe a huge tree."""

    def __init__(self, archive: Archive):
        self._archive = archive
        self._built: dict[int, tuple[Module, _Extent]] = {}
        self._plain: dict[int, Any] = {}
        self._read = self._numbers = 0
        self._most_numbers = sum(len(data) for data in archive.storages.values()) + 1_000_000

    def build(self, value: Instance, depth: int) -> tuple[Module, "_Extent"]:
        """A module and what it amounts to."""
        if id(value) in self._built:
            return self._built[id(value)]
        state = value.state
        parts = [_dict(state.get(name)) for name in ("_parameters", "_buffers", "_modules")]
        self._read += len(state) + sum(map(len, parts))
        if depth > _DEEPEST or self._read > _MOST_PARTS:
            raise ValueError("its module tree is not that of a network")
        parameters, buffers, plain = map(self._tensors, (*parts[:2], state))
        children = {
            _name(name): self.build(child, depth + 1)
            for name, child in parts[2].items()
            if is_module(child)
        }
        module = Module(
            class_name=str(value.cls),
            attributes=self._attributes(state),
            parameters=parameters,
            buffers={name: a for name, a in buffers.items() if name not in _PROFILER_BUFFERS},
            plain_tensors=plain,
            children={name: child for name, (child, _) in children.items()},
            hooked=any(_dict(state.get(name)) for name in _HOOKS),
        )
        extent = self._sum(
            _Extent(1, 1 + sum(map(len, parts)), sum(a.size for a in module.tensors().values())),
            *(extent for _, extent in children.values()),
        )
        self._built[id(value)] = module, extent
        return module, extent

    def _sum(self, own: "_Extent", *children: "_Extent") -> "_Extent":
        total = _Extent(
            height=own.height + max((child.height for child in children), default=0),
            parts=own.parts + sum(child.parts for child in children),
            numbers=own.numbers + sum(child.numbers for child in children),
        )
        if total.height > _DEEPEST or total.parts > _MOST_PARTS:
            raise ValueError("its module tree is not that of a network")
        if total.numbers > self._most_numbers:
            raise ValueError("its weights overlap")
        return total

    def _tensors(self, named: dict[Any, Any]) -> dict[str, np.ndarray]:
        return {
            _name(name): self._array(item)
            for name, item in named.items()
            if isinstance(item, StoredTensor)
        }

    def _array(self, stored: StoredTensor) -> np.ndarray:
        if id(stored) not in self._plain:
            array = self._archive.tensor(stored)
            self._numbers += array.size
            if self._numbers > self._most_numbers:
                raise ValueError("its weights overlap")
            self._plain[id(stored)] = array
        return self._plain[id(stored)]

    def _attributes(self, state: dict[Any, Any]) -> dict[str, Any]:
        public = {n: v for n, v in state.items() if isinstance(n, str) and not n.startswith("_")}
        return {
            name: self._attribute(item)
            for name, item in public.items()
            if not isinstance(item, StoredTensor)
        }

    def _attribute(self, value: Any) -> Any:
        """An attribute as plain data: a scalar, or a flat list, tuple or dict of scalars. What is
        neither becomes an Opaque, so that nothing built from attributes has to mind its depth."""
        if not isinstance(value, list | tuple | dict):
            return _scalar(value)
        if id(value) not in self._plain:
            if isinstance(value, dict):
                self._plain[id(value)] = {key: _scalar(item) for key, item in value.items()}
            else:
                self._plain[id(value)] = type(value)(map(_scalar, value))
        return self._plain[id(value)]


@dataclass(frozen=True)
class _Extent:
    """What a module amounts to with all below it: levels, modules and tensors, numbers."""

    height: int
    parts: int
    numbers: int


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _name(name: Any) -> str:
    """A part's name. Raises ValueError for one that torch does not allow, or nobody can read."""
    readable = isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()
    if not readable or not {"/", "."}.isdisjoint(name):
        raise ValueError("a part of the network has an unreadable name")
    return name


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return _NOT_PLAIN
