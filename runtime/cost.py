"""What the vendor's compiler thinks a model costs: its own model of the chip, not a measurement."""

from pydantic import BaseModel, ConfigDict, Field

MS_PER_MEGACYCLE = 1.4, 1.9
"""A core runs at 1 GHz and needs so many times the compiler's cycles: the spread between those and
the vendor's own single-core rates, see BASIS."""
BASIS = (
    ("yolov5n", 6.64, 82.5),
    ("yolov5s", 11.73, 48.4),
    ("yolov5m", 32.5, 20.9),
)
"""int8, 640 x 640, one core of an RK3588: the compiler's million cycles, and the frames a second
the vendor publishes."""
BASIS_TARGET = "rk3588"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerCost(_Strict):
    """One layer: cycles are the greater of those of its memory and of its arithmetic; moved_kib is
    what it reads and writes."""

    name: str
    operation: str
    cycles: int = Field(ge=0)
    memory_cycles: int = Field(ge=0)
    arithmetic_cycles: int = Field(ge=0)
    moved_kib: float = Field(ge=0)


class Cost(_Strict):
    """One picture on one core, by the vendor's compiler. layers, cycles and moved_kib are sums over
    all layers, dearest holds the few with the most cycles; weights_kib and features_kib are the
    memory that the model takes."""

    layers: int = Field(gt=0)
    cycles: int = Field(ge=0)
    moved_kib: float = Field(ge=0)
    weights_kib: float = Field(ge=0)
    features_kib: float = Field(ge=0)
    dearest: tuple[LayerCost, ...]

    @property
    def milliseconds(self) -> tuple[float, float]:
        """A range for one picture, on the chip BASIS is of."""
        low, high = MS_PER_MEGACYCLE
        return self.cycles / 1e6 * low, self.cycles / 1e6 * high


class Costs(_Strict):
    """The same graph in both precisions; None where the compiler did not say."""

    int8: Cost | None
    fp16: Cost | None
