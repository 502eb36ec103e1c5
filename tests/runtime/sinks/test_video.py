"""Annotated videos: what is in them, when a new one begins, and what a full disk does."""

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_results import NOON, full_after, names, on_small_disk, result
from servers import program

from runtime.detections import Detections
from runtime.errors import UserError
from runtime.pictures import read_video
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import VideoOptions

FIRST = "door-20261121T103000Z.mp4"


def sink(folder, **options):
    options = {"frames_per_second": 10, "free_mb": 0} | options
    return open_sink(VideoOptions(type="video", folder=folder, **options), "board")


def save(folder, *results, **options):
    opened = sink(folder, **options)
    for one in results:
        opened.write(one)
    opened.close()
    return opened


def shade(index, at, value, **more):
    """A frame of one grey, with nothing found in it."""
    size_wh = more.pop("size_wh", (64, 48))
    bgr = np.full((size_wh[1], size_wh[0], 3), value, np.uint8)
    return result(index, at, Detections.empty(), bgr=bgr, **more)


def shades(path):
    """What each frame of a video shows, rounded to tens."""
    return [round(float(picture.bgr.mean()), -1) for picture in read_video(path)]


def rate_of(path):
    return next(read_video(path)).frames_per_second


def test_a_video_is_there_when_it_is_complete(tmp_path):
    opened = sink(tmp_path / "new")
    for i in range(5):
        opened.write(result(i, NOON + i / 10, size_wh=(320, 240)))
    assert [name[0] for name in names(tmp_path / "new")] == ["."]
    opened.close()
    opened.close()
    assert names(tmp_path / "new") == [FIRST]
    assert opened.state() == {"files": 1, "wrong_size": 0}
    pictures = list(read_video(tmp_path / "new" / FIRST))
    assert [p.bgr.shape for p in pictures] == [(240, 320, 3)] * 5
    assert pictures[0].frames_per_second == 10
    for picture in pictures:
        assert abs(picture.bgr[200, 300].astype(int) - 90).max() <= 8
        assert (np.abs(picture.bgr[4, 10].astype(int) - 90) > 40).any()  # the box's line


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param([0, 0.1, 0.2, 0.3], [0, 50, 100, 150], id="at-the-rate"),
        pytest.param([0, 0.12, 0.19, 0.31], [0, 50, 100, 150], id="with-jitter"),
        pytest.param([0, 0.3, 0.5], [0, 0, 0, 50, 50, 100], id="slower"),
        pytest.param([0, 0.04, 0.1, 0.14, 0.2], [0, 100, 200], id="faster"),
        pytest.param([0, 0, 0], [0], id="at-once"),
        pytest.param([0, 60], [0] * 50 + [50], id="after-a-gap"),
        pytest.param([0, 60, 60.1, 60.3], [0] * 50 + [50, 100, 100, 150], id="gap-and-on"),
        pytest.param([0, 7, 14], [0] * 50 + [50] * 50 + [100], id="slower-than-stills-last"),
        pytest.param([0, 0.1, -0.2, 0.2], [0, 50, 150], id="a-little-back"),
    ],
)
def test_a_live_video_runs_as_the_clock_did(tmp_path, times, expected):
    frames = [shade(i, NOON + second, 50 * i) for i, second in enumerate(times)]
    save(tmp_path, *frames)
    assert names(tmp_path) == [FIRST]
    assert shades(tmp_path / FIRST) == expected


def test_a_long_live_video_is_as_long_as_it_took(tmp_path):
    """12.3 frames a second into 10, for a minute: no rounding adds up."""
    save(tmp_path, *(shade(i, NOON + i / 12.3, 90) for i in range(738)))
    assert abs(len(shades(tmp_path / FIRST)) - 600) <= 1


@pytest.mark.parametrize(
    ("times", "counts"),
    [
        pytest.param([0, 2.9, 3.0, 5.8, 6.1], [30, 29, 1], id="after-so-many-minutes"),
        pytest.param([0, 1, 0.9, -5, -4], [11, 11], id="the-clock-was-set-back"),
        pytest.param([0, 0.1, 10**8], [2, 1], id="the-clock-was-set-forward"),
    ],
)
def test_when_a_new_live_video_begins(tmp_path, times, counts):
    frames = [shade(i, NOON + second, 90) for i, second in enumerate(times)]
    save(tmp_path, *frames, minutes=3 / 60)
    found = {path: len(shades(path)) for path in tmp_path.iterdir()}
    assert sorted(found.values()) == sorted(counts)


def test_a_new_video_begins_when_the_size_changes(tmp_path):
    sizes = [(64, 48), (64, 48), (48, 64), (64, 48)]
    save(tmp_path, *(shade(i, NOON + i / 10, 90, size_wh=wh) for i, wh in enumerate(sizes)))
    assert names(tmp_path) == ["door-20261121T103000Z-2.mp4", "door-20261121T103000Z-3.mp4", FIRST]
    shapes = [[p.bgr.shape[:2] for p in read_video(tmp_path / name)] for name in names(tmp_path)]
    assert shapes == [[(64, 48)], [(48, 64)], [(48, 64), (48, 64)]]


def test_sources_have_videos_of_their_own(tmp_path):
    save(tmp_path, *(shade(i, NOON + i / 20, 90, source=f"s{i % 2}") for i in range(6)))
    assert names(tmp_path) == ["s0-20261121T103000Z.mp4", "s1-20261121T103000Z.mp4"]
    assert [len(shades(tmp_path / name)) for name in names(tmp_path)] == [3, 3]


def of_file(name, count, rate, first=0, at=NOON):
    """Frames of a video, read at another pace than it plays."""
    path = Path("in") / name
    return [
        shade(i, at + 0.003 * i, 10 * i, file=path, frame=i, frames_per_second=rate)
        for i in range(first, count)
    ]


def test_videos_keep_every_frame_their_rate_and_their_name(tmp_path):
    save(tmp_path, *of_file("a b.avi", 20, 25.0), *of_file("c.mp4", 7, 30000 / 1001))
    stamp = "door-20261121T103000Z"
    assert names(tmp_path) == [f"{stamp}-a_b.mp4", f"{stamp}-c.mp4"]
    assert shades(tmp_path / f"{stamp}-a_b.mp4") == [10 * i for i in range(20)]
    assert len(shades(tmp_path / f"{stamp}-c.mp4")) == 7
    assert rate_of(tmp_path / f"{stamp}-a_b.mp4") == 25
    assert rate_of(tmp_path / f"{stamp}-c.mp4") == pytest.approx(29.97, abs=0.01)


def test_a_video_that_is_repeated_is_written_again(tmp_path):
    save(tmp_path, *of_file("a.mp4", 4, 5.0), *of_file("a.mp4", 4, 5.0))
    assert [len(shades(path)) for path in tmp_path.iterdir()] == [4, 4]


def test_minutes_of_a_video_are_those_it_plays(tmp_path):
    save(tmp_path, *of_file("a.mp4", 25, 5.0), minutes=2 / 60)
    assert sorted(len(shades(path)) for path in tmp_path.iterdir()) == [5, 10, 10]


def test_the_pictures_of_a_folder_are_one_video(tmp_path):
    frames = [shade(i, NOON + 7 * i, 50 * i, file=Path(f"{i}.jpg")) for i in range(4)]
    save(tmp_path, *frames, *of_file("a.mp4", 2, 5.0), minutes=1)
    assert names(tmp_path) == ["door-20261121T103000Z-a.mp4", FIRST]
    assert shades(tmp_path / FIRST) == [0, 50, 100, 150]
    assert rate_of(tmp_path / FIRST) == 10


@pytest.mark.parametrize("rate", [0.001, 0.1, 1, 999])
def test_any_rate(tmp_path, rate):
    save(tmp_path, *of_file("a.mp4", 3, rate))
    assert [len(shades(path)) for path in tmp_path.iterdir()] == [3]


@pytest.mark.parametrize(
    ("size_wh", "wrong"),
    [((1, 9), 1), ((9, 1), 1), ((2, 2), 0), ((63, 47), 0), ((8191, 2), 0), ((8192, 2), 1)],
)
def test_a_size_no_video_can_have_does_not_keep_others_away(tmp_path, size_wh, wrong):
    opened = save(tmp_path, shade(0, NOON, 90, size_wh=size_wh), shade(1, NOON + 9, 90))
    assert opened.state() == {"files": 2 - wrong, "wrong_size": wrong}
    assert len(names(tmp_path)) == 2 - wrong


def test_only_the_newest_stay(tmp_path):
    save(tmp_path, *(shade(i, NOON + 9 * i, 90) for i in range(4)), minutes=0.1)
    (tmp_path / "door-holiday.mp4").write_text("mine")
    opened = sink(tmp_path, keep=2, minutes=0.1)
    for i in range(10, 15):
        opened.write(shade(i, NOON + 9 * i, 90))
    opened.close()
    assert names(tmp_path) == [
        "door-20261121T103157Z.mp4",
        "door-20261121T103206Z.mp4",
        "door-holiday.mp4",
    ]


def test_what_a_power_cut_left_goes_after_a_day(tmp_path):
    for name in (".abcd_123.mp4", ".abcd_124.mp4"):
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / ".abcd_123.mp4", (NOON - 10**8, NOON - 10**8))
    sink(tmp_path)
    assert names(tmp_path) == [".abcd_124.mp4"]


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


def test_a_video_whose_file_others_remove_is_begun_anew(tmp_path):
    opened = sink(tmp_path / "a")
    opened.write(shade(0, NOON, 90))
    next((tmp_path / "a").iterdir()).unlink()
    (tmp_path / "a").rmdir()
    with pytest.raises(
        UserError, match=r"cannot write .*Z\.mp4: what there was of it has been rem"
    ):
        opened.write(shade(1, NOON + 1, 90))
    opened.write(shade(1, NOON + 1, 90))
    opened.close()
    assert names(tmp_path / "a") == ["door-20261121T103001Z.mp4"]


def test_nearly_full_disks_end_the_videos_and_wait_for_room(tmp_path, monkeypatch):
    opened = sink(tmp_path, free_mb=100)
    usage = shutil.disk_usage(tmp_path)
    for source in ("door", "gate"):
        opened.write(shade(0, NOON, 90, source=source))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=99_000_000))
    for _ in range(2):
        with pytest.raises(SinkLostError, match=r"only 99 MB are free for .* and free_mb is 100: "):
            opened.write(shade(1, NOON + 1, 90))
        assert names(tmp_path) == [FIRST, FIRST.replace("door", "gate")]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=105_000_000))
    with pytest.raises(SinkLostError):  # a little room is not enough to begin
        opened.write(shade(1, NOON + 1, 90))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=111_000_000))
    opened.write(shade(1, NOON + 1, 90))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=105_000_000))
    opened.write(shade(2, NOON + 1.1, 90))  # but to go on
    opened.close()
    assert len(names(tmp_path)) == 3
    assert opened.state()["files"] == 3


def test_a_limit_that_only_shows_at_the_end(tmp_path):
    """Of a quota, the free space says nothing."""
    noise = np.random.default_rng(0)
    opened = sink(tmp_path)
    with full_after(20_000):
        for i in range(30):
            bgr = noise.integers(0, 256, (240, 320, 3), np.uint8)
            opened.write(result(i, NOON + i / 10, bgr=bgr))
        opened.write(shade(0, NOON, 90, source="gate"))
        with pytest.raises(UserError, match=r"cannot write all of .*door-.*\.mp4: make room there"):
            opened.close()
    assert names(tmp_path) == [FIRST.replace("door", "gate")]  # the other was finished all the same
    opened.write(result(30, NOON + 3))
    opened.close()
    assert len(names(tmp_path)) == 2


SMALL_DISK = """
import json, sys
from pathlib import Path
import numpy as np
from made_results import NOON, result
from runtime.pictures import read_video
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import VideoOptions

folder = Path(sys.argv[1])
options = VideoOptions(type="video", folder=folder / "v", free_mb=4, frames_per_second=10)
sink = open_sink(options, "board")
noise = np.random.default_rng(0)
errors, index = [], 0
while len(errors) < 3:
    bgr = noise.integers(0, 256, (480, 640, 3), np.uint8)
    try:
        sink.write(result(index, NOON + index / 10, bgr=bgr))
        index += 1
    except SinkLostError as error:
        errors.append(str(error))
whole = next((folder / "v").iterdir())
frames = sum(1 for _ in read_video(whole))
whole.unlink()
sink.write(result(index, NOON + 60))
sink.close()
print(json.dumps([errors, index, frames, [path.name for path in (folder / "v").iterdir()]]))
"""


def test_a_disk_that_is_full_and_has_room_again(tmp_path):
    errors, index, frames, left = on_small_disk(tmp_path, 16, SMALL_DISK)
    assert len(errors) == 3 and "MB are free for" in errors[0]
    assert frames == index and index > 10  # what was written before is there, and plays
    assert left == ["door-20261121T103100Z.mp4"]


def test_other_players_play_it(tmp_path):
    frames = [shade(i, NOON + i / 10, 10 * i) for i in range(20)]
    save(tmp_path, *frames)
    command = [program("ffprobe"), "-v", "error", "-count_frames", "-select_streams", "v:0"]
    entries = "stream=codec_name,avg_frame_rate,nb_read_frames,duration"
    command += ["-show_entries", entries, "-of", "default=nk=1:nw=1", str(tmp_path / FIRST)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["mpeg4", "10/1", "2.000000", "20"]
    assert done.stderr == ""


def test_opencv_says_nothing_on_the_terminal(tmp_path, capfd):
    save(tmp_path, *of_file("a.mp4", 3, 30000 / 1001), shade(9, NOON + 99, 90, size_wh=(8192, 2)))
    assert capfd.readouterr() == ("", "")
    assert cv2.VideoCapture(str(next(tmp_path.iterdir()))).isOpened()
