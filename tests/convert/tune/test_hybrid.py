"""What rkyolo tune leaves in float16."""

import dataclasses
import json

import pytest
from made_outcomes import outcome
from tune_runs import work_of

from convert.tune.search import Found, Tried
from convert.tune.space import Trial
from convert.tune.table import as_plain, closing_lines
from runtime.model import open_model


@pytest.fixture(scope="module")
def over_float16(small, tmp_path_factory):
    """A search over nothing but that: the bundle, and the process."""
    bundle = tmp_path_factory.mktemp("float16") / "bundle"
    search = dataclasses.replace(
        small, kept=("activation", "heads", "stem", "algorithm", "calibration")
    )
    return search, bundle, search.run(bundle)


def test_it_is_tried_told_and_weighed(over_float16):
    _, bundle, done = over_float16
    assert done.returncode == 0, done.stderr
    plain = json.loads((work_of(bundle) / "tune.json").read_text("utf-8"))
    start, *others = plain["trials"]
    assert plain["whole"] and start["change"] == "as convert does" and start["hybrid"] == []
    by_change = {trial["change"]: trial for trial in others}
    left_out = [trial["hybrid"] for trial in plain["same"]]
    assert {"hybrid layers-8", "hybrid auto-0.999"} == by_change.keys()
    assert left_out == ["auto-0.99"]  # at this size no layer is as bad as that
    assert "float16 than in another trial: auto-0.99\n" in done.stdout
    for trial in others:
        assert trial["from"] == 1 and trial["hybrid"] and trial["bought"]["cycles"] > 0
        row = done.stdout.splitlines()[trial["number"]]
        assert f"{len(trial['hybrid'])} tensors in float16" in row
        assert f"{trial['bought']['cycles']:+.1%}" in row
    assert len(by_change["hybrid layers-8"]["hybrid"]) == 2 * 8  # convolution and activation
    assert by_change["hybrid auto-0.999"]["cycles"] > by_change["hybrid layers-8"]["cycles"]
    winner = plain["trials"][plain["winner"] - 1]
    manifest = open_model(bundle).manifest
    assert list(manifest.hybrid) == winner["hybrid"]
    assert manifest.cost.int8.cycles == winner["cycles"]
    assert winner["score"] >= max(trial["score"] for trial in plain["trials"]) - 0.003


def test_a_second_run_tries_none_again(over_float16):
    search, bundle, first = over_float16
    assert first.returncode == 0, first.stderr
    done = search.run(bundle)
    assert done.returncode == 0, done.stderr
    assert "Trial " not in done.stderr
    assert "4 of the trials were finished by an earlier run\n" in done.stdout


def test_the_lines_below_the_table_say_how_to_make_it():
    start = outcome(0.5, 1.0)
    better = outcome(0.6, 1.1, hybrid="layers-8").model_copy(update={"hybrid": ("a", "b")})
    same = Trial(hybrid="auto-0.99")
    found = Found((Tried(start, None), Tried(better, start)), better, "it is", True, (same,))
    lines = closing_lines(found, None)
    assert lines[0] == "trial 2 wins (--hybrid-layers 8): it is"
    assert lines[-1] == (
        "left out, since no other tensors stay in float16 than in another trial: auto-0.99"
    )
    assert as_plain(found, "mAP50-95", None)["same"] == [same.model_dump()]
