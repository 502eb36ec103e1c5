"""What can be chosen, and the names of trials."""

import pytest
from pydantic import ValidationError

from convert.tune.space import CHOICES, Trial, space_for, subset

WH = 640, 640


def test_the_start_is_what_convert_does():
    assert Trial().options() == ""
    assert Trial() == Trial(
        activation="sigmoid", heads="one", stem="none", algorithm="normal", hybrid="none",
        calibration="all",
    )  # fmt: skip


def test_a_key_is_the_same_in_every_run_and_each_trial_has_its_own():
    assert Trial().key == "cc4d81d96f1f"  # or finished trials are lost
    assert Trial(heads="split").key == "97b4fcda1d39"
    space = space_for(40, WH, thorough=True)
    others = [*space.neighbours(Trial()), *space.hybrids_of(Trial())]
    assert len(others) == 11
    keys = {Trial().key, *(trial.key for trial in others)}
    assert len(keys) == len(others) + 1
    assert len({*others, Trial()}) == len(others) + 1


def test_what_a_trial_changes():
    trial = Trial(heads="split", calibration="half")
    assert trial.change_from(Trial()) == "heads split, calibration half"
    assert Trial().change_from(trial) == "heads one, calibration all"
    assert trial.change_from(trial) == ""
    assert Trial(heads="split", stem="space-to-depth", calibration="half").options() == (
        "--heads split --stem space-to-depth"
    )


def test_a_trial_holds_only_what_there_is():
    with pytest.raises(ValidationError):
        Trial(heads="three")
    with pytest.raises(ValidationError):
        Trial(other=1)
    with pytest.raises(ValidationError):
        Trial().heads = "split"


def test_what_stays_in_float16_is_a_choice_of_its_own():
    assert Trial(hybrid="layers-8", stem="space-to-depth").options() == (
        "--stem space-to-depth --hybrid-layers 8"
    )
    trial = Trial(hybrid="auto-0.999", heads="split")
    assert trial.options() == "--heads split --auto-hybrid 0.999"
    assert (trial.auto_hybrid, trial.hybrid_layers) == (0.999, None)
    assert trial.base == Trial(heads="split") and trial.base.base == trial.base
    space = space_for(40, WH)
    assert [t.change_from(trial) for t in space.hybrids_of(trial.base)] == [
        "hybrid layers-8", "hybrid auto-0.99", ""
    ]  # fmt: skip
    assert not list(space_for(40, WH, keep=["hybrid"]).hybrids_of(trial))


def changes(space):
    return [trial.change_from(Trial()) for trial in space.neighbours(Trial())]


@pytest.mark.parametrize(
    ("pictures", "wh", "options", "expected", "reason"),
    [
        (
            40,
            WH,
            {},
            "activation none|heads split|stem space-to-depth|algorithm kl_divergence"
            "|calibration half|calibration other-half|calibration quarter",
            "everything but what is slow",
        ),
        (
            40,
            WH,
            {"thorough": True, "keep": ("calibration", "stem", "heads", "activation")},
            "algorithm kl_divergence|algorithm mmse",
            "slow ones too, and what is kept stays",
        ),
        (40, WH, {"keep": CHOICES}, "", "all is kept"),
        (31, (640, 33), {"keep": ("heads", "algorithm")},
         "activation none|calibration half|calibration other-half|calibration quarter",
         "an odd side cannot be folded"),
        (28, WH, {"keep": CHOICES[:-1]}, "calibration half|calibration other-half",
         "a quarter of them would be 7"),
        (15, WH, {"keep": CHOICES[:-1]}, "calibration half", "the other half would be 7"),
        (14, WH, {"keep": CHOICES[:-1]}, "", "a half would be 7"),
    ],
)  # fmt: skip
def test_which_changes_are_tried(pictures, wh, options, expected, reason):
    assert "|".join(changes(space_for(pictures, wh, **options))) == expected, reason


def test_neighbours_go_back_too():
    trial = Trial(heads="split")
    assert Trial() in space_for(40, WH).neighbours(trial)
    assert trial not in space_for(40, WH).neighbours(trial)


def test_halves_are_all_the_pictures():
    items = tuple(range(9))
    assert subset(items, "all") == items
    assert sorted(subset(items, "half") + subset(items, "other-half")) == list(items)
    assert subset(items, "quarter") == (0, 4, 8)
