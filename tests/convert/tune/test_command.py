"""rkyolo tune, as a user runs it."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import DEMO
from tune_runs import work_of

from convert.tune.space import Trial
from runtime.model import open_model


def outcomes(work: Path) -> dict[str, str]:
    """Each finished trial's file, by name."""
    return {path.name: path.read_text() for path in work.glob("*/*.json")}


def test_the_best_bundle_is_written(tuned):
    assert tuned.process.returncode == 0, tuned.process.stderr
    plain = tuned.plain
    best = next(t for t in plain["trials"] if t["number"] == plain["winner"])
    assert plain["whole"] and plain["measure"] == "mAP50-95"
    scores = [t["score"] for t in plain["trials"]]
    assert best["score"] >= scores[0] and best["score"] >= max(scores) - 0.003
    assert best["pareto"]
    manifest = open_model(tuned.bundle).manifest  # every hash holds
    assert manifest.activation == best["trial"]["activation"]
    assert manifest.outputs == best["trial"]["heads"]
    assert manifest.cost.int8.cycles == best["cycles"]
    assert manifest.agreement.f1 == best["f1"] >= 0.5


def test_the_numbers_are_those_evaluate_gives(tuned, small, rkyolo):
    done = rkyolo(
        "evaluate", tuned.bundle, "--data", small.data, "--backend", "simulator", "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    plain = tuned.plain
    assert result["rows"][0]["mAP50-95"] == plain["trials"][plain["winner"] - 1]["score"]
    done = rkyolo(
        "evaluate", DEMO / "shapes.pt", "--data", small.data, "--size", 160, "--json", "-"
    )
    rows = json.loads(done.stdout)["results"][0]["rows"]
    assert rows[0]["mAP50-95"] == plain["float"]["accuracy"]["map50_95"]


def test_the_table_says_what_each_choice_bought(tuned):
    plain = tuned.plain
    lines = tuned.process.stdout.splitlines()
    assert lines[0].split() == [
        "trial", "choice", "from", "mAP50-95", "bought", "Mcycles", "bought", "F1", "s"
    ]  # fmt: skip
    start = plain["trials"][0]
    assert (start["change"], start["from"]) == ("as convert does", None)
    assert {t["change"] for t in plain["trials"][1:3]} == {"activation none", "heads split"}
    for trial in plain["trials"][1:]:
        origin = plain["trials"][trial["from"] - 1]
        assert trial["bought"]["score"] == pytest.approx(trial["score"] - origin["score"], abs=1e-6)
        row = lines[trial["number"]].split()
        assert row[0] == str(trial["number"])
        assert f"{trial['score']:.4f}" in row and f"{trial['bought']['score']:+.4f}" in row
        assert f"{trial['bought']['cycles']:+.1%}" in row
    assert re.search(rf"^trial {plain['winner']} wins \(.+\): it ", tuned.process.stdout, re.M)
    assert "the float model has mAP50-95" in tuned.process.stdout
    assert "not a measurement" in tuned.process.stdout
    assert f"wrote {tuned.bundle}\n" in tuned.process.stdout
    assert "Traceback" not in tuned.process.stderr and "distributed" not in tuned.process.stderr


def test_both_processes_worked(tuned):
    workers = {json.loads(text)["worker"] for text in outcomes(tuned.work).values()}
    assert len(workers) == 2


def test_only_bundles_that_may_win_are_kept(tuned):
    front = {Trial(**t["trial"]).key for t in tuned.plain["trials"] if t["pareto"]}
    assert {path.parent.name for path in tuned.work.glob("*/*/bundle")} == front
    assert not (tuned.work / "workers").exists()
    assert not [path for path in tuned.work.rglob(".*") if path.name != ".rkyolo-tune"]


def test_a_second_run_runs_nothing_again(tuned, small, tmp_path):
    """Not even where the bundle is gone; and a bundle in the way is replaced."""
    bundle = tmp_path / "bundle"
    shutil.copytree(tuned.work, tmp_path / "bundle.tune")
    before = outcomes(tmp_path / "bundle.tune")
    done = small.run(bundle)
    assert done.returncode == 0, done.stderr
    assert outcomes(tmp_path / "bundle.tune") == before
    assert "Trial " not in done.stderr and "Measure the float" not in done.stderr
    assert f"{len(before) - 1} of the trials were finished by an earlier run\n" in done.stdout
    assert open_model(bundle).manifest == open_model(tuned.bundle).manifest


def test_a_winner_whose_bundle_was_removed_is_built_again(tuned, small, tmp_path):
    shutil.copytree(tuned.work, tmp_path / "bundle.tune")
    for folder in (tmp_path / "bundle.tune").glob("*/*/"):
        shutil.rmtree(folder)
    done = small.run(tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Trial ") == 1
    made, first = (open_model(path) for path in (tmp_path / "bundle", tuned.bundle))
    assert made.extra == first.extra and made.onnx == first.onnx


def test_without_labels_trials_are_compared_by_agreement(small, tmp_path):
    bundle = tmp_path / "a model, 100% mine" / "bundle"
    done = dataclasses.replace(small, data=None).run(bundle, "--trials", 1)
    assert done.returncode == 0, done.stderr
    assert "agreement" in done.stdout.splitlines()[0] and "float model" not in done.stdout
    assert "not everything was tried: run the same command again to go on" in done.stdout
    plain = json.loads((work_of(bundle) / "tune.json").read_text())
    (trial,) = plain["trials"]
    assert trial["score"] == pytest.approx(trial["f1"] * trial["mean_iou"])
    assert plain["float"] is None and not plain["whole"]
    assert open_model(bundle).manifest.agreement.pictures == 8


def test_trials_that_do_not_agree_fail_and_the_reason_is_kept(small, tmp_path):
    bundle = tmp_path / "bundle"
    more = ["--min-agreement", 1, "--keep", "activation", "--keep", "heads"]
    done = small.run(bundle, *more)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"no trial passed; the first one failed: agreement F1 0\.\d+, at least 1 is asked for", last
    )
    assert not bundle.exists()
    failed = json.loads(next((tmp_path / "bundle.tune").glob(f"*/{Trial().key}.json")).read_text())
    assert failed["failed"] in last and failed["f1"] is None
    assert small.run(bundle, *more).stderr.count("Trial ") == 0  # it is known
    again = small.run(bundle, *more, "--retry-failed")
    assert (again.returncode, again.stderr.count("Trial ")) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--trials 0", "--trials 0 is too few: give 1 or more"),
        ("--workers 0", "--workers 0 is too few: give 1 or more"),
        ("--minutes -1", "--minutes -1 is too few: give 0 or more"),
        ("--minutes nan", "--minutes nan is too few"),
        ("--minutes 0", "there was no time for a single trial: give more --minutes"),
        ("--val-pictures 0", "--val-pictures 0 is too few"),
        ("--keep colour", "--keep colour is no choice: choose activation, heads, stem, algorithm,"),
        ("--min-agreement 2", "--min-agreement 2 is no F1: give 0 to 1"),
        ("--target rk1", "--target rk1 is not known: choose rk3588"),
        ("--workers 2 --scheduler tcp://x:1", "leave one out"),
        ("--pictures .", "--pictures is for a COCO JSON"),
        ("--split other", "--split other is not known"),
        ("--calibration nowhere", "nowhere does not exist"),
        ("--check nowhere", "nowhere does not exist"),
        ("--data nowhere.yaml", "nowhere.yaml does not exist"),
        ("--size 100", "100"),
        ("--anchors coco-p5", "shapes.pt holds its own anchors"),
        ("-o /", "-o / is no name for a new folder"),
        ("-o tests", "tests exists and is no bundle"),
    ],
)
def test_bad_input_is_told_before_the_long_work(small, tmp_path, arguments, message):
    done = small.run(tmp_path / "bundle", *arguments.split())
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert "Traceback" not in done.stderr and "Trial" not in done.stderr
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("option", ["--pictures .", "--split val", "--skip-bad-labels"])
def test_options_of_labels_need_labels(rkyolo, demo, tmp_path, option):
    done = rkyolo(
        "tune", demo / "shapes.pt", "--calibration", demo, "-o", tmp_path / "b", *option.split()
    )
    assert done.returncode == 2 and "belong to --data: give that too" in done.stderr
