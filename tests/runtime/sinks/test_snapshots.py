"""Snapshots: which frames are saved, under which names, and how many stay."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_results import NOON, ROOT, found, full_after, names, on_small_disk, result

from runtime.detections import Detections
from runtime.errors import UserError
from runtime.pictures import read_picture
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import SnapshotOptions


def sink(folder, **options):
    return open_sink(SnapshotOptions(type="snapshots", folder=folder, **options), "board")


def save(folder, *results, **options):
    opened = sink(folder, **options)
    for one in results:
        opened.write(one)
    opened.close()
    return opened


def test_a_snapshot_is_the_annotated_frame(tmp_path):
    opened = save(tmp_path / "a" / "b", result(size_wh=(640, 480)))
    assert names(tmp_path / "a" / "b") == ["door-20261121T103000.123Z-person.jpg"]
    picture = read_picture(tmp_path / "a" / "b" / "door-20261121T103000.123Z-person.jpg")
    assert picture.shape == (480, 640, 3)
    assert abs(picture[300, 300].astype(int) - 90).max() <= 2  # the frame itself
    assert (np.abs(picture[4, 10].astype(int) - 90) > 50).any()  # the box's line
    assert opened.state() == {"saved": 1, "too_large": 0}


@pytest.mark.parametrize(
    ("detections", "options", "name"),
    [
        pytest.param(Detections.empty(), {}, None, id="nothing-found"),
        pytest.param(found(1, 0), {}, "дорожный_знак", id="the-highest-score"),
        pytest.param(found(1, 0), {"classes": ["person"]}, "person", id="the-wanted-one"),
        pytest.param(found(2), {}, "a_b__red_", id="no-slash-in-a-name"),
        pytest.param(found(1, 2), {"classes": ["person"]}, None, id="only-others"),
        pytest.param(found(0), {"classes": []}, None, id="no-class-at-all"),
        pytest.param(found(0, score=0.7), {"score": 0.7}, "person", id="just-the-score"),
        pytest.param(found(0, score=0.699), {"score": 0.7}, None, id="just-below"),
        pytest.param(found(1, 0), {"classes": ["person"], "score": 0.85}, None, id="another's"),
    ],
)
def test_which_frames_are_saved(tmp_path, detections, options, name):
    save(tmp_path, result(detections=detections), **options)
    expected = [] if name is None else [f"door-20261121T103000.123Z-{name}.jpg"]
    assert names(tmp_path) == expected


@pytest.mark.parametrize(
    ("seconds", "interval_s", "saved"),
    [
        pytest.param([0, 1, 4.9, 5, 9, 10.1], 5, 3, id="each-five"),
        pytest.param([0, 0.001, 0.002], 0, 3, id="all"),
        pytest.param([0, 0, 0], 0, 3, id="at-the-same-moment"),
        pytest.param([0, -3600, -3599, -3594], 5, 3, id="the-clock-was-set-back"),
        pytest.param([0, 10**8, 10**8 + 1], 5, 2, id="the-clock-was-set-forward"),
    ],
)
def test_the_interval(tmp_path, seconds, interval_s, saved):
    results = [result(i, NOON + second) for i, second in enumerate(seconds)]
    save(tmp_path, *results, interval_s=interval_s)
    assert len(names(tmp_path)) == saved


def test_each_source_has_its_own_interval(tmp_path):
    save(tmp_path, *(result(i, NOON + i, source=f"s{i % 2}") for i in range(4)), interval_s=9)
    assert [name[:2] for name in names(tmp_path)] == ["s0", "s1"]


def test_frames_without_a_wanted_class_do_not_begin_an_interval(tmp_path):
    save(tmp_path, result(at=NOON, detections=found(1)), result(at=NOON + 1), classes=["person"])
    assert len(names(tmp_path)) == 1


def test_in_videos_the_interval_is_of_the_video(tmp_path):
    """They are read faster, or slower, than they play."""
    results = [
        result(i, NOON + 0.01 * i, file=Path(f"{video}.mp4"), frame=i, frames_per_second=10.0)
        for video in "ab"
        for i in range(101)
    ]
    save(tmp_path, *results, interval_s=5)
    assert len(names(tmp_path)) == 2 * 3


def test_a_video_that_is_repeated(tmp_path):
    one = {"file": Path("a.mp4"), "frames_per_second": 10.0}
    save(tmp_path, *(result(at=NOON + i, frame=f, **one) for i, f in enumerate([0, 60, 0, 9])))
    assert len(names(tmp_path)) == 3


def test_only_the_newest_stay(tmp_path):
    opened = sink(tmp_path, keep=3, interval_s=0)
    for i in range(10):
        opened.write(result(i, NOON + i))
        opened.write(result(i, NOON + i, source="gate"))
        assert len(names(tmp_path)) == 2 * min(i + 1, 3)
    assert [name[14:20] for name in names(tmp_path)] == ["103007", "103008", "103009"] * 2


def test_those_of_an_earlier_run_count_and_other_files_stay(tmp_path):
    save(tmp_path, *(result(i, NOON + i) for i in range(5)), interval_s=0)
    others = [
        "door-20261121T103000.123Z-person.png",
        "door-plan.jpg",
        "door-2-20261121T103000.123Z-person.jpg",
        "xdoor-20261121T103000.123Z-person.jpg",
        "gate-20261121T103000.123Z-person.jpg",
        "door-20261121T103000.123Z-person.jpg.txt",
    ]
    for other in others:
        (tmp_path / other).write_text("mine")
    (tmp_path / "door-20200101T000000.000Z-x.jpg").mkdir()
    (tmp_path / "door-20200102T000000.000Z-x.jpg").symlink_to("door-plan.jpg")
    save(tmp_path, result(at=NOON + 60), keep=2)
    left = set(names(tmp_path)) - set(others)
    assert {name[5:25] for name in left} == {
        "20200101T000000.000Z",
        "20200102T000000.000Z",
        "20261121T103004.123Z",
        "20261121T103100.123Z",
    }


def test_files_that_others_removed_are_no_obstacle(tmp_path):
    opened = sink(tmp_path, keep=2, interval_s=0)
    for i in range(4):
        opened.write(result(i, NOON + i))
        for path in tmp_path.iterdir():
            path.unlink()
    opened.write(result(4, NOON + 4))
    assert len(names(tmp_path)) == 1


def test_an_old_file_that_cannot_be_removed(tmp_path, caplog):
    opened = sink(tmp_path, keep=1, interval_s=0)
    opened.write(result(0))
    (tmp_path / "door-20261121T103000.123Z-person.jpg").unlink()
    (tmp_path / "door-20261121T103000.123Z-person.jpg").mkdir()
    opened.write(result(1, NOON + 1))
    assert len(names(tmp_path)) == 2 and opened.state()["saved"] == 2
    assert "cannot remove old files of door" in caplog.text


def test_what_a_power_cut_left_goes_after_a_day(tmp_path):
    for name in (".abcd_123.jpg", ".abcd_124.jpg", ".hidden.jpg", ".abcd_123.png"):
        (tmp_path / name).write_text("x")
        if name != ".abcd_124.jpg":
            os.utime(tmp_path / name, (NOON - 10**8, NOON - 10**8))
    sink(tmp_path)
    assert names(tmp_path) == [".abcd_123.png", ".abcd_124.jpg", ".hidden.jpg"]


def test_classes_the_model_does_not_have_are_told_once(tmp_path, caplog):
    opened = save(tmp_path, result(0), result(1), classes=["persn", "person"])
    assert caplog.text.count("the model has no class persn") == 1
    assert opened.state()["unknown_classes"] == ["persn"]
    assert len(names(tmp_path)) == 1


def test_a_lower_quality_is_smaller(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for quality in (10, 95):
        save(tmp_path / str(quality), result(bgr=noise), quality=quality)
    sizes = [next((tmp_path / q).iterdir()).stat().st_size for q in ("10", "95")]
    assert sizes[0] < sizes[1] / 2


def test_a_frame_no_jpeg_can_hold_does_not_keep_others_away(tmp_path):
    opened = save(tmp_path, result(size_wh=(65501, 1)), result(size_wh=(65500, 1)))
    assert opened.state() == {"saved": 1, "too_large": 1}


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("file", UserError, "file is a file: give a folder"),
        ("file/sub", SinkLostError, "cannot write .*/sub: a file is where a folder should be"),
        ("/proc/sub", SinkLostError, "cannot write /proc/sub: [a-z ]+; mend that, or choose"),
    ],
)
def test_an_unwritable_folder(tmp_path, place, error, message):
    (tmp_path / "file").touch()
    with pytest.raises(error, match=message):
        sink(tmp_path / place)


def test_a_folder_that_is_removed_is_made_again(tmp_path):
    opened = sink(tmp_path / "a", interval_s=0)
    (tmp_path / "a").rmdir()
    opened.write(result())
    assert len(names(tmp_path / "a")) == 1


def test_a_full_disk_leaves_nothing_and_the_same_frame_comes_again(tmp_path):
    opened = sink(tmp_path)
    with full_after(200):
        for _ in range(2):
            with pytest.raises(
                UserError, match=r"cannot write .*person\.jpg: file too large; make"
            ):
                opened.write(result())
            assert names(tmp_path) == []
    opened.write(result())
    assert names(tmp_path) == ["door-20261121T103000.123Z-person.jpg"]
    assert opened.state()["saved"] == 1


SMALL_DISK = """
import json, sys
from pathlib import Path
import numpy as np
from made_results import NOON, result
from runtime.errors import UserError
from runtime.pictures import read_picture
from runtime.sinks import open_sink
from runtime.sinks.options import SnapshotOptions

folder = Path(sys.argv[1])
sink = open_sink(SnapshotOptions(type="snapshots", folder=folder / "s", interval_s=0), "board")
noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
errors, index = [], 0
while len(errors) < 3:
    try:
        sink.write(result(index, NOON + index, bgr=noise))
        index += 1
    except UserError as error:
        errors.append(str(error))
next((folder / "s").iterdir()).unlink()
sink.write(result(index, NOON + index, bgr=noise))
shapes = [read_picture(path).shape for path in (folder / "s").iterdir()]
print(json.dumps([errors, index, shapes]))
"""


def test_a_disk_that_is_full_and_has_room_again(tmp_path):
    errors, count, shapes = on_small_disk(tmp_path, 1, SMALL_DISK)
    assert len(errors) == 3 and "no space left on device; make room there" in errors[0]
    assert shapes == [[240, 320, 3]] * count and count > 5


MANY = """
import sys, time
from pathlib import Path
from made_results import NOON, result
from runtime.sinks import open_sink
from runtime.sinks.options import SnapshotOptions
looks = []
sys.addaudithook(lambda name, _: name in ("os.scandir", "os.listdir") and looks.append(name))
options = SnapshotOptions(type="snapshots", folder=sys.argv[1], interval_s=0, keep=5)
sink = open_sink(options, "board")
for i in range(100):
    sink.write(result(i, NOON + i))
print(len(looks))
"""


def test_the_folder_is_not_looked_through_at_each_write(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path)],
        cwd=ROOT / "tests",
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert int(done.stdout) <= 3, done.stderr
    assert len(names(tmp_path)) == 5


def test_any_class_name_makes_a_file(tmp_path):
    opened = sink(tmp_path, interval_s=0)
    for name in ("", "..", "/", "\0", "猫" * 200, "a\nb", "x" * 300):
        opened.write(replace(result(), names=(name,)))
    assert opened.state()["saved"] == len(names(tmp_path)) == 7
    for path in tmp_path.iterdir():
        assert read_picture(path) is not None and path.name.isprintable()
