import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.detections import Detections
from runtime.errors import UserError
from runtime.pictures import Picture, frames_in, read_picture, read_video
from runtime.results import AnnotatedFiles, json_line

NAMES = ("cat", "дорожный знак", "[red]")
FOUND = Detections(
    np.float32([[1.23456, 2, 30.5, 40], [0, 0, 64, 48]]),
    np.float32([0.9876543, 0.3]),
    np.int32([2, 1]),
)


def picture(file, frame=0, rate=None, size_wh=(64, 48)):
    return Picture(Path(file), frame, np.full((size_wh[1], size_wh[0], 3), 90, np.uint8), rate)


def video(file, count, size_wh=(64, 48)):
    return [picture(file, frame, 10.0, size_wh) for frame in range(count)]


def save(folder, pictures, found=FOUND):
    with AnnotatedFiles(folder, NAMES, {p.file for p in pictures}) as files:
        for one in pictures:
            files.write(one, found)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_line_of_json():
    line = json_line(picture("in/a.jpg", 7), FOUND, NAMES)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line) == {
        "source": "in/a.jpg",
        "frame": 7,
        "width": 64,
        "height": 48,
        "detections": [
            {"box": [1.235, 2, 30.5, 40], "score": 0.98765, "class": 2, "name": "[red]"},
            {"box": [0, 0, 64, 48], "score": 0.3, "class": 1, "name": "дорожный знак"},
        ],
    }


def test_a_line_of_json_for_nothing():
    assert json.loads(json_line(picture("a.jpg"), Detections.empty(), ()))["detections"] == []


def test_a_file_name_that_is_no_text_is_still_json():
    assert json.loads(json_line(picture("\udcff.jpg"), FOUND, NAMES))["source"] == "\udcff.jpg"


def test_pictures_are_written_annotated(tmp_path):
    save(tmp_path / "out", [picture("a.png"), picture("b.png")])
    assert names(tmp_path / "out") == ["a.png", "b.png"]
    written = read_picture(tmp_path / "out" / "a.png")
    assert written.shape == (48, 64, 3)
    assert (written != 90).any()
    assert names(tmp_path) == ["out"]


def test_nothing_found_is_written_too(tmp_path):
    save(tmp_path / "out", [picture("a.png")], Detections.empty())
    assert (read_picture(tmp_path / "out" / "a.png") == 90).all()


@pytest.mark.parametrize(
    ("sources", "written"),
    [
        pytest.param(["a/x.jpg", "b/x.jpg"], ["x-2.jpg", "x.jpg"], id="same-name"),
        pytest.param(["a/x.jpg", "a/x.jpg"], ["x.jpg"], id="same-file"),
        pytest.param(["x.jpg", "x.png"], ["x.jpg", "x.png"], id="other-suffix"),
        pytest.param(["x.ppm", "a/x.png"], ["x-2.png", "x.png"], id="same-once-converted"),
        pytest.param(
            ["a/x.jpg", "b/x.jpg", "c/x-2.jpg"],
            ["x-2-2.jpg", "x-2.jpg", "x.jpg"],
            id="a-name-that-was-given-away",
        ),
        pytest.param(["x.JPG"], ["x.jpg"], id="capitals"),
        pytest.param(["x.jp2"], ["x.png"], id="not-writable"),
        pytest.param(["猫.jpg"], ["猫.jpg"], id="any-script"),
    ],
)
def test_no_two_sources_share_a_file(tmp_path, sources, written):
    save(tmp_path / "out", [picture(source) for source in sources])
    assert names(tmp_path / "out") == written


def test_videos_are_written_whole(tmp_path):
    pictures = [*video("a.mp4", 7), picture("p.jpg"), *video("b/a.avi", 3), *video("c.mkv", 1)]
    save(tmp_path / "out", pictures)
    assert names(tmp_path / "out") == ["a-2.mp4", "a.mp4", "c.mp4", "p.jpg"]
    frames = {name: list(read_video(tmp_path / "out" / name)) for name in ("a.mp4", "a-2.mp4")}
    assert [len(f) for f in frames.values()] == [7, 3]
    assert frames["a.mp4"][0].bgr.shape == (48, 64, 3)
    assert frames["a.mp4"][0].frames_per_second == 10
    assert frames_in(tmp_path / "out" / "c.mp4") == 1


def test_a_video_given_twice_is_written_once(tmp_path):
    save(tmp_path / "out", [*video("a.mp4", 4), *video("a.mp4", 4)])
    assert frames_in(tmp_path / "out" / "a.mp4") == 4


def test_a_video_that_changes_its_size(tmp_path):
    other = [picture("a.mp4", 2, 10.0, (32, 32))]
    save(tmp_path / "out", [*video("a.mp4", 2), *other])
    assert [p.bgr.shape for p in read_video(tmp_path / "out" / "a.mp4")] == [(48, 64, 3)] * 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, UserError])
def test_a_video_that_was_interrupted_is_not_there(tmp_path, error):
    folder = tmp_path / "out"
    with pytest.raises(error), AnnotatedFiles(folder, NAMES, []) as files:
        for one in [*video("done.mp4", 2), *video("half.mp4", 2)]:
            files.write(one, FOUND)
        raise error
    assert names(folder) == ["done.mp4"]


FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
from runtime.detections import Detections
from runtime.errors import UserError
from runtime.pictures import Picture
from runtime.results import AnnotatedFiles
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
noise = np.random.default_rng(0)
try:
    with AnnotatedFiles(Path(sys.argv[1]), (), []) as files:
        for i in range(30):
            bgr = noise.integers(0, 256, (240, 320, 3), np.uint8)
            files.write(Picture(Path("a.mp4"), i, bgr, 25.0), Detections.empty())
except UserError as error:
    print(error)
"""


def test_a_video_that_the_disk_does_not_hold_is_not_there(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"cannot write all of {tmp_path / 'out' / 'a.mp4'}")
    assert names(tmp_path / "out") == []


def test_a_video_no_codec_can_write(tmp_path, capfd):
    with pytest.raises(UserError, match="cannot write"):
        save(tmp_path / "out", video("a.mp4", 1, (70_000, 1)))
    assert names(tmp_path / "out") == []


def test_a_picture_its_format_cannot_hold(tmp_path, capfd):
    with pytest.raises(UserError, match=r"cannot be a \.jpg file"):
        save(tmp_path / "out", [picture("a.jpg", size_wh=(70_000, 1))])


@pytest.mark.parametrize("folder", ["in", "in/../in", "link"])
def test_sources_are_never_written_over(tmp_path, folder):
    source = tmp_path / "in" / "a.png"
    source.parent.mkdir()
    source.write_bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    before = source.read_bytes()
    (tmp_path / "link").symlink_to("in")
    other = tmp_path / "other" / "a.png"
    with pytest.raises(UserError, match=r"--save .* could write over .*: give another folder"):
        save(tmp_path / folder, [picture(other), picture(source)])
    assert source.read_bytes() == before
    assert names(source.parent) == ["a.png"]


@pytest.mark.parametrize("folder", ["real", "links"])
def test_neither_are_links_to_sources_nor_what_they_lead_to(tmp_path, folder):
    real, link = tmp_path / "real" / "a.png", tmp_path / "links" / "a.png"
    for path in (real, link):
        path.parent.mkdir()
    real.write_bytes(b"picture")
    link.symlink_to(real)
    with pytest.raises(UserError, match="could write over"):
        save(tmp_path / folder, [picture(link)])
    assert real.read_bytes() == b"picture"
    assert link.is_symlink()


def test_results_of_an_earlier_run_are_replaced(tmp_path):
    save(tmp_path, [picture("a.png")])
    save(tmp_path, [picture("a.png", size_wh=(20, 10))])
    assert read_picture(tmp_path / "a.png").shape == (10, 20, 3)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match=r"cannot write .*out/a\.png"):
        save(tmp_path / "out", [picture("in/a.png")])
