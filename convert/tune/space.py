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
Hybrid = Literal["none", "layers-8", "auto-0.99", "auto-0.999"]
"""What stays in float16: nothing; so many layers that int8 serves worst, by the toolkit's analysis;
what the toolkit itself finds below that cosine."""
FEWEST_IN_SUBSET = 8
"""A smaller part of the calibration pictures says too little to be tried."""


class Trial(BaseModel):
    """One way to convert. The defaults are those of rkyolo convert."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    activation: Activation = "sigmoid"
    heads: Outputs = "one"
    stem: Stem = "none"
    algorithm: Algorithm = "normal"
    hybrid: Hybrid = "none"
    calibration: Subset = "all"

    @property
    def key(self) -> str:
        """A name for it that is the same in every run, 12 hexadecimal digits."""
        # as it was before there were hybrid ones, so that finished trials stay finished
        later = {"hybrid"} if self.hybrid == "none" else None
        return hashlib.sha256(self.model_dump_json(exclude=later).encode()).hexdigest()[:12]

    @property
    def base(self) -> "Trial":
        """The same with nothing in float16."""
        return self.model_copy(update={"hybrid": "none"})

    @property
    def hybrid_layers(self) -> int | None:
        """How many of the worst layers stay in float16; None where that is not what is chosen."""
        kind, _, value = self.hybrid.partition("-")
        return int(value) if kind == "layers" else None

    @property
    def auto_hybrid(self) -> float | None:
        """The cosine below which the toolkit leaves layers in float16; None where it is not
        asked to."""
        kind, _, value = self.hybrid.partition("-")
        return float(value) if kind == "auto" else None

    def change_from(self, other: "Trial") -> str:
        """What it has that another has not, like "heads split"; nothing where they are the same."""
        mine, theirs = self.model_dump(), other.model_dump()
        return ", ".join(f"{name} {mine[name]}" for name in mine if mine[name] != theirs[name])

    def options(self) -> str:
        """How rkyolo convert is asked for the same, but for the pictures."""
        mine, default = self.model_dump(exclude={"calibration", "hybrid"}), Trial().model_dump()
        said = [f"--{name} {mine[name]}" for name in mine if mine[name] != default[name]]
        if self.hybrid_layers:
            said.append(f"--hybrid-layers {self.hybrid_layers}")
        if self.auto_hybrid:
            said.append(f"--auto-hybrid {self.auto_hybrid:g}")
        return " ".join(said)


CHOICES = tuple(Trial.model_fields)


@dataclass(frozen=True)
class Space:
    """The values each choice may take, by its name, those that are tried first first; and what may
    stay in float16, which is tried of the best alone: it is a remedy, and dear to try."""

    values: dict[str, tuple[str, ...]]
    hybrids: tuple[Hybrid, ...] = ()

    def hybrids_of(self, trial: Trial) -> Iterator[Trial]:
        """All trials that differ in what stays in float16."""
        for value in self.hybrids:
            yield trial.model_copy(update={"hybrid": value})

    def neighbours(self, trial: Trial) -> Iterator[Trial]:
        """All trials that differ in one choice, but for what stays in float16."""
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
        {
            name: (getattr(default, name),) if name in keep else tried
            for name, tried in values.items()
        },
        () if "hybrid" in keep else tuple(name for name in get_args(Hybrid) if name != "none"),
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
