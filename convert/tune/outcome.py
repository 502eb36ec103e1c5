"""What came of a trial."""

from pydantic import BaseModel, ConfigDict, Field

from convert.tune.space import Trial

_Unit = Field(ge=0, le=1)


class Accuracy(BaseModel):
    """On labelled pictures: mean over classes, as rkyolo evaluate has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    map50: float = _Unit
    map50_95: float = _Unit


class Outcome(BaseModel):
    """A trial's numbers, or why there are none.

    trial: None for the float model. f1, mean_iou: agreement of the built model with the float one.
    accuracy: None without labels. cycles: a picture's on the NPU by the vendor's compiler, None
    where it did not say. hybrid: the tensors that stay in float16. failed: the reason, or
    nothing. seconds: how long it took; worker: where; finished: when, in seconds since 1970.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: Trial | None
    f1: float | None = Field(None, ge=0, le=1)
    mean_iou: float | None = Field(None, ge=0, le=1)
    accuracy: Accuracy | None = None
    cycles: int | None = Field(None, ge=0)
    hybrid: tuple[str, ...] = ()
    failed: str = ""
    seconds: float = Field(ge=0)
    worker: str = ""
    finished: float = 0

    @property
    def is_base_again(self) -> bool:
        """Whether it was to leave something in float16 and nothing was found for that, so that it
        is the trial without, and was not measured."""
        asked = self.trial is not None and self.trial.hybrid != "none"
        return asked and not self.failed and not self.hybrid

    @property
    def counts(self) -> bool:
        """Whether it can be weighed against others."""
        return not self.failed and not self.is_base_again

    @property
    def score(self) -> float:
        """What trials are compared by: mAP50-95, or without labels F1 times the mean IoU of what
        matches, so that boxes that are a little off count too. -1 for a failed one."""
        if self.failed:
            return -1.0
        if self.accuracy:
            return self.accuracy.map50_95
        return (self.f1 or 0.0) * (self.mean_iou or 0.0)
