"""What a pickle turns into here: plain values, and inert records of everything else."""

from dataclasses import dataclass, field
from typing import Any


def expect(condition: bool) -> None:
    """Raise ValueError where a pickle gives a known constructor what no checkpoint gives it."""
    if not condition:
        raise ValueError("unexpected arguments")


def is_count(value: Any) -> bool:
    """Whether a value can be a size, stride or offset."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


@dataclass(frozen=True)
class Global:
    """A name in a module, as the pickle gives it. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Instance:
    """An object of a class that was never imported: its class's name and its state."""

    cls: Global
    state: dict[str, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Opaque:
    """A value whose content does not matter for the network."""

    of: Global


@dataclass(frozen=True)
class Storage:
    """A run of numbers kept outside the pickle."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage: offset, size and stride in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False)
class NumpyValue:
    """A numpy dtype or array being rebuilt; value is set once its state has come."""

    of: Global
    value: Any = None
