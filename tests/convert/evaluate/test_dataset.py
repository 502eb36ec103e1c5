"""Labelled pictures from a data.yaml."""

import pytest

from convert.evaluate.dataset import read_data_yaml
from runtime.errors import UserError

NAMES = ("circle", "square", "triangle", "star", "cross")
BOX = "0 0.5 0.5 0.5 0.5\n"


def stems(dataset) -> str:
    return " ".join(file.stem for file in dataset.files)


def test_pictures_and_their_labels(folder):
    folder.add("007.png", BOX + "4 0.1 0.1 0.1 0.1\n")
    folder.add("b.png", "")
    folder.add("c.png")
    made = read_data_yaml(folder.yaml, "val", NAMES)
    assert stems(made) == "007 b c"
    assert [labels.class_id.tolist() for labels in made.labels] == [[0, 4], [], []]
    assert made.labels[0].pixels((40, 20))[0].tolist() == [10, 5, 30, 15]
    assert made.image_ids == (7, "b", "c")
    assert made.category_ids == (0, 1, 2, 3, 4)
    assert made.warning == ""


@pytest.mark.parametrize(
    ("content", "split", "expected", "reason"),
    [
        ({"val": "images/val"}, "val", "a b", "relative to the file"),
        ({"path": "images", "val": "val"}, "val", "a b", "path relative to the file"),
        ({"path": "{root}", "val": "images/val"}, "val", "a b", "an absolute path"),
        ({"path": "images", "val": "val", "train": "train"}, "train", "t", "another split"),
        ({"train": "images/train", "test": "images/val"}, "test", "a b", "and another"),
        ({"val": ["images/train", "images/val"]}, "val", "t a b", "several folders"),
        ({"val": "list.txt"}, "val", "b", "a list"),
        ({"val": "../images/val"}, "val", "a b", "one folder too high, as services export"),
    ],
)
def test_forms_of_data_yaml(folder, content, split, expected, reason):
    folder.add("a.png", BOX)
    folder.add("b.png", BOX)
    folder.add("t.png", BOX, split="train")
    (folder.root / "list.txt").write_text("./images/val/b.png\n")
    content = {k: v.replace("{root}", str(folder.root)) if isinstance(v, str) else v
               for k, v in content.items()}  # fmt: skip
    folder.write_yaml(**content, names=list(NAMES))
    assert stems(read_data_yaml(folder.yaml, split, NAMES)) == expected, reason


@pytest.mark.parametrize(
    ("content", "names", "reason"),
    [
        ({"names": list(NAMES)}, NAMES, "a list"),
        ({"names": list(NAMES), "nc": 5}, NAMES, "and its length"),
        ({"names": dict(enumerate(NAMES))}, NAMES, "numbered"),
        ({"nc": 5}, NAMES, "their number alone"),
        ({"names": list(NAMES)}, tuple(f"class{i}" for i in range(5)), "a model without names"),
        ({"names": list(range(5))}, tuple("01234"), "names that are numbers"),
    ],
)
def test_classes_that_are_the_models(folder, content, names, reason):
    folder.add("a.png", BOX)
    folder.write_yaml(val="images", **content)
    assert len(read_data_yaml(folder.yaml, "val", names).files) == 1, reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": ["circle", "square"]}, "has 2 classes, but the model has 5: circle, square, t"),
        ({"nc": 80}, "has 80 classes, but the model has 5"),
        (
            {"names": ["circle", "square", "star", "triangle", "cross"]},
            "2 is star there and triangle in the model, 3 is triangle there and star in the model",
        ),
        ({"names": list(NAMES), "nc": 4}, "has nc: 4 and 5 names"),
        ({"names": {0: "circle", 2: "square"}}, "numbered from 0 without a gap"),
        ({"names": {"a": "circle"}}, "numbered from 0 without a gap"),
        ({"names": []}, "names no classes"),
        ({"names": "circle"}, "names no classes"),
        ({}, "names no classes"),
        ({"nc": -1}, "names no classes"),
        ({"nc": "five"}, "names no classes"),
    ],
)
def test_classes_that_are_not(folder, content, message):
    folder.add("a.png", BOX)
    folder.write_yaml(val="images", **content)
    with pytest.raises(UserError, match=message):
        read_data_yaml(folder.yaml, "val", NAMES)


@pytest.mark.parametrize(
    ("content", "split", "message"),
    [
        ({"train": "images/val"}, "val", "names no pictures under val: give --split train"),
        ({"val": "images/val"}, "test", "names no pictures under test: give --split val"),
        ({}, "val", "names no pictures under val: give a data.yaml with val"),
        ({"val": "nowhere"}, "val", "names .*nowhere, which does not exist"),
        ({"val": "../nowhere"}, "val", r"names .*\.\./nowhere, which does not exist"),
        ({"val": "empty"}, "val", "names places under val that hold no pictures"),
    ],
)
def test_places_that_hold_nothing(folder, content, split, message):
    folder.add("a.png", BOX)
    (folder.root / "empty").mkdir()
    folder.write_yaml(**content, names=list(NAMES))
    with pytest.raises(UserError, match=message):
        read_data_yaml(folder.yaml, split, NAMES)


def test_no_label_file_at_all_says_where_one_was_looked_for(folder):
    folder.add("a.png")
    expected = rf"none of the 1 pictures has a label file.*{folder.root}/labels/val/a\.txt"
    with pytest.raises(UserError, match=expected):
        read_data_yaml(folder.yaml, "val", NAMES)


def test_nothing_labelled(folder):
    folder.add("a.png", "")
    with pytest.raises(UserError, match="nothing is labelled in the 1 pictures"):
        read_data_yaml(folder.yaml, "val", NAMES)


def test_bad_labels_are_all_named(folder):
    folder.add("a.png", BOX + "9 0.5 0.5 0.1 0.1\n")
    folder.add("b.png", "\n0 0.5 0.5 0.1\nx 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UserError) as caught:
        read_data_yaml(folder.yaml, "val", NAMES)
    labels = folder.root / "labels" / "val"
    for place in ("a.txt:2: class 9", "b.txt:2: 4 columns", "b.txt:3: 'x' is no number"):
        assert f"{labels}/{place}" in str(caught.value)
    assert str(caught.value).startswith("3 labels are bad: ")
    assert "--skip-bad-labels" in str(caught.value)


@pytest.mark.parametrize(("count", "told"), [(20, 20), (21, 20)])
def test_of_many_bad_labels_twenty_are_named(folder, count, told):
    folder.add("a.png", "9 0 0 0 0\n" * count)
    with pytest.raises(UserError) as caught:
        read_data_yaml(folder.yaml, "val", NAMES)
    assert str(caught.value).count("a.txt:") == told
    assert str(caught.value).startswith(
        f"{count} labels are bad{'' if count == told else ', the first 20'}: "
    )


def test_pictures_with_bad_labels_can_be_left_out(folder):
    folder.add("a.png", BOX + "9 0.5 0.5 0.1 0.1\n")
    folder.add("b.png", BOX)
    made = read_data_yaml(folder.yaml, "val", NAMES, skip_bad=True)
    assert stems(made) == "b"
    assert made.warning.startswith("1 pictures are left out: 1 label is bad: ")


def test_nothing_left(folder):
    folder.add("a.png", "9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UserError, match="no pictures are left"):
        read_data_yaml(folder.yaml, "val", NAMES, skip_bad=True)


def test_progress_is_told_of_every_picture(folder):
    files, seen = [folder.add(f"{i}.png", BOX) for i in range(3)], []
    read_data_yaml(
        folder.yaml, "val", NAMES, track=lambda items: (seen.append(i) or i for i in items)
    )
    assert seen == files
