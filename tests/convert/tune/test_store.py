"""Finished trials on disk."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from made_outcomes import outcome

from convert.tune.outcome import Accuracy, Outcome
from convert.tune.space import Trial
from convert.tune.store import Store, work_folder
from runtime.errors import UserError

SPLIT = Trial(heads="split")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_what_is_kept_is_found_again(store):
    reference = Outcome(trial=None, accuracy=Accuracy(map50=1 / 3, map50_95=0.1), seconds=1)
    kept = [outcome(0.1 + 0.2), outcome(None, heads="split"), reference]
    for one in kept:
        store.keep(one)
    assert [store.find(one.trial) for one in kept] == kept
    assert Store(store.folder).find(SPLIT).failed == "it broke"
    assert store.find(Trial(stem="space-to-depth")) is None
    store.keep(outcome(0.7, heads="split"))
    assert store.find(SPLIT).score == 0.7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b'{"trial": {"heads": "split"', "cut off"),
        (b"\xff\xfe", "no text"),
        (b"[]", "another thing"),
        (b'{"trial": null, "seconds": 1}', "another trial's"),
        (b'{"trial": {"heads": "split"}, "seconds": 1, "f1": NaN}', "no number"),
        (b'{"trial": {"heads": "split"}, "seconds": 1, "other": 1}', "a newer rkyolo's"),
        (b'{"trial": {"heads": "split"}, "seconds": 1, "f1": 2}', "out of range"),
    ],
)
def test_a_damaged_file_is_no_finished_trial(store, content, reason):
    (store.folder / f"{SPLIT.key}.json").write_bytes(content)
    assert store.find(SPLIT) is None, reason


def test_what_a_killed_run_left_is_removed(store):
    store.keep(outcome(0.5, heads="split"))
    bundle = store.bundle(SPLIT)
    for left in (bundle, bundle.parent / ".bundle-x1"):
        left.mkdir(parents=True)
        (left / "model.rknn").write_bytes(b"x")
    (store.folder / ".abc.json").write_text("{")
    store.tidy()
    assert sorted(p.name for p in store.folder.rglob("*")) == sorted(
        [SPLIT.key, f"{SPLIT.key}.json", "bundle", "model.rknn"]
    )
    store.drop_bundle(SPLIT)
    store.drop_bundle(SPLIT)  # there is none any more
    assert not bundle.exists() and store.find(SPLIT)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    other = tmp_path / "mine.tune"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with (
        pytest.raises(UserError, match=r"mine.tune exists and holds no trials: give another -o"),
        work_folder(tmp_path / "mine"),
    ):
        pass
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]
    (tmp_path / "file.tune").write_text("x")
    with (
        pytest.raises(UserError, match=r"file.tune exists and holds no trials"),
        work_folder(tmp_path / "file"),
    ):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UserError, match=r"cannot write .*file/mine.tune: Not a directory"),
        work_folder(tmp_path / "file" / "mine"),
    ):
        pass


def test_one_search_at_a_time(tmp_path):
    """Also where the first was killed: nothing it left is in the way."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom convert.tune.store import work_folder\n"
        f"with work_folder(Path({str(tmp_path / 'mine')!r})):\n    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, env=os.environ
    ) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with (
                pytest.raises(UserError, match="another rkyolo tune works in"),
                work_folder(tmp_path / "mine"),
            ):
                pass
        finally:
            other.kill()
        other.wait(20)
    with work_folder(tmp_path / "mine") as folder:
        assert folder == tmp_path / "mine.tune"
