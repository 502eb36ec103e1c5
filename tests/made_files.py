"""Compiled models and bundles made by hand, as small as they can be."""

import json
import struct

from runtime.manifest import (
    Agreement,
    CalibrationFacts,
    FileFacts,
    HeadAgreement,
    Manifest,
    SourceFacts,
    sha256_of,
)


def rknn_description(outputs=(("head0", (1, 18, 4, 4)),), target="rk3588", vx_type="int8"):
    """What a .rknn file says of itself in JSON, with the keys that matter and some that do not."""
    tensors = [
        {"tensor_id": i + 1, "url": name, "size": list(size), "dtype": {"vx_type": vx_type}}
        for i, (name, size) in enumerate(outputs)
    ]
    entries = [
        {"left": "output", "left_tensor_id": i, "right": "norm_tensor", "right_tensor_id": i + 1}
        for i in range(len(outputs))
    ]
    return {
        "target_platform": [target],
        "version": "2.5.0(compiler version: 2.5.0 (e1a2b3c4))",
        "norm_tensor": [{"tensor_id": 0, "url": "images", "size": [1, 3, 128, 128]}, *tensors],
        "graph": [{"left": "input", "right": "norm_tensor", "right_tensor_id": 0}, *entries],
        "nodes": [],
    }


def rknn_bytes(description=None, custom_string=None, version=6):
    """A .rknn file; description may be any JSON, or bytes to be put there as they are."""
    if description is None:
        description = rknn_description()
    if not isinstance(description, bytes):
        description = json.dumps(description).encode()
    body = b"\x07weights" * 20
    if custom_string is not None:
        text = custom_string.encode()
        body += struct.pack("<I", len(text)) + text + b"ranges and such"
    header = struct.pack("<4s4xQQ", b"RKNN", version, len(body))
    header = header if version == 1 else header.ljust(64, b"\0")
    return header + body + struct.pack("<Q", len(description)) + description


def rknn_of(facts):
    """The .rknn file of a model with these facts."""
    outputs = [(head.output, facts.head_shape(i)) for i, head in enumerate(facts.heads)]
    return rknn_bytes(rknn_description(outputs), facts.to_custom_string())


def manifest_of(facts, files, **changes):
    """A manifest for files {name: bytes}."""
    agreement = Agreement(
        pictures=6,
        float_detections=20,
        built_detections=19,
        matched=19,
        f1=0.974,
        mean_iou=0.95,
        score_shift=-0.01,
        heads=(HeadAgreement(output="head0", cosine=0.99, worst_group="box", worst_cosine=0.98),),
    )
    values = {
        "precision": "int8",
        "target": "rk3588",
        "algorithm": "normal",
        "source": SourceFacts(file="best.pt", sha256="a" * 64, looks_like="YOLOv5 v7.0"),
        "calibration": CalibrationFacts(pictures=6, digest="b" * 64),
        "tools": {"rkyolo": "0.1.0"},
        "agreement": agreement,
        "warnings": ("only 6 calibration pictures",),
        "files": {
            name: FileFacts(sha256=sha256_of(data), size=len(data)) for name, data in files.items()
        },
    }
    return Manifest(**facts.model_dump(), **values | changes)


def write_bundle(folder, facts, **changes):
    """A bundle whose graph is no graph, but whole and right otherwise. Gives the folder."""
    files = {
        "model.rknn": rknn_of(facts),
        "model.onnx": b"a graph",
        "quantization/ranges.json": b"{}",
    }
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "manifest.yaml").write_text(manifest_of(facts, files, **changes).to_yaml(), "utf-8")
    return folder
