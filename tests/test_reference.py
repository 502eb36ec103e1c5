"""Detections on ONNX Runtime against those of YOLOv5 itself, on the same pictures."""

import json

import numpy as np
import pytest
from slow_decode import overlap


def matched(ours, theirs):
    """How many of their detections one of ours is, each once: the same class, IoU above 0.99, and
    score within 0.005."""
    left, count = list(ours), 0
    for b in theirs:
        a = next(
            (
                a
                for a in left
                if a["class"] == b["class"]
                and abs(a["score"] - b["score"]) <= 0.005
                and overlap(a["box"], b["box"]) >= 0.99
            ),
            None,
        )
        if a:
            left.remove(a)
            count += 1
    return count


@pytest.mark.parametrize("whose", ["demo", "coco"])
def test_same_boxes_as_yolov5(whose, request, rkyolo):
    if whose == "demo":
        model = request.getfixturevalue("demo") / "shapes.pt"
        folder = request.getfixturevalue("data") / "demo"
        pictures = folder / "val" / "images"
    else:
        folder = request.getfixturevalue("shared") / "images"
        model, pictures = folder.parent / "wild" / "jinyutong-yolov5n.pt", folder
    reference = json.loads((folder / "reference.json").read_text())
    asked = [f"--{key}={reference[key]}" for key in ("size", "score", "iou")]
    files = [pictures / entry["image"] for entry in reference["images"]]
    done = rkyolo("detect", model, *files, *asked, "--backend=onnxruntime", "--json=-")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(reference["images"]) >= 20
    total = 0
    for line, entry in zip(lines, reference["images"], strict=True):
        assert line["source"].endswith(entry["image"])
        assert (line["width"], line["height"]) == (entry["width"], entry["height"])
        assert len(line["detections"]) == len(entry["detections"])
        for a in line["detections"]:
            assert 0 <= a["box"][0] <= a["box"][2] <= line["width"]
            assert 0 <= a["box"][1] <= a["box"][3] <= line["height"]
        total += len(entry["detections"])
    hits = np.sum(
        [
            matched(line["detections"], entry["detections"])
            for line, entry in zip(lines, reference["images"], strict=True)
        ]
    )
    assert hits / total >= 0.995
