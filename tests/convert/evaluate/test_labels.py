"""Label files of YOLOv5: what is read, and what is told of those that are bad."""

from pathlib import Path

import numpy as np
import pytest

from convert.evaluate.labels import Labels, check_size, label_file, read_labels
from runtime.errors import UserError


def read(tmp_path, content: bytes) -> tuple[list[list[float]], list[str]]:
    """Rows of class and corners in pixels of a picture of 100 x 10, and what was wrong."""
    file, told = tmp_path / "a.txt", []
    file.write_bytes(content)
    labels = read_labels(file, 5, lambda place, what: told.append(f"{place}: {what}"))
    assert not labels.crowd.any() and labels.class_id.dtype == np.int32
    rows = np.column_stack((labels.class_id, labels.pixels((100, 10))))
    return rows.round(6).tolist(), [line.removeprefix(str(file)) for line in told]


BOX = [2, 10, 2, 30, 6]


@pytest.mark.parametrize(
    ("content", "expected", "reason"),
    [
        (b"", [], "an empty file is a background picture"),
        (b"\n  \n", [], "so are blank lines"),
        (b"2 0.2 0.4 0.2 0.4\n", [BOX], "centre and size"),
        (b"2 0.2 0.4 0.2 0.4", [BOX], "no newline at the end"),
        (b"\xef\xbb\xbf2\t0.2  0.4 0.2 0.4\r\n", [BOX], "what Windows editors write, and tabs"),
        (b"2.0 2e-1 .4 0.2 0.4", [BOX], "other ways to write numbers"),
        (b"2 0.2 0.4 0.2 0.4\n2 0.20 0.4 0.2 0.4\n", [BOX], "equal rows count once"),
        (b"2 0.2 0.4 0.2 0.4\n3 0.2 0.4 0.2 0.4\n", [BOX, [3, *BOX[1:]]], "another class"),
        (b"2 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n", [BOX], "a polygon's enclosing box"),
        (b"2 0.1 0.6 0.2 0.2 0.3 0.5\n", [BOX], "a triangle"),
        (
            b"1 0.5 0.5 1 1\n2 0.1 0.6 0.2 0.2 0.3 0.5\n",
            [[1, 0, 0, 100, 10], BOX],
            "boxes and polygons in one file are each what they are",
        ),
        (b"0 0.5 0.5 1.00000001 1\n", [[0, 0, 0, 100, 10]], "as float32, this is 1"),
        (b"0 1 1 0.2 0.4\n", [[0, 90, 8, 100, 10]], "clipped to the picture"),
        (b"0 0.5 0.5 0 0\n", [[0, 50, 5, 50, 5]], "an empty box is taken, as by YOLOv5"),
    ],
)
def test_what_is_read(tmp_path, content, expected, reason):
    rows, told = read(tmp_path, content)
    assert told == []
    assert rows == [pytest.approx(row, abs=1e-5) for row in expected], reason


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"5 0.5 0.5 0.1 0.1", "class 5, but the model's classes are 0 to 4"),
        (b"-1 0.5 0.5 0.1 0.1", "class -1, but"),
        (b"1.5 0.5 0.5 0.1 0.1", "class 1.5, but"),
        (b"nan 0.5 0.5 0.1 0.1", "nan is no finite number"),
        (b"star 0.5 0.5 0.1 0.1", "'star' is no number"),
        (b"1 0.5 0.5 0.1", "4 columns: a box has 5"),
        (b"1 0.5 0.5 0.1 0.1 0.9", "6 columns: a box has 5"),
        (b"1 0.5 0.5 0.1 0.1 0.9 0.2 0.3", "8 columns: a box has 5"),
        (b"1,0.5,0.5,0.1,0.1", "1 columns"),
        (b"1 320 240 64 64", "320 is no fraction of the picture, 0 to 1"),
        (b"1 0.5 0.5 1.000001 0.1", "1.000001 is no fraction"),
        (b"1 0.5 0.5 -0.1 0.1", "-0.1 is no fraction"),
        (b"1 0.5 0.5 nan 0.1", "nan is no finite number"),
        (b"1 0.5 0.5 inf 0.1", "inf is no finite number"),
        (b"1 0.5 0.5 1e999 0.1", "1e999 is no finite number"),
        (b"1 0.1 0.6 0.2 0.2 0.3 1.5", "1.5 is no fraction"),
    ],
)
def test_a_bad_line_is_named_and_left_out(tmp_path, line, message):
    rows, told = read(tmp_path, b"2 0.2 0.4 0.2 0.4\n\n" + line + b"\n1 0.5 0.5 1 1\n")
    assert rows == [pytest.approx(BOX, abs=1e-5), [1, 0, 0, 100, 10]]
    assert len(told) == 1 and told[0].startswith(f":3: {message}")


def test_a_file_that_is_no_text(tmp_path):
    assert read(tmp_path, b"\xff\xd8\xff\xe0") == ([], [": not a text file"])


def test_a_file_too_large(tmp_path):
    with (tmp_path / "a.txt").open("wb") as stream:
        stream.truncate(2**24 + 1)
    with pytest.raises(UserError, match=r"a\.txt is larger than the 16777216 bytes"):
        read_labels(tmp_path / "a.txt", 5, lambda *_: None)


@pytest.mark.parametrize(
    ("picture", "expected", "reason"),
    [
        ("/d/images/val/a.jpg", "/d/labels/val/a.txt", "YOLOv5's layout"),
        ("/d/val/images/a.jpg", "/d/val/labels/a.txt", "the other one"),
        ("/images/d/images/a.b.png", "/images/d/labels/a.b.txt", "the last images, one suffix"),
        ("/d/my_images/a.jpg", "/d/my_images/a.txt", "no folder of that name: beside it"),
        ("/d/images.jpg", "/d/images.txt", "a picture of that name"),
    ],
)
def test_where_labels_are(picture, expected, reason):
    assert label_file(Path(picture)) == Path(expected), reason


def test_labels_of_a_linked_folder(tmp_path):
    """Beside the link, or else beside what it leads to."""
    real = tmp_path / "disk" / "images" / "a.png"
    for made in (real, tmp_path / "disk" / "labels" / "a.txt"):
        made.parent.mkdir(parents=True)
        made.write_text("")
    (tmp_path / "val").symlink_to(real.parent)
    assert label_file(tmp_path / "val" / "a.png") == tmp_path / "disk" / "labels" / "a.txt"
    (real.parent / "a.txt").write_text("")
    assert label_file(tmp_path / "val" / "a.png") == tmp_path / "val" / "a.txt"


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert label_file(Path("images/a.png")) == tmp_path / "labels" / "a.txt"


def test_labels_of_another_size():
    labels = Labels(np.zeros(1, np.int32), np.zeros((1, 4)), np.zeros(1, bool), True, (40, 20))
    check_size(labels, (40, 20), Path("a.png"))
    with pytest.raises(UserError, match=r"a\.png is 20x40 .* was labelled as 40x20"):
        check_size(labels, (20, 40), Path("a.png"))
