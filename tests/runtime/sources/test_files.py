import logging
import shutil
import subprocess
import time
from contextlib import closing
from threading import Event

import cv2
import numpy as np
import pytest
from servers import program

from runtime.errors import UserError


@pytest.fixture
def folder(tmp_path, demo):
    """a.png (level 10), broken.png, c.png (level 30) and the demo video between them."""
    for name, level in (("a.png", 10), ("c.png", 30)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 12, 3), level, np.uint8))
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    shutil.copy(demo / "shapes.mp4", tmp_path / "b.mp4")
    return tmp_path


def test_every_picture_and_frame_in_order(source, folder):
    before = time.time()
    captures = list(source("files", paths=[folder]).captures(Event()))
    video = [("b.mp4", frame) for frame in range(150)]
    found = [(capture.file.name, capture.frame) for capture in captures]
    assert found == [("a.png", 0), *video, ("c.png", 0)]
    assert captures[0].bgr.mean() == 10
    assert captures[0].frames_per_second is None
    assert captures[5].frames_per_second == 25
    times = [capture.captured_at for capture in captures]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= time.time()


def test_frames_do_not_share_memory(source, demo):
    captures = list(source("files", paths=[demo / "shapes.mp4"]).captures(Event()))
    assert not np.shares_memory(captures[0].bgr, captures[1].bgr)
    assert (captures[0].bgr != captures[-1].bgr).any()


def test_a_damaged_file_does_not_end_it_and_is_named_once(source, folder, caplog):
    files = source("files", paths=[folder], repeat=True)
    with caplog.at_level(logging.WARNING), closing(files.captures(Event())) as captures:
        names = [next(captures).file.name for _ in range(152 * 2)]
    assert names.count("c.png") == 2
    assert files.unreadable == 1
    (record,) = caplog.records
    assert record.getMessage() == (
        f"source cam: {folder / 'broken.png'} cannot be read as a picture: "
        "it is damaged or not what it says; going on without it"
    )


def test_a_video_cut_short_gives_what_it_holds(source, folder, demo):
    cut = folder / "cut.ts"
    whole = ["-i", demo / "shapes.mp4", "-c", "copy", cut]
    subprocess.run([program("ffmpeg"), "-v", "error", *whole], check=True, timeout=60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    count = len(list(source("files", paths=[cut]).captures(Event())))
    assert 30 < count < 120


def test_a_repaired_file_counts_no_more_and_a_new_one_is_found(source, folder):
    (folder / "b.mp4").unlink()
    files = source("files", paths=[folder], repeat=True)
    with closing(files.captures(Event())) as captures:
        assert [next(captures).file.name for _ in range(3)] == ["a.png", "c.png", "a.png"]
        assert files.unreadable == 1
        shutil.copy(folder / "a.png", folder / "broken.png")
        shutil.copy(folder / "a.png", folder / "d.png")
        names = [next(captures).file.name for _ in range(6)]
    assert names == ["broken.png", "c.png", "a.png", "broken.png", "c.png", "d.png"]
    assert files.unreadable == 0


def test_nothing_that_can_be_read(source, folder):
    for name in ("a.png", "b.mp4", "c.png"):
        (folder / name).write_bytes(b"no picture")
    files = source("files", paths=[folder], repeat=True)
    with pytest.raises(UserError, match=f"nothing in {folder} can be read: give other files"):
        list(files.captures(Event()))
    assert files.unreadable == 4


def test_the_files_vanish(source, folder):
    files = source("files", paths=[folder / "a.png"], repeat=True)
    with closing(files.captures(Event())) as captures:
        next(captures)
        (folder / "a.png").unlink()
        with pytest.raises(UserError, match=r"a\.png does not exist"):
            next(captures)


def test_a_path_that_does_not_exist(source, tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        next(source("files", paths=[tmp_path / "nowhere"]).captures(Event()))


def test_not_live(source, folder):
    assert source("files", paths=[folder]).live is False
