"""Checkpoints and ONNX files as models that can run at once, for runtime's table of openers."""

from pathlib import Path

from convert.export import export
from convert.source import read_source
from runtime.model import Model


def open_source(path: Path, wh: tuple[int, int] | None, anchors: str | None) -> Model:
    """A .pt or .onnx, exported in memory. wh: the wanted input (width, height); anchors: see
    convert.source.given_anchors. Raises UserError."""
    facts, graph = export(read_source(path, wh, anchors), "none", simplify=False)
    return Model(path=path, facts=facts, onnx=graph)
