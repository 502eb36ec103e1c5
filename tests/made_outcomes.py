"""Outcomes that nothing was run for."""

from convert.tune.outcome import Accuracy, Outcome
from convert.tune.space import Trial


def outcome(score: float | None, megacycles: float | None = 1.0, **trial: str) -> Outcome:
    """Of a trial with that mAP50-95 and that cost; a failed one for no score."""
    if score is None:
        return Outcome(trial=Trial(**trial), failed="it broke", seconds=1)
    return Outcome(
        trial=Trial(**trial),
        f1=0.95,
        mean_iou=0.9,
        accuracy=Accuracy(map50=score, map50_95=score),
        cycles=None if megacycles is None else round(megacycles * 1e6),
        seconds=1,
    )
