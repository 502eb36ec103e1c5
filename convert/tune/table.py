"""What a search found, as a table and as plain data."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from convert.tune.outcome import Outcome
from convert.tune.pareto import front
from convert.tune.search import Found, Tried
from convert.tune.space import Trial
from runtime.terminal import printable


def table(found: Found, measure: str) -> Table:
    """A row a trial, in the order they were chosen: what it changed, from which, what that bought.
    measure names the score."""
    numbers, kept = _numbers(found), _front(found)
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    columns = ["trial", "choice", "from", measure, "bought", "Mcycles", "bought", "F1", "s", ""]
    for place, column in enumerate(columns):
        wide = column in ("choice", "")
        made.add_column(column, justify="left" if wide else "right", no_wrap=place != 9)
    for tried in found.tried:
        made.add_row(*map(Text, _row(tried, numbers, kept, found.winner)))
    return made


def _row(
    tried: Tried, numbers: dict[Trial, int], kept: Sequence[Outcome], winner: Outcome
) -> list[str]:
    outcome, origin = tried.outcome, tried.origin
    number = f"{numbers[outcome.trial]}"
    before = "" if origin is None else f"{numbers[origin.trial]}"
    start = [number, _change(tried), before]
    if outcome.failed:
        return [*start, *[""] * 6, f"failed: {printable(outcome.failed)}"]
    cycles = "" if outcome.cycles is None else f"{outcome.cycles / 1e6:.2f}"
    marks = [name for name, is_so in (("Pareto", outcome in kept), ("wins", outcome == winner))
             if is_so]  # fmt: skip
    if outcome.hybrid:
        marks.insert(0, f"{len(outcome.hybrid)} tensors in float16")
    bought = _bought(tried)
    return [
        *start,
        f"{outcome.score:.4f}",
        "" if bought["score"] is None else f"{bought['score']:+.4f}",
        cycles,
        "" if bought["cycles"] is None else f"{bought['cycles']:+.1%}",
        f"{outcome.f1:.4f}",
        f"{outcome.seconds:.0f}",
        ", ".join(marks),
    ]


def _bought(tried: Tried) -> dict[str, float | None]:
    """How much more a trial scores than what it came from, and costs as a part of that."""
    outcome, origin = tried.outcome, tried.origin
    if origin is None or origin.failed or outcome.failed:
        return {"score": None, "cycles": None}
    known = outcome.cycles is not None and origin.cycles
    return {
        "score": round(outcome.score - origin.score, 6),
        "cycles": round(outcome.cycles / origin.cycles - 1, 6) if known else None,
    }


def closing_lines(found: Found, reference: Outcome | None) -> list[str]:
    """The winner, why it won, how far it is from the float model, and what else is worth having."""
    winner, numbers = found.winner, _numbers(found)
    lines = [f"trial {numbers[winner.trial]} wins ({_how(winner.trial)}): {found.reason}"]
    if reference and reference.accuracy and winner.accuracy:
        away = winner.score - reference.score
        lines.append(f"the float model has mAP50-95 {reference.score:.4f}: {away:+.4f} from there")
    for other in _front(found):
        if other.trial != winner.trial and other.cycles is not None and winner.cycles:
            score, cycles = other.score - winner.score, other.cycles / winner.cycles - 1
            lines.append(
                f"beside it, trial {numbers[other.trial]} ({_how(other.trial)}) has {score:+.4f} at"
                f" {cycles:+.1%} cycles: rkyolo convert makes it"
            )
    failed = sum(bool(tried.outcome.failed) for tried in found.tried)
    if failed:
        lines.append(f"{failed} of the trials failed; --retry-failed runs them again")
    if found.same:
        lines.append(
            "left out, since no other tensors stay in float16 than in another trial:"
            f" {', '.join(trial.hybrid for trial in found.same)}"
        )
    if not found.whole:
        lines.append("not everything was tried: run the same command again to go on")
    return lines


def _how(trial: Trial) -> str:
    """What to ask rkyolo convert for."""
    how = trial.options() or "what rkyolo convert does by itself"
    if trial.calibration != "all":
        how += f", calibrated on {trial.calibration} of the pictures"
    return how


def as_plain(found: Found, measure: str, reference: Outcome | None) -> dict[str, Any]:
    """The table as data."""
    numbers, kept = _numbers(found), _front(found)
    return {
        "measure": measure,
        "float": reference and reference.model_dump(mode="json"),
        "winner": numbers[found.winner.trial],
        "reason": found.reason,
        "whole": found.whole,
        "same": [trial.model_dump(mode="json") for trial in found.same],
        "trials": [
            {
                "number": numbers[tried.outcome.trial],
                "from": tried.origin and numbers[tried.origin.trial],
                "change": _change(tried),
                "score": None if tried.outcome.failed else tried.outcome.score,
                "bought": _bought(tried),
                "pareto": tried.outcome in kept,
            }
            | tried.outcome.model_dump(mode="json")
            for tried in found.tried
        ],
    }


def _change(tried: Tried) -> str:
    if tried.origin is None:
        return "as convert does"
    return tried.outcome.trial.change_from(tried.origin.trial)


def _numbers(found: Found) -> dict[Trial, int]:
    return {tried.outcome.trial: number for number, tried in enumerate(found.tried, 1)}


def _front(found: Found) -> list[Outcome]:
    return front([tried.outcome for tried in found.tried])
