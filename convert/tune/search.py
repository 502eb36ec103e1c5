"""Which trials to run, one after the other."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from convert.tune.outcome import Outcome
from convert.tune.pareto import winner
from convert.tune.space import Space, Trial
from runtime.errors import CheckFailedError, UserError

Run = Callable[[Sequence[Trial]], Sequence[Outcome | None]]
"""Runs trials in any order and gives their outcomes in theirs; None for one that was not run, for
lack of time."""


@dataclass(frozen=True)
class Tried:
    """A trial's outcome, and the outcome of the best before it, which it differs from in one
    choice; None for the start."""

    outcome: Outcome
    origin: Outcome | None


@dataclass(frozen=True)
class Found:
    """All trials in order, the winner, why it won, and whether everything was tried. same: trials
    that left nothing in float16 that another one had not, and are no trials of their own."""

    tried: tuple[Tried, ...]
    winner: Outcome
    reason: str
    whole: bool
    same: tuple[Trial, ...] = ()


def search(start: Trial, space: Space, run: Run, most: int | None = None) -> Found:
    """Walk from start to the best: try every single change, go on from the winner of all so far,
    until no change of it is left to try; then try what of the winner may stay in float16. most: run
    no more trials than that.

    What is tried depends on outcomes only and not on the order they come in. Raises UserError where
    there was no time for anything, CheckFailedError where all that was tried failed.
    """
    known: dict[Trial, Tried] = {}
    same: list[Trial] = []
    best, wanted = None, [start, *space.neighbours(start)]
    while wanted:
        allowed = wanted if most is None else wanted[: most - len(known) - len(same)]
        outcomes = run(allowed)
        origin = best or outcomes[0]
        for trial, outcome in zip(allowed, outcomes, strict=True):
            if outcome is not None and _is_same(outcome, known):
                same.append(trial)
            elif outcome is not None:
                known[trial] = Tried(outcome, None if trial == start else origin)
        best, reason = _best(known, start)
        whole = len(allowed) == len(wanted) and None not in outcomes
        wanted = _left(space, best.trial, {*known, *same})
        if not whole:
            break
    return Found(tuple(known.values()), best, reason, not wanted, tuple(same))


def _left(space: Space, best: Trial, seen: Collection[Trial]) -> list[Trial]:
    """Single changes of the best that were not tried, and once there are none, what of it may stay
    in float16."""
    changes = [trial for trial in space.neighbours(best.base) if trial not in seen]
    return changes or [trial for trial in space.hybrids_of(best.base) if trial not in seen]


def _is_same(outcome: Outcome, known: dict[Trial, Tried]) -> bool:
    """Whether a hybrid trial built what another one has."""
    if not outcome.hybrid:
        return outcome.is_base_again
    return any(
        trial.base == outcome.trial.base and tried.outcome.hybrid == outcome.hybrid
        for trial, tried in known.items()
    )


def _best(known: dict[Trial, Tried], start: Trial) -> tuple[Outcome, str]:
    if not known:
        raise UserError("there was no time for a single trial: give more --minutes")
    outcomes = [tried.outcome for tried in known.values()]
    best = winner(outcomes, start)
    if best is None:
        raise CheckFailedError(f"no trial passed; the first one failed: {outcomes[0].failed}")
    return best
