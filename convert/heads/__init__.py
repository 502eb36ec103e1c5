"""Any YOLOv5 ONNX: its heads by structure, its anchors from its own decode, and the proof."""

from convert.heads.source import OnnxSource, read_onnx

__all__ = ["OnnxSource", "read_onnx"]
