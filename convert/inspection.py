"""What a checkpoint or an ONNX file is, for runtime's table of inspectors."""

from pathlib import Path
from typing import Any

from convert.checkpoint import read_checkpoint
from convert.heads import read_onnx
from runtime.inspection import describe


def inspect_checkpoint(path: Path) -> dict[str, Any]:
    """Plain data about a checkpoint. Raises UserError for one that cannot be converted."""
    checkpoint = read_checkpoint(path)
    weights = sum(
        array.size
        for layer in checkpoint.layers
        for _, module in layer.module.walk()
        for array in module.parameters.values()
    )
    weights += sum(
        array.size for conv in checkpoint.head.convs for array in conv.parameters.values()
    )
    return describe(
        "checkpoint", checkpoint.anchors, checkpoint.class_names, checkpoint.input_channels
    ) | {
        "sha256": checkpoint.sha256,
        "looks_like": f"YOLOv5 {checkpoint.looks_like}",
        "weights": "EMA" if checkpoint.ema else "model",
        "precision": "fp16" if checkpoint.half else "fp32",
        "layers": len(checkpoint.layers) + 1,
        "parameters": weights,
    }


def inspect_onnx(path: Path) -> dict[str, Any]:
    """Plain data about an ONNX whose heads are found; its anchors and names are None where it does
    not hold them. Raises UserError for one that is no YOLOv5."""
    source = read_onnx(path)
    heads = source.heads
    return describe("onnx", source.anchors, source.class_names, source.input_channels) | {
        "task": "detect",
        "strides": [head.stride for head in heads],
        "sha256": source.sha256,
        "looks_like": source.looks_like,
        "input_wh": list(source.wh) if source.fixed else None,
        "decodes": source.decodes,
        "outputs": [{"name": head.name, "shape": list(head.shape)} for head in heads],
    }
