"""Which trials are run, with a made-up score for each."""

import random

import pytest
from made_outcomes import outcome

from convert.tune.search import search
from convert.tune.space import CHOICES, Trial, space_for
from runtime.errors import CheckFailedError, UserError

SPACE = space_for(40, (640, 640))
START = Trial()


def worth(trial):
    """Split heads are good, and only with them no sigmoid is; half the pictures spoil a little."""
    score = 0.5 + 0.1 * (trial.heads == "split")
    if trial.activation == "none":
        score += 0.05 if trial.heads == "split" else -0.2
    score -= 0.01 * (trial.calibration != "all")
    score -= 0.001 * (trial.stem != "none")
    score -= 0.02 * (trial.algorithm != "normal")
    return outcome(score, 0.6 if trial.stem != "none" else 1.0, **trial.model_dump())


class Recorded:
    """A runner that remembers what it was asked for."""

    def __init__(self, function=worth):
        self.function = function
        self.rounds = []

    def __call__(self, trials):
        self.rounds.append(list(trials))
        return [self.function(trial) for trial in trials]

    @property
    def asked(self):
        return [trial for trials in self.rounds for trial in trials]


def test_it_finds_the_best_by_single_steps():
    run = Recorded()
    found = search(START, SPACE, run)
    assert found.whole
    assert found.winner.trial == Trial(heads="split", activation="none", stem="space-to-depth")
    assert run.asked[0] == START and len(run.rounds) > 2
    assert len(set(run.asked)) == len(run.asked) == len(found.tried) + 3  # nothing twice
    assert run.rounds[-1] == list(found.same) == list(SPACE.hybrids_of(found.winner.trial))
    assert len(found.tried) < 2 * 2 * 2 * 2 * 4
    assert found.tried[0].origin is None
    for tried in found.tried[1:]:
        change = tried.outcome.trial.change_from(tried.origin.trial)
        assert change and "," not in change
    assert "fewer cycles" in found.reason


def test_every_change_of_the_winner_was_tried():
    found = search(START, SPACE, Recorded())
    tried = {t.outcome.trial for t in found.tried}
    assert set(SPACE.neighbours(found.winner.trial)) <= tried


@pytest.mark.parametrize("seed", range(20))
def test_it_ends_whatever_the_scores_are(seed):
    def some(trial):
        dice = random.Random(f"{seed}{trial.key}")
        score = None if dice.random() < 0.2 else dice.random()
        return outcome(score, dice.random(), **trial.model_dump())

    first, second = Recorded(some), Recorded(some)
    found = search(START, SPACE, first)
    assert search(START, SPACE, second) == found
    assert first.rounds == second.rounds
    best = max(t.outcome.score for t in found.tried)
    assert best - found.winner.score <= 0.003


def in_float16(scores, tensors, megacycles=1.1):
    """As worth, but hybrid trials score that much more, and leave those tensors in float16."""

    def run(trial):
        plain = worth(trial.base)
        if trial.hybrid == "none":
            return plain
        made = outcome(plain.score + scores[trial.hybrid], megacycles, **trial.model_dump())
        return made.model_copy(update={"hybrid": tensors[trial.hybrid]})

    return Recorded(run)


def test_what_stays_in_float16_is_tried_of_the_best_alone_and_last():
    scores = {"layers-8": 0.02, "auto-0.99": 0, "auto-0.999": 0.02}
    tensors = {"layers-8": ("a",), "auto-0.99": (), "auto-0.999": ("a",)}
    run = in_float16(scores, tensors)
    found = search(START, SPACE, run)
    best = Trial(heads="split", activation="none", stem="space-to-depth")
    assert {trial for trial in run.asked if trial.hybrid != "none"} == {*SPACE.hybrids_of(best)}
    assert run.rounds[-1] == list(SPACE.hybrids_of(best))
    assert found.winner.trial == best.model_copy(update={"hybrid": "layers-8"}) and found.whole
    # nothing in float16, and the same as another one
    assert [trial.hybrid for trial in found.same] == ["auto-0.99", "auto-0.999"]
    last = found.tried[-1]
    assert last.outcome.trial.change_from(last.origin.trial) == "hybrid layers-8"
    assert search(START, SPACE, in_float16(scores, tensors)) == found


def test_float16_that_buys_nothing_does_not_win():
    scores = dict.fromkeys(("layers-8", "auto-0.99", "auto-0.999"), 0.002)
    found = search(START, SPACE, in_float16(scores, {name: (name,) for name in scores}))
    assert found.winner.trial.hybrid == "none" and found.same == ()


def test_at_most_so_many_count_those_that_are_left_out():
    space = space_for(40, (640, 640), keep=[c for c in CHOICES if c != "hybrid"])
    run = Recorded()
    found = search(START, space, run, most=3)
    assert len(run.asked) == 3 and len(found.same) == 2 and not found.whole


def test_at_most_so_many():
    run = Recorded()
    found = search(START, SPACE, run, most=3)
    assert run.asked == [START, *list(SPACE.neighbours(START))[:2]]
    assert not found.whole
    assert found.winner.trial == Trial(heads="split")
    for most in range(1, 30):
        assert len(search(START, SPACE, Recorded(), most).tried) <= most


def test_nothing_to_choose():
    run = Recorded()
    found = search(START, space_for(40, (640, 640), keep=CHOICES), run)
    assert run.asked == [START] and found.whole and found.winner.trial == START


def test_the_time_is_up():
    """Some of the first round were not run."""

    def run(trials):
        return [worth(trial) if trial.heads == "one" else None for trial in trials]

    found = search(START, SPACE, run)
    assert not found.whole and found.winner.trial.heads == "one"
    assert Trial(heads="split") not in {t.outcome.trial for t in found.tried}
    with pytest.raises(UserError, match="no time for a single trial: give more --minutes"):
        search(START, SPACE, lambda trials: [None] * len(trials))


def test_a_start_that_fails_is_no_end():
    """What convert does by itself may be what does not pass."""

    def run(trials):
        return [outcome(None) if trial == START else worth(trial) for trial in trials]

    found = search(START, SPACE, run)
    assert found.winner.trial == Trial(heads="split", activation="none", stem="space-to-depth")


def test_all_fail():
    with pytest.raises(CheckFailedError, match="no trial passed; the first one failed: it broke"):
        search(START, SPACE, Recorded(lambda trial: outcome(None, **trial.model_dump())))
