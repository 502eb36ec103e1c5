"""The lists of pictures trials are calibrated and checked on, and what a study is known by."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert import calibrate
from convert.evaluate import job
from convert.places import pictures_of
from convert.tune.pictures import check_pictures, find_pictures, write_lists
from convert.tune.study import Study, digest, spread_places
from runtime.errors import UserError


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    folder = tmp_path / "pictures with spaces"
    folder.mkdir()
    files = [folder / f"{i:02}.png" for i in range(9)]
    for i, file in enumerate(files):
        file.write_bytes(cv2.imencode(".png", np.full((8, 8, 3), i, np.uint8))[1].tobytes())
    return files


def test_lists_are_read_back_as_what_they_are(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_pictures(pictures[0].parent.relative_to(tmp_path), tmp_path / "frames")
    assert found == pictures  # absolute, for workers that are elsewhere
    write_lists(tmp_path / "lists", found, found[:2])
    monkeypatch.chdir("/")
    read = {file.stem: pictures_of(file) for file in (tmp_path / "lists").iterdir()}
    assert read == {
        "all": pictures,
        "half": pictures[::2],
        "other-half": pictures[1::2],
        "quarter": pictures[::4],
        "check": pictures[:2],
    }
    assert not (tmp_path / "frames").exists()


def test_a_videos_frames_become_pictures(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "MOST_PICTURES", 3)
    most = calibrate.find_samples(demo / "shapes.mp4", 3).samples
    monkeypatch.setattr(
        "convert.tune.pictures.find_samples", lambda o: calibrate.find_samples(o, 3)
    )
    frames = find_pictures(demo / "shapes.mp4", tmp_path)
    assert len(frames) == 3 and all(file.parent == tmp_path for file in frames)
    for file, sample in zip(frames, most, strict=True):
        assert np.array_equal(cv2.imread(str(file)), calibrate.read_sample(sample))
    written = [file.stat().st_mtime_ns for file in frames]
    assert find_pictures(demo / "shapes.mp4", tmp_path) == frames
    assert [file.stat().st_mtime_ns for file in frames] == written


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b.png", "a.png ", "a\udcff.png"])
def test_names_that_no_list_can_hold(tmp_path, name):
    with pytest.raises(UserError, match="is no name for a list of pictures: rename it"):
        write_lists(tmp_path, [tmp_path / name], [])


def test_what_is_checked(pictures):
    many = pictures * 9
    assert check_pictures(many, None, labelled=True) == calibrate.spread(many, 20)
    assert check_pictures(many, None, labelled=False) == calibrate.spread(many, 60)
    assert check_pictures(many, pictures, labelled=True) == pictures


def test_spread():
    assert spread_places(5, 9) == [0, 1, 2, 3, 4]
    assert spread_places(9, 3) == [0, 3, 6]
    assert spread_places(1, 1) == [0]


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(tmp_path / "a.pt", tmp_path)


def test_a_study_is_known_by_all_it_depends_on(study, pictures, tmp_path):
    anchors = tmp_path / "anchors.yaml"
    anchors.write_text("one")

    def name(changed=study, sha="aa", found=tuple(pictures)):
        return digest(changed, sha, None, found)

    first = name()
    others = [
        name(sha="bb"),
        name(found=pictures[:-1]),
        name(replace(study, wh=(64, 64))),
        name(replace(study, target="rk3576")),
        name(replace(study, least_f1=0.5)),
        name(replace(study, anchors="coco-p5")),
        name(replace(study, anchors=str(anchors))),
    ]
    anchors.write_text("two")
    others.append(name(replace(study, anchors=str(anchors))))
    content = pictures[0].read_bytes()
    pictures[0].write_bytes(pictures[1].read_bytes())
    others.append(name())
    pictures[0].write_bytes(content)
    assert len({first, *others}) == len(others) + 1
    # and not by where things are, so that a folder can be moved
    assert name(replace(study, model=tmp_path / "b.pt", lists=tmp_path / "x")) == first


def test_labels_are_part_of_it(study, few_yaml, pictures, tmp_path):
    data = job.Request(tmp_path / "a.pt", few_yaml)
    names = ("circle", "square", "triangle", "star", "cross")
    labelled = replace(study, data=data)
    whole, few = labelled.dataset(names), replace(labelled, most=3).dataset(names)
    assert few.files == tuple(whole.files[i] for i in (0, 2, 5)) and len(few.labels) == 3
    moved = replace(whole, labels=whole.labels[::-1])
    made = [digest(labelled, "aa", d, pictures) for d in (None, whole, few, moved)]
    assert len(set(made)) == 4
    assert digest(labelled, "aa", labelled.dataset(names), pictures) == made[1]


def test_a_picture_that_is_gone(study, pictures):
    pictures[3].unlink()
    with pytest.raises(UserError, match=r"cannot read .*03\.png: No such file"):
        digest(study, "aa", None, pictures)
