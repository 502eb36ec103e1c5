"""Which trials are worth having, and which one wins."""

import pytest
from made_outcomes import outcome

from convert.tune.outcome import Outcome
from convert.tune.pareto import CHEAPER, TOLERANCE, front, winner
from convert.tune.space import Trial

START = Trial()
NAMES = ("one", "split")


def made(*pairs):
    """The start, and others beside it, by score and million cycles."""
    others = [
        {"activation": "none"}, {"heads": "split"}, {"algorithm": "mmse"}, {"calibration": "half"}
    ]  # fmt: skip
    return [outcome(*pair, **kind) for pair, kind in zip(pairs, [{}, *others], strict=False)]


@pytest.mark.parametrize(
    ("pairs", "expected", "reason"),
    [
        ([], [], "nothing was tried"),
        ([(None,)], [], "it failed"),
        ([(0.5, 1)], [0], "one alone"),
        ([(0.5, 1), (0.4, 2)], [0], "worse and dearer"),
        ([(0.5, 1), (0.4, 1)], [0], "worse at the same cost"),
        ([(0.5, 1), (0.5, 2)], [0], "dearer at the same score"),
        ([(0.5, 1), (0.4, 0.5), (0.6, 2)], [0, 1, 2], "each has something"),
        ([(0.5, 1), (0.5, 1)], [0], "of equal ones the first"),
        ([(0.5, None), (0.4, 1)], [0, 1], "what is not known may be dear"),
        ([(0.5, None), (0.5, None)], [0], "equal, and not known"),
    ],
)
def test_the_front(pairs, expected, reason):
    outcomes = made(*pairs)
    assert front(outcomes) == [outcomes[i] for i in expected], reason


IN, OUT = TOLERANCE * 0.99, TOLERANCE * 1.01
LESS, SAME = 1 - CHEAPER * 1.01, 1 - CHEAPER * 0.99


@pytest.mark.parametrize(
    ("pairs", "expected", "reason"),
    [
        ([(0.5, 1)], 0, "one alone"),
        ([(0.5, 1), (0.6, 1)], 1, "the higher score"),
        ([(0.5, 1), (0.6, 2)], 1, "the higher score, at any cost"),
        ([(0.5, 1), (0.5, 1)], 0, "of equal ones the first"),
        ([(0.5, 1), (0.5, SAME)], 1, "of equal scores the cheaper"),
        ([(0.4, 1), (0.6, 1), (0.6 - IN, LESS)], 2, "as good, and clearly cheaper"),
        ([(0.4, 1), (0.6, 1), (0.6 - OUT, LESS)], 1, "not as good"),
        ([(0.4, 1), (0.6, 1), (0.6 - IN, SAME)], 1, "hardly cheaper"),
        ([(0.6, 1), (0.6 - IN, 0.1)], 0, "never less than the start"),
        ([(0.6 - IN, LESS), (0.6, 1)], 0, "the start itself may win so"),
        ([(0.4, 1), (0.6, 1), (0.6 - IN, 0.9), (0.6 - IN / 2, 0.8)], 3, "the cheapest"),
        ([(None,), (0.6, 1), (0.6 - IN, LESS)], 2, "a start that failed asks for nothing"),
        ([(0.4, 1), (0.6, None), (0.6 - IN, 1)], 1, "a cost that is not known is not weighed"),
        ([(None,), (None,), (0.1, 1)], 2, "the only one that did not fail"),
    ],
)
def test_the_winner(pairs, expected, reason):
    outcomes = made(*pairs)
    best, sentence = winner(outcomes, START)
    assert best == outcomes[expected], reason
    assert best in front(outcomes)
    assert sentence
    # what is tried later has no say in the order
    assert winner(outcomes[::-1], START)[0].score == best.score


def test_no_winner():
    assert winner([], START) is None
    assert winner(made((None,)), START) is None


def test_why_it_won():
    cheap = made((0.4, 1), (0.6, 2), (0.6 - IN, 1.5))
    assert "within 0.003 of the highest, 0.6000, at 25% fewer cycles" in winner(cheap, START)[1]
    assert "highest score" in winner(cheap[:2], START)[1]


def test_scores():
    assert outcome(0.5).score == 0.5
    assert outcome(None).score < 0
    without_labels = Outcome(trial=START, f1=0.9, mean_iou=0.8, seconds=1)
    assert without_labels.score == pytest.approx(0.72)
    assert Outcome(trial=START, f1=0.0, seconds=1).score == 0
