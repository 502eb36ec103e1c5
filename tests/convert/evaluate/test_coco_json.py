"""Labels in COCO's JSON."""

import json

import pytest

from convert.evaluate.coco_json import read_coco_json
from runtime.errors import UserError

NAMES = ("person", "dog")


def content(**changes: object) -> dict:
    plain = {
        "info": {"year": 2024},
        "images": [
            {"id": 30, "file_name": "b.png", "width": 40, "height": 20, "license": 3},
            {"id": 7, "file_name": "deep/a.png"},
        ],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 1, "name": "person"},
            {"id": 0, "name": "all-things"},
        ],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 1, "bbox": [1, 2.5, 3, 4], "iscrowd": 0},
            {"image_id": 30, "category_id": 18, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"image_id": 7, "category_id": 18, "bbox": [0, 0, 1, 1], "segmentation": [[0, 1]]},
        ],
    }
    return plain | changes


@pytest.fixture
def read(tmp_path):
    """Reads a JSON of this content, its pictures in a folder."""
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.png"):
        (tmp_path / "pictures" / name).write_bytes(b"x")

    def run(plain: object, pictures: str = "pictures"):
        file = tmp_path / "labels.json"
        file.write_bytes(plain if isinstance(plain, bytes) else json.dumps(plain).encode())
        return read_coco_json(file, tmp_path / pictures, NAMES)

    return run


def test_what_is_read(read, tmp_path):
    made = read(content())
    assert made.files == tuple(tmp_path / "pictures" / name for name in ("b.png", "deep/a.png"))
    assert made.image_ids == (30, 7)
    assert made.category_ids == (1, 18)  # by the model's order
    b, a = made.labels
    assert (b.class_id.tolist(), b.crowd.tolist(), b.source_wh) == ([1], [True], (40, 20))
    assert (a.class_id.tolist(), a.crowd.tolist(), a.source_wh) == ([0, 1], [False] * 2, None)
    assert a.pixels((1000, 1000)).tolist() == [[1, 2.5, 4, 6.5], [0, 0, 1, 1]]


def test_a_picture_without_annotations_is_background(read):
    made = read(content(annotations=content()["annotations"][:1]))
    assert [len(labels) for labels in made.labels] == [0, 1]


def entry(**changes: object) -> dict:
    return {"annotations": [content()["annotations"][0], content()["annotations"][0] | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (entry(bbox=[1, 2, 3]), r"annotations\[1\]: bbox: List should have at least 4"),
        (entry(bbox=[1, 2, "3", 4]), r"annotations\[1\]: bbox\.2: "),
        (entry(bbox=[1, 2, -3, 4]), r"annotations\[1\]: bbox .* is no x, y, width, height"),
        (entry(bbox=[1, 2, float("nan"), 4]), r"annotations\[1\]: bbox .* is no x"),
        (entry(bbox=[float("inf"), 2, 3, 4]), r"annotations\[1\]: bbox .* is no x"),
        (entry(bbox=None), r"annotations\[1\]: bbox: "),
        (entry(image_id=8), r"annotations\[1\]: image_id 8 is the id of no image"),
        (entry(category_id=9), r"annotations\[1\]: category_id 9 is the id of no category"),
        (entry(iscrowd=2), r"annotations\[1\]: iscrowd: "),
        ({"annotations": [5]}, r"annotations\[0\]: entry: "),
        ({"images": [{"id": 7}]}, r"images\[0\]: file_name: Field required"),
        ({"images": [{"id": 7, "file_name": "a", "width": 0}]}, r"images\[0\]: width: "),
        ({"images": content()["images"] * 2}, "images: id 30 is there more than once"),
        ({"categories": content()["categories"] * 2}, "categories: id 18 is there more than"),
    ],
)
def test_bad_entries_are_named(read, changes, message):
    with pytest.raises(UserError, match=rf"labels? (is|are) bad.*labels\.json: {message}"):
        read(content(**changes))


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([(1, "person"), (18, "cat")], "does not know cat; no category is called dog"),
        ([(1, "person"), (18, "dog"), (2, "dog")], "more than one is called dog"),
        ([(1, "person"), (18, "Dog")], "does not know Dog"),
    ],
)
def test_other_categories(read, categories, message):
    with pytest.raises(UserError, match=f"has other categories than the model: .*{message}"):
        read(content(categories=[{"id": i, "name": name} for i, name in categories]))


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe\xff", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        ([], "is no COCO JSON: it needs the lists images, annotations, categories"),
        ({"images": [], "annotations": []}, "is no COCO JSON"),
        (content(images={}), "is no COCO JSON"),
        (content(annotations=[]), "nothing is labelled in the 2 pictures"),
        (content(annotations=[], images=[]), "no pictures are left"),
    ],
)
def test_what_is_no_coco_json(read, plain, message):
    with pytest.raises(UserError, match=message):
        read(plain)


def test_missing_pictures(read, tmp_path):
    (tmp_path / "pictures" / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 pictures are missing, e\.g\. .*b\.png"):
        read(content())
    with pytest.raises(UserError, match=r"--pictures .*nowhere is no folder"):
        read(content(), "nowhere")
