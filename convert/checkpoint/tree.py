"""A network as plain data: the module objects of a checkpoint with their weights as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.checkpoint.archive import Archive
from convert.checkpoint.values import Instance, StoredTensor

_MOST_MODULES = 50_000
_DEEPEST = 64


@dataclass(frozen=True, eq=False)
class Module:
    """One torch.nn.Module of a checkpoint.

    class_name: as pickled, module path and all. attributes: its public state but for tensors.
    parameters, buffers, plain_tensors (attributes that are tensors): arrays by name, floats as
    float32. children: submodules by name, in order.
    """

    class_name: str
    attributes: dict[str, Any]
    parameters: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    plain_tensors: dict[str, np.ndarray]
    children: dict[str, "Module"]

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
    return _Builder(archive).build(value, 0)


class _Builder:
    """Counts modules and numbers, so that a small file cannot describe a huge tree."""

    def __init__(self, archive: Archive):
        self._archive = archive
        self._modules = 0
        self._left = 4 * sum(len(data) for data in archive.storages.values()) + 1_000_000

    def build(self, value: Instance, depth: int) -> Module:
        self._modules += 1
        if self._modules > _MOST_MODULES or depth > _DEEPEST:
            raise ValueError("its module tree is not that of a network")
        state = value.state
        children = state.get("_modules", {})
        return Module(
            class_name=str(value.cls),
            attributes={
                str(name): item
                for name, item in state.items()
                if not str(name).startswith("_") and not isinstance(item, StoredTensor)
            },
            parameters=self._tensors(state.get("_parameters")),
            buffers=self._tensors(state.get("_buffers")),
            plain_tensors=self._tensors(state),
            children={
                str(name): self.build(child, depth + 1)
                for name, child in children.items()
                if is_module(child)
            },
        )

    def _tensors(self, named: Any) -> dict[str, np.ndarray]:
        if not isinstance(named, dict):
            return {}
        return {
            str(name): self._array(item)
            for name, item in named.items()
            if isinstance(item, StoredTensor)
        }

    def _array(self, stored: StoredTensor) -> np.ndarray:
        array = self._archive.tensor(stored)
        self._left -= array.size
        if self._left < 0:
            raise ValueError("its weights overlap")
        return array
