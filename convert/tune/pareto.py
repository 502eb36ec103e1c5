"""Weigh score against cost: which trials are worth having, and which one wins."""

from collections.abc import Sequence

from convert.tune.outcome import Outcome
from convert.tune.space import Trial

TOLERANCE = 0.003
"""Scores this close are as good as equal: on some dozens of pictures one box makes as much."""
CHEAPER = 0.03
"""A smaller saving of cycles does not weigh against a score."""


def front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that no other one beats in score without costing more, or in cost without scoring less;
    of equal ones the first."""
    fine = [outcome for outcome in outcomes if outcome.counts]
    return [
        one
        for place, one in enumerate(fine)
        if not any(_beats(other, one, i < place) for i, other in enumerate(fine) if i != place)
    ]


def winner(outcomes: Sequence[Outcome], start: Trial) -> tuple[Outcome, str] | None:
    """The best, and a sentence that says why; None where all failed.

    The highest score wins, unless another one within TOLERANCE of it costs less by CHEAPER; but
    none ever wins that scores less than start, which is what convert does by itself.
    """
    fine = [outcome for outcome in outcomes if outcome.counts]
    if not fine:
        return None
    top = min(fine, key=lambda outcome: (-outcome.score, _cycles(outcome)))
    floor = max((o.score for o in fine if o.trial == start), default=0.0)
    limit = max(top.score - TOLERANCE, floor)
    enough = [o for o in fine if o.score >= limit and _saving(o, top) >= CHEAPER]
    if not enough:
        return top, "it has the highest score, and none as good costs clearly less"
    cheap = min(enough, key=lambda outcome: (_cycles(outcome), -outcome.score))
    return cheap, (
        f"it scores within {TOLERANCE:g} of the highest, {top.score:.4f}, at"
        f" {_saving(cheap, top):.0%} fewer cycles, and no less than the start"
    )


def _beats(a: Outcome, b: Outcome, earlier: bool) -> bool:
    ours, theirs = (a.score, -_cycles(a)), (b.score, -_cycles(b))
    no_worse = ours[0] >= theirs[0] and ours[1] >= theirs[1]
    return no_worse and (ours != theirs or earlier)


def _cycles(outcome: Outcome) -> float:
    """What is not known counts as dear."""
    return float("inf") if outcome.cycles is None else float(outcome.cycles)


def _saving(outcome: Outcome, other: Outcome) -> float:
    """The part of another one's cycles that it does without; 0 where either is not known."""
    if outcome.cycles is None or not other.cycles:
        return 0.0
    return 1 - outcome.cycles / other.cycles
