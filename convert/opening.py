"""Checkpoints and ONNX files as models that can run at once, for runtime's table of openers."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from convert.checkpoint import read_checkpoint
from convert.export import export
from convert.network.deploy import METADATA_KEY
from runtime.errors import UserError
from runtime.manifest import Facts
from runtime.model import Model

DEFAULT_WH = (640, 640)


def open_checkpoint(path: Path, wh: tuple[int, int] | None) -> Model:
    """A checkpoint, exported in memory. Raises UserError."""
    facts, graph = export(read_checkpoint(path), wh or DEFAULT_WH, "none", simplify=False)
    return Model(path=path, facts=facts, onnx=graph)


def open_onnx(path: Path, wh: tuple[int, int] | None) -> Model:
    """A deploy graph that rkyolo wrote, by the facts in its metadata. Raises UserError for other
    files, and for another size than the graph's."""
    try:
        data = path.read_bytes()
        graph = onnx.load_model_from_string(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise UserError(f"{path} is damaged or no ONNX file") from error
    text = next((item.value for item in graph.metadata_props if item.key == METADATA_KEY), None)
    if text is None:
        raise UserError(
            f"{path} was not written by rkyolo, so its anchors are not known: give the .pt"
        )
    facts = Facts.from_json(text, str(path))
    if wh is not None and wh != facts.input.wh:
        width, height = facts.input.wh
        raise UserError(
            f"{path} takes pictures of {height}x{width} (height x width): leave --size out, or"
            " export again with another one"
        )
    return Model(path=path, facts=facts, onnx=data)
