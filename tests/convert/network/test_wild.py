"""Checkpoints that other people published behave as their sources.json says.

They are not part of the project: the tests need the folder ../shared.
"""

import hashlib
import json
from contextlib import closing

import cv2
import numpy as np
import pytest
from run_graph import picture_of, run_graph

from convert.checkpoint import read_checkpoint
from convert.network import deploy_graph, facts_for
from runtime.backends import open_backend
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.model import Model

CONVERTED = ["dragonprime-exp8-best", "jinyutong-yolov5n", "sunhw-cabinet-yolov5n"]

REFUSED = {
    "1dogrobot-leaf-exp5-best": "every weight.*training diverged",
    "ktang-pose-cocoyd": "keypoint or landmark head.*plain box heads only",
    "kaidong-y7plate-yolov7-lite-t": "keypoint or landmark head.*IKeypoint",
    "obaruch-trunc-yolov5n": "damaged or cut short.*copy it again",
    "zjulrj-v5lite-v5lite-e": "cannot build: .*Shuffle_Block.*export ONNX",
    "edgehook-plate-best": r"42 channels.*need 3 x \(5 \+ 1\).*landmark",
}
"""What the refusal must say, by file."""

PRUNED = "souvik-prune-vn_25_prune-best"


def test_every_published_checkpoint_has_its_test(shared):
    sources = json.loads((shared / "wild" / "sources.json").read_text())
    expected = {source["file"]: source["expect"] for source in sources}
    ours = dict.fromkeys((*CONVERTED, PRUNED), "convert") | dict.fromkeys(REFUSED, "refuse")
    for stem, verdict in ours.items():
        assert expected.pop(f"{stem}.pt").startswith(verdict)
    assert not [file for file in expected if file.endswith(".pt")]


def test_the_files_are_the_ones_described(shared):
    for source in json.loads((shared / "wild" / "sources.json").read_text()):
        if source["file"].endswith(".pt"):
            data = (shared / "wild" / source["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == source["sha256"]


@pytest.mark.parametrize("stem", CONVERTED)
def test_head_maps_are_those_of_yolov5(shared, stem):
    checkpoint = read_checkpoint(shared / "wild" / f"{stem}.pt")
    with np.load(shared / "wild" / f"{stem}.npz") as reference:
        height, width = reference["image"].shape[1:]
        facts = facts_for(checkpoint, (width, height), "none")
        maps = run_graph(deploy_graph(checkpoint, facts), picture_of(reference["image"]))
        assert checkpoint.anchors.strides == tuple(reference["stride"].tolist())
        pairs = zip(maps, checkpoint.anchors.heads, reference["anchors"], strict=True)
        for i, (found, head, anchors) in enumerate(pairs):
            np.testing.assert_allclose(found[0], reference[f"head{i}"], atol=5e-3, rtol=0)
            np.testing.assert_allclose(head.wh_px, anchors, rtol=1e-6, atol=0)


@pytest.mark.parametrize("stem, reason", REFUSED.items(), ids=REFUSED)
def test_refusals_name_the_reason(shared, stem, reason):
    path = shared / "wild" / f"{stem}.pt"
    with pytest.raises(UserError, match=f"(?s){stem}.*{reason}"):
        checkpoint = read_checkpoint(path)
        deploy_graph(checkpoint, facts_for(checkpoint, (320, 320), "none"))


def pruned(folder):
    checkpoint = read_checkpoint(folder / "wild" / f"{PRUNED}.pt")
    facts = facts_for(checkpoint, (640, 640), "none")
    graph = deploy_graph(checkpoint, facts).SerializeToString()
    return Model(path=checkpoint.path, facts=facts, onnx=graph)


def detect(model, bgr, score):
    with closing(open_backend("onnxruntime", model)) as backend:
        thresholds = model.thresholds.model_copy(update={"score": score})
        return Detector(backend, model.facts, thresholds)(bgr)


def test_a_pruned_network_under_other_module_names_converts(shared):
    model = pruned(shared)
    maps = run_graph(model.onnx, np.random.default_rng(0).random((1, 3, 640, 640), np.float32))
    assert all(np.isfinite(one).all() for one in maps)


def test_a_pruned_network_sees_little_of_its_vegetables_in_a_street(shared):
    bgr = cv2.imread(str(shared / "images" / "bus.jpg"))
    height, width = bgr.shape[:2]
    assert not len(detect(pruned(shared), bgr, 0.25).score)
    found = detect(pruned(shared), bgr, 0.01)
    assert len(found.score) < 100
    assert (found.xyxy >= 0).all() and (found.xyxy <= (width, height, width, height)).all()
    assert (found.xyxy[:, 2:] - found.xyxy[:, :2] > 1).all()


@pytest.mark.parametrize("bgr, name", [((30, 30, 200), "tomato"), ((0, 140, 255), "orange")])
def test_a_pruned_network_sees_its_vegetables_in_drawn_discs(shared, bgr, name):
    picture = np.full((480, 640, 3), 255, np.uint8)
    cv2.circle(picture, (320, 240), 90, bgr, -1)
    model = pruned(shared)
    found = detect(model, picture, 0.5)
    assert [model.facts.class_names[i] for i in found.class_id] == [name]
    np.testing.assert_allclose(found.xyxy[0], (230, 150, 410, 330), atol=20)
