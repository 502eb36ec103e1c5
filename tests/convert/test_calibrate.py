"""Where calibration pictures are found, and what is made of them."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert.calibrate import MOST_PICTURES, Sample, find_samples, load, read_sample, spread
from runtime.errors import UserError
from runtime.letterbox import letterbox
from runtime.manifest import InputFacts

SQUARE = InputFacts(width=64, height=64)


def picture(path: Path, seed: int = 0, wh: tuple[int, int] = (48, 32)) -> Path:
    """A PNG of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = np.random.default_rng(seed).integers(0, 256, (wh[1], wh[0], 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
    return path


def found(origin: Path) -> list[Path]:
    return [sample.file for sample in find_samples(origin).samples]


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    return [picture(tmp_path / "set" / f"{i}.png", i) for i in range(3)]


def test_a_folder_gives_its_pictures_and_those_below_in_order_of_name(tmp_path):
    expected = [picture(tmp_path / name) for name in ("a.png", "b/a.PNG", "b/c/d.jpg", "e.jpeg")]
    (tmp_path / "b" / "labels.txt").write_text("0 0 0 1 1")
    (tmp_path / "folder.jpg").mkdir()
    assert found(tmp_path) == expected


def test_a_single_picture(pictures):
    assert found(pictures[1]) == [pictures[1]]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("0.png\n1.png\n2.png\n", "relative to the list's folder"),
        ("./0.png\n./1.png\n./2.png", "YOLOv5's ./, no newline at the end"),
        ("# of May\n\n  0.png \r\n1.png\r\n\n2.png\n", "comments, blank lines, Windows line ends"),
        ("\ufeff0.png\n1.png\n2.png\n", "a mark of byte order, as Windows editors write"),
    ],
)
def test_a_list(pictures, lines, reason):
    origin = pictures[0].parent / "list.txt"
    origin.write_bytes(lines.encode())
    assert found(origin) == pictures, reason


def test_a_list_of_absolute_paths_and_of_paths_from_the_working_folder(
    pictures, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    origin = tmp_path / "lists" / "list.txt"
    origin.parent.mkdir()
    origin.write_text(f"{pictures[0]}\nset/1.png\n")
    assert [path.resolve() for path in found(origin)] == pictures[:2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0.png\nnowhere.png\nnor.png\n", "names 2 files that are missing, e.g. "),
        (b".\n", "names 1 files that are missing"),
        (b"# nothing\n\n", "holds no pictures"),
        (b"\xff\xd8\xff\xe0\x80", "cannot be read as a list of pictures"),
        (b"a" * 5000, "cannot be read: File name too long"),
        (b"a\0b.png\n", "names 1 files that are missing"),
    ],
)
def test_a_list_that_cannot_be_used(pictures, content, message):
    origin = pictures[0].parent / "list.txt"
    origin.write_bytes(content)
    with pytest.raises(UserError, match=message):
        find_samples(origin)


@pytest.mark.parametrize(
    ("yaml", "expected", "reason"),
    [
        ("path: .\ntrain: images/train\nval: images/val\n", "t0 t1", "path and train"),
        ("path: images\ntrain: train\n", "t0 t1", "path relative to the file"),
        ("path: {root}\ntrain: images/train\n", "t0 t1", "an absolute path"),
        ("train: images/train\nnc: 2\n", "t0 t1", "no path at all, as in older releases"),
        ("train: [images/val, images/train]\n", "v0 t0 t1", "several folders, in their order"),
        ("train: train.txt\n", "t1", "a list"),
        ("train: [train.txt, images/val]\n", "t1 v0", "a list and a folder"),
        ("val: images/val\n", "v0", "only validation pictures"),
        ("train:\nval: images/val\n", "v0", "an empty train"),
        ("train: []\nval: images/val\n", "v0", "an empty list under train"),
        ("train: images/val/v0.png\n", "v0", "a single picture"),
        ("names: {{0: person, 1: 'ünïcode'}}\ntrain: images/val\n", "v0", "other keys"),
    ],
)
def test_data_yaml(tmp_path, yaml, expected, reason):
    for i in range(2):
        picture(tmp_path / "images" / "train" / f"t{i}.png")
    picture(tmp_path / "images" / "val" / "v0.png")
    (tmp_path / "train.txt").write_text("./images/train/t1.png\n")
    origin = tmp_path / "data.yaml"
    origin.write_text(yaml.format(root=tmp_path), "utf-8")
    assert [path.stem for path in found(origin)] == expected.split(), reason


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: nowhere\n", "names .*nowhere, which does not exist"),
        ("nc: 2\n", "names no pictures under train or val"),
        ("- a\n- b\n", "names no pictures under train or val"),
        ("train: {a: b}\n", "names no pictures under train or val"),
        ("train: [1, 2]\n", "names no pictures under train or val"),
        ("train: [\n", "cannot be read as YAML"),
        ("when: 2024-13-45\n", "cannot be read as YAML"),
        ("train: data.yaml\n", "is no folder, list"),
        ("train: !!python/object/apply:os.system ['true']\n", "cannot be read as YAML"),
        ("a: &a [x, x]\npath: [*a, *a]\ntrain: .\n", "cannot be read as YAML"),
        ("[" * 5000, "cannot be read as YAML"),
    ],
)
def test_data_yaml_that_cannot_be_used(tmp_path, yaml, message):
    origin = tmp_path / "data.yaml"
    origin.write_text(yaml)
    with pytest.raises(UserError, match=message):
        find_samples(origin)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere does not exist: give a folder, list, data.yaml or video"),
        ("empty", "empty holds no pictures"),
        ("notes.md", "notes.md is no folder, list"),
        ("broken.mp4", "broken.mp4 holds no pictures"),
    ],
)
def test_what_holds_no_pictures(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=message):
        find_samples(tmp_path / name)


def test_odd_file_names(tmp_path):
    names = ["two words.png", "größe-图片.png", "line\nbreak.png", "quo'te\".png", "100%.png"]
    for i, name in enumerate(names):
        picture(tmp_path / name, i)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"no picture")
    loaded = load(find_samples(tmp_path).samples, SQUARE)
    assert len(loaded.inputs) == len(names)
    assert [sample.name for sample in loaded.unreadable] == ["?.png"]
    shown = {sample.name for sample in loaded.samples}
    assert shown == {*names} - {"line\nbreak.png"} | {"line?break.png"}


def test_of_many_pictures_some_are_taken_evenly_spread(tmp_path):
    for i in range(2 * MOST_PICTURES + 50):
        (tmp_path / f"{i:03}.png").touch()
    chosen = find_samples(tmp_path)
    assert chosen.available == 2 * MOST_PICTURES + 50
    numbers = [int(sample.file.stem) for sample in chosen.samples]
    assert len(numbers) == MOST_PICTURES
    assert numbers[0] == 0 and set(np.diff(numbers)) <= {2, 3}


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (0, 5, []),
        (1, 5, [0]),
        (5, 5, [0, 1, 2, 3, 4]),
        (6, 5, [0, 1, 2, 3, 4]),
        (10, 5, [0, 2, 4, 6, 8]),
    ],
)
def test_spread(count, most, expected):
    assert spread(range(count), most) == expected


@pytest.fixture
def video(tmp_path) -> Path:
    """30 frames; the number of a frame is its brightness divided by 8."""
    path = tmp_path / "rtsp:clip 1.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for i in range(30):
        writer.write(np.full((32, 32, 3), i * 8, np.uint8))
    writer.release()
    return path


def test_a_video_gives_frames_evenly_spread(video, monkeypatch):
    monkeypatch.chdir(video.parent)
    video = Path(video.name)  # which is no address of a camera
    chosen = find_samples(video, most=10)
    assert chosen.available == 30
    assert chosen.samples == tuple(Sample(video, i) for i in range(0, 30, 3))
    loaded = load(chosen.samples, SQUARE)
    numbers = [round(float(pixels.mean()) / 8) for pixels in loaded.inputs]
    assert numbers == list(range(0, 30, 3))
    assert loaded.samples[2].name == "rtsp:clip 1.avi#6"
    assert round(float(read_sample(loaded.samples[2]).mean()) / 8) == 6


def test_a_video_that_ends_early_is_partly_unreadable(video):
    loaded = load([Sample(video, 0), Sample(video, 29), Sample(video, 31)], SQUARE)
    assert [sample.frame for sample in loaded.samples] == [0, 29]
    assert [sample.frame for sample in loaded.unreadable] == [31]
    assert read_sample(Sample(video, 31)) is None


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\0\0"])
def test_unreadable_pictures_are_left_out_and_listed(pictures, content):
    pictures[1].write_bytes(content)
    loaded = load(find_samples(pictures[0].parent).samples, SQUARE)
    assert [sample.file for sample in loaded.samples] == [pictures[0], pictures[2]]
    assert [sample.file for sample in loaded.unreadable] == [pictures[1]]
    assert loaded.facts().pictures == len(loaded.source_whs) == len(loaded.inputs) == 2


def test_no_readable_picture_is_an_error(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"none of the 2 pictures of .* can be read"):
        load(find_samples(tmp_path).samples, SQUARE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wh", [(64, 64), (96, 32), (32, 96)])
def test_pictures_are_letterboxed_as_the_runtime_does(pictures, wh, channels):
    facts = InputFacts(width=wh[0], height=wh[1], channels=channels)
    loaded = load(find_samples(pictures[0].parent).samples, facts)
    for sample, pixels, source_wh in zip(
        loaded.samples, loaded.inputs, loaded.source_whs, strict=True
    ):
        bgr = cv2.imread(str(sample.file))
        assert source_wh == (bgr.shape[1], bgr.shape[0])
        assert pixels.shape == (wh[1], wh[0], channels) and pixels.dtype == np.uint8
        assert np.array_equal(pixels, letterbox(bgr, wh, channels))


def test_the_digest_is_of_the_pixels_the_model_sees(pictures, tmp_path):
    def digest(origin: Path, facts: InputFacts = SQUARE) -> str:
        return load(find_samples(origin).samples, facts).facts().digest

    first = digest(pictures[0].parent)
    for i in range(3):
        picture(tmp_path / "copy" / f"other{i}.png", i)
    assert digest(tmp_path / "copy") == first
    assert digest(tmp_path / "copy", InputFacts(width=64, height=32)) != first
    picture(tmp_path / "copy" / "other1.png", 99)
    assert digest(tmp_path / "copy") != first


def test_progress_is_told_of_every_sample(pictures):
    seen = []

    def track(items):
        for item in items:
            seen.append(item)
            yield item

    load(find_samples(pictures[0].parent).samples, SQUARE, track)
    assert [sample.file for sample in seen] == pictures
