import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import UserError
from runtime.pictures import (
    find_files,
    frames_in,
    is_video,
    read_picture,
    read_pictures,
    read_video,
)


def write_picture(path, bgr=None):
    bgr = np.full((24, 32, 3), 90, np.uint8) if bgr is None else bgr
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, bgr)[1].tobytes())
    return path


def write_video(path, frames, size_wh=(64, 48), suffix_codec="mp4v"):
    """A video whose frame k is grey of level 8 k."""
    codec = cv2.VideoWriter.fourcc(*suffix_codec)
    writer = cv2.VideoWriter(str(path), codec, 10, size_wh)
    for k in range(frames):
        writer.write(np.full((size_wh[1], size_wh[0], 3), 8 * k, np.uint8))
    writer.release()
    return path


def with_orientation(jpeg, orientation):
    """A JPEG with an EXIF orientation."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def test_files_and_folders_in_order(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "c.mp4", "deeper/d.jpg", "other/z.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    single, folder = tmp_path / "other" / "z.jpg", tmp_path
    found = find_files([single, folder, single])
    inside = [folder / "a.PNG", folder / "b.jpg", folder / "c.mp4"]
    assert found == [single, *inside, single]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("missing.jpg", "does not exist", id="missing"),
        pytest.param("notes.txt", "is no picture or video: its suffix", id="suffix"),
        pytest.param("empty", "holds no pictures or videos: give the folder", id="empty-folder"),
        pytest.param("text", "holds no pictures or videos", id="folder-of-other-things"),
        pytest.param("broken.jpg", "does not exist", id="broken-link"),
    ],
)
def test_inputs_that_are_none(tmp_path, name, message):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text" / "x.jpg").mkdir(parents=True)
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UserError, match=f"{tmp_path / name} {message}"):
        find_files([tmp_path / name])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_reads_pictures(tmp_path, suffix):
    bgr = np.zeros((20, 30, 3), np.uint8)
    bgr[:, :15], bgr[:, 15:] = (200, 30, 30), (30, 30, 200)
    found = read_picture(write_picture(tmp_path / f"a{suffix}", bgr))
    assert found.shape == (20, 30, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - bgr)[:, [3, 26]].max() < 20


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 4)], ids=["grey", "with-alpha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_picture_becomes_8_bit_bgr(tmp_path, shape, dtype):
    value = np.full(shape, np.iinfo(dtype).max, dtype)
    found = read_picture(write_picture(tmp_path / "a.png", value))
    assert found.shape == (20, 30, 3)
    assert found.dtype == np.uint8
    assert (found == 255).all()


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        pytest.param(1, (0, 0), id="upright"),
        pytest.param(3, (-1, -1), id="upside-down"),
        pytest.param(6, (0, -1), id="turned-right"),
        pytest.param(8, (-1, 0), id="turned-left"),
    ],
)
def test_pictures_are_turned_as_their_camera_was(tmp_path, orientation, corner):
    bgr = np.zeros((32, 64, 3), np.uint8)
    bgr[:16, :16] = 255  # the top left corner of what the sensor saw
    path = write_picture(tmp_path / "a.jpg", bgr)
    path.write_bytes(with_orientation(path.read_bytes(), orientation))
    found = read_picture(path)
    assert found.shape == ((32, 64, 3) if orientation in (1, 3) else (64, 32, 3))
    assert found[corner].min() > 200
    assert (found > 128).mean() == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no picture", id="text"),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="only-the-magic"),
    ],
)
def test_unreadable_pictures(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert read_picture(path) is None
    with pytest.raises(UserError, match=f"{path} cannot be read as a picture: it is damaged"):
        list(read_pictures([path]))


def test_a_picture_that_is_missing_is_unreadable(tmp_path):
    assert read_picture(tmp_path / "a.jpg") is None


def test_names_in_any_script(tmp_path):
    path = write_picture(tmp_path / "снимок ünïcode 猫.jpg")
    assert read_picture(path).shape == (24, 32, 3)


def test_pictures_before_and_behind_a_video(tmp_path):
    files = [
        write_picture(tmp_path / "a.jpg"),
        write_video(tmp_path / "b.mp4", 3),
        write_picture(tmp_path / "c.png"),
    ]
    found = [(picture.file.name, picture.frame) for picture in read_pictures(files)]
    assert found == [("a.jpg", 0), ("b.mp4", 0), ("b.mp4", 1), ("b.mp4", 2), ("c.png", 0)]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mp4v"), (".avi", "MJPG"), (".mkv", "MJPG")]
)
def test_every_frame_of_a_video_in_order(tmp_path, suffix, codec):
    path = write_video(tmp_path / f"a{suffix}", 25, suffix_codec=codec)
    found = list(read_video(path))
    assert [picture.frame for picture in found] == list(range(25))
    levels = [picture.bgr.mean() for picture in found]
    np.testing.assert_allclose(levels, np.arange(25) * 8, atol=4)
    assert {picture.frames_per_second for picture in found} == {10}
    assert frames_in(path) == 25


def test_the_demo_video(demo):
    path = demo / "shapes.mp4"
    frames = [picture.frame for picture in read_video(path)]
    assert frames == list(range(frames_in(path)))
    assert len(frames) > 10


def test_a_video_with_a_colon_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", 2).rename(tmp_path / "12:30.mp4")
    (path,) = find_files([Path("12:30.mp4")])
    assert len(list(read_video(path))) == 2


@pytest.mark.parametrize("content", [b"", b"no video"], ids=["empty", "text"])
def test_unreadable_videos(tmp_path, content, capfd):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} cannot be read as a video: it is damaged or"):
        list(read_video(path))
    assert frames_in(path) == 0


@pytest.mark.parametrize(("name", "video"), [("a.MP4", True), ("a.jpg", False), ("mp4", False)])
def test_is_video(tmp_path, name, video):
    assert is_video(tmp_path / name) is video
