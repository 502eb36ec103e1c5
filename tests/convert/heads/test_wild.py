"""ONNX files that other people published."""

import cv2
import numpy as np
import pytest

from convert.source import read_source
from runtime.backends import open_backend
from runtime.detections import Detections
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.manifest import Thresholds
from runtime.model import Model


def detector_of(source, thresholds):
    facts = source.facts("none")
    graph = source.graph(facts).SerializeToString()
    model = Model(path=source.path, facts=facts, onnx=graph)
    return Detector(open_backend("onnxruntime", model), facts, thresholds)


def overlaps(a: Detections, b: Detections) -> np.ndarray:
    """IoU (n, m) of the boxes of one class, 0 for other pairs."""
    top_left = np.maximum(a.xyxy[:, None, :2], b.xyxy[None, :, :2])
    bottom_right = np.minimum(a.xyxy[:, None, 2:], b.xyxy[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    areas = [(d.xyxy[:, 2:] - d.xyxy[:, :2]).prod(axis=1) for d in (a, b)]
    iou = shared / (areas[0][:, None] + areas[1][None] - shared)
    return np.where(a.class_id[:, None] == b.class_id[None], iou, 0)


@pytest.mark.parametrize(
    ("thresholds", "least", "ties"),
    [
        pytest.param(Thresholds(iou=1, max_detections=30_000), 2500, 0, id="every-box"),
        # of two boxes with one score, noise chooses which suppresses the other
        pytest.param(Thresholds(), 200, 3, id="suppressed"),
    ],
)
def test_half_precision_weights_find_what_the_checkpoint_finds(thresholds, least, ties, shared):
    onnx = read_source(shared / "wild" / "jinyutong-yolov5n.onnx", None)
    checkpoint = read_source(shared / "wild" / "jinyutong-yolov5n.pt", (640, 640))
    assert [head.name for head in onnx.onnx.heads] == ["326", "370", "414"]
    assert onnx.onnx.found_anchors
    ours, theirs = onnx.facts("none"), checkpoint.facts("none")
    assert ours.anchors.is_close(theirs.anchors)
    assert ours.class_names == theirs.class_names
    from_onnx, from_checkpoint = detector_of(onnx, thresholds), detector_of(checkpoint, thresholds)
    pictures = sorted((shared / "images").glob("*.jpg"))
    assert len(pictures) >= 20
    total, unlike = 0, 0
    for path in pictures:
        bgr = cv2.imread(str(path))
        found, expected = from_onnx(bgr), from_checkpoint(bgr)
        for a, b in ((found, expected), (expected, found)):
            clear = a.score > 0.26  # one just above the threshold may have no partner
            if clear.any():
                iou = overlaps(a, b)[clear]
                partner = iou.argmax(axis=1)
                assert np.abs(b.score[partner] - a.score[clear]).max() < 0.01
                assert iou.max(axis=1).min() > 0.9
                unlike += (iou.max(axis=1) < 0.98).sum()
        total += len(found)
    assert total > least
    assert unlike <= 2 * ties


def test_half_precision_weights_pass_the_proof(shared, converted):
    source = read_source(shared / "wild" / "jinyutong-yolov5n.onnx", None)
    bus = cv2.resize(cv2.imread(str(shared / "images" / "bus.jpg")), (640, 640))[None, ..., ::-1]
    # behind ONNX Runtime's Sigmoid some scores of this picture are 0
    for activation, least in (("none", 25200), ("sigmoid", 24000)):
        _, proof, _ = converted(source, bus, activation)
        assert proof.compared == "boxes"
        assert least <= proof.count <= 25200
        assert proof.largest_px < 1e-3
        assert proof.largest_value < 1e-6


def test_half_precision_weights_hold_the_references_anchors(shared):
    """Those that YOLOv5 itself decodes the checkpoint with."""
    reference = np.load(shared / "wild" / "jinyutong-yolov5n.npz")
    source = read_source(shared / "wild" / "jinyutong-yolov5n.onnx", None)
    found = np.stack([head.wh_px for head in source.facts("none").anchors.heads])
    np.testing.assert_allclose(found, reference["anchors"], rtol=1e-3)


def test_a_lite_network_that_only_joins_its_sigmoids(shared, converted):
    """One class, three anchors, no decode and so no anchors in it."""
    path = shared / "wild" / "xibici-hand-best_5e.onnx"
    source = read_source(path, None)
    assert source.onnx.wh == (320, 320)
    assert [head.stride for head in source.onnx.heads] == [8, 16, 32]
    assert {block.form for block in source.onnx.blocks} == {"sigmoid"}
    assert source.onnx.class_names == ("class0",)
    with pytest.raises(UserError, match="does not decode, so its anchors are not in it: give"):
        source.facts("sigmoid")
    source = read_source(path, None, "coco-p5")
    picture = cv2.resize(cv2.imread(str(shared / "images" / "zidane.jpg")), (320, 320))[None]
    for activation in ("none", "sigmoid"):
        facts, proof, _ = converted(source, picture, activation)
        assert facts.class_names == ("class0",)
        assert proof.compared == "head maps"
        assert proof.count == 6300 * 6
        assert proof.largest_value < 1e-6


def test_a_plate_detector_has_landmarks(shared):
    with pytest.raises(UserError, match=r"of the 15 numbers a row of 'output', .* landmarks"):
        read_source(shared / "wild" / "edgehook-plate-plate_detect.onnx", None)
