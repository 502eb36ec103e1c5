"""What can be chosen in a conversion, and which trials lie one choice apart."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from runtime.manifest import Activation, Algorithm, Outputs, Stem

Subset = Literal["all", "half", "other-half", "quarter"]
"""Which of the calibration pictures: every one; every second, from the first or from the second;
every fourth."""
FEWEST_IN_SUBSET = 8
"""A smaller part of the calibration pictures says too little to be tried."""


class Trial(BaseModel):
    """One way to convert. The defaults are those of rkyolo convert."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    activation: Activation = "sigmoid"
    heads: Outputs = "one"
    stem: Stem = "none"
    algorithm: Algorithm = "normal"
    calibration: Subset = "all"

    @property
    def key(self) -> str:
        """A name for it that is the same in every run, 12 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def change_from(self, other: "Trial") -> str:
        """What it has that another has not, like "heads split"; nothing where they are the same."""
        mine, theirs = self.model_dump(), other.model_dump()
        return ", ".join(f"{name} {mine[name]}" for name in mine if mine[name] != theirs[name])

    def options(self) -> str:
        """How rkyolo convert is asked for the same, but for the pictures."""
        mine, default = self.model_dump(exclude={"calibration"}), Trial().model_dump()
        return " ".join(f"--{name} {mine[name]}" for name in mine if mine[name] != default[name])


CHOICES = tuple(Trial.model_fields)


@dataclass(frozen=True)
class Space:
    """The values each choice may take, by its name, those that are tried first first."""

    values: dict[str, tuple[str, ...]]

    def neighbours(self, trial: Trial) -> Iterator[Trial]:
        """All trials that differ in one choice."""
        for name, values in self.values.items():
            for value in values:
                if value != getattr(trial, name):
                    yield trial.model_copy(update={name: value})


def space_for(
    pictures: int, wh: tuple[int, int], thorough: bool = False, keep: Collection[str] = ()
) -> Space:
    """What can be tried with so many calibration pictures at an input (width, height).

    thorough: mmse too, which takes minutes a trial. keep: choices that stay as convert has them.
    """
    values: dict[str, tuple[str, ...]] = {
        "activation": get_args(Activation),
        "heads": get_args(Outputs),
        "stem": get_args(Stem) if all(side % 2 == 0 for side in wh) else ("none",),
        "algorithm": get_args(Algorithm) if thorough else ("normal", "kl_divergence"),
        "calibration": tuple(
            name for name in get_args(Subset) if len(subset(range(pictures), name)) >= _least(name)
        ),
    }
    default = Trial()
    return Space(
        {name: (getattr(default, name),) if name in keep else values[name] for name in CHOICES}
    )


def subset(items: range | tuple, name: Subset) -> range | tuple:
    """The part of a sequence that a subset's name stands for."""
    parts = {
        "all": slice(None),
        "half": slice(0, None, 2),
        "other-half": slice(1, None, 2),
        "quarter": slice(0, None, 4),
    }
    return items[parts[name]]


def _least(name: Subset) -> int:
    return 0 if name == "all" else FEWEST_IN_SUBSET
