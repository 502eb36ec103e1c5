"""What a user chooses of how a model is built."""

from dataclasses import dataclass

from runtime.errors import UserError
from runtime.manifest import Algorithm, Precision, Target


@dataclass(frozen=True)
class Options:
    """How to build: target chip, precision, and how ranges are chosen from calibration.

    What stays in float16 in an int8 model is at most one of: hybrid, names of tensors;
    hybrid_layers, so many layers that int8 serves worst; auto_hybrid, what the toolkit itself
    chooses for layers whose cosine to float is below that.
    """

    target: Target = "rk3588"
    precision: Precision = "int8"
    algorithm: Algorithm = "normal"
    hybrid: tuple[str, ...] = ()
    hybrid_layers: int | None = None
    auto_hybrid: float | None = None

    @property
    def is_hybrid(self) -> bool:
        """Whether anything is asked to stay in float16."""
        return bool(self.hybrid or self.hybrid_layers or self.auto_hybrid)

    def check(self) -> None:
        """Raises UserError for what cannot be asked for together, or at all."""
        given = [
            option
            for option, value in (
                ("--hybrid", self.hybrid or None),
                ("--hybrid-layers", self.hybrid_layers),
                ("--auto-hybrid", self.auto_hybrid),
            )
            if value is not None
        ]
        if given and self.precision != "int8":
            raise UserError(
                f"--precision {self.precision} has every tensor in float: leave {given[0]} out"
            )
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} choose the same thing: give one of them")
        if self.hybrid_layers is not None and self.hybrid_layers < 1:
            raise UserError(f"--hybrid-layers {self.hybrid_layers} is too few: give 1 or more")
        if self.auto_hybrid is not None and not 0 < self.auto_hybrid <= 1:
            raise UserError(
                f"--auto-hybrid {self.auto_hybrid:g} is no cosine: give more than 0, at most 1,"
                " like 0.99"
            )
