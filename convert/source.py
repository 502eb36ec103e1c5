"""What the user gives, a checkpoint or an ONNX, as one thing: facts, a deploy graph, a proof."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
from pydantic import ValidationError

from anchors import PRESETS, Anchors
from anchors.formats import from_rk_text, from_yaml
from convert.checkpoint import Checkpoint, read_checkpoint
from convert.heads.proof import prove
from convert.heads.source import (
    DEFAULT_WH,
    AnchorsOf,
    OnnxSource,
    onnx_deploy_graph,
    onnx_facts,
    read_onnx,
)
from convert.network import deploy_graph, facts_for
from convert.network.split import split_heads
from convert.network.stem import fold_stem
from runtime.errors import UserError
from runtime.manifest import Activation, Facts, Outputs, Proof, Stem


class Source(Protocol):
    """A YOLOv5 network from a file."""

    path: Path
    sha256: str
    looks_like: str

    def facts(self, activation: Activation) -> Facts:
        """The decode facts of its deploy graph. Raises UserError where they are not all known."""

    def graph(self, facts: Facts) -> onnx.ModelProto:
        """Its deploy graph under those facts. Raises UserError."""

    def prove(self, facts: Facts, graph: bytes, picture: np.ndarray) -> Proof | None:
        """That the graph and the runtime's decode give what the file itself gives, on a picture
        uint8 (1, h, w, c). None for a checkpoint, which runs nothing. Raises UserError."""


@dataclass(eq=False)
class CheckpointSource:
    """A checkpoint; its graph is built layer by layer, and can be built once."""

    checkpoint: Checkpoint | None
    wh: tuple[int, int]

    def __post_init__(self) -> None:
        self.path, self.sha256 = self.checkpoint.path, self.checkpoint.sha256
        self.looks_like = f"YOLOv5 {self.checkpoint.looks_like}"

    def facts(self, activation: Activation) -> Facts:
        return facts_for(self.checkpoint, self.wh, activation)

    def graph(self, facts: Facts) -> onnx.ModelProto:
        graph = deploy_graph(self.checkpoint, facts)
        self.checkpoint = None  # the largest thing there is, and no longer needed
        return graph

    def prove(self, facts: Facts, graph: bytes, picture: np.ndarray) -> Proof | None:
        return None


@dataclass(eq=False)
class GraphSource:
    """An ONNX file; its graph is a cut of its own."""

    onnx: OnnxSource

    def __post_init__(self) -> None:
        self.path, self.sha256 = self.onnx.path, self.onnx.sha256
        self.looks_like = self.onnx.looks_like

    def facts(self, activation: Activation) -> Facts:
        return onnx_facts(self.onnx, activation)

    def graph(self, facts: Facts) -> onnx.ModelProto:
        return onnx_deploy_graph(self.onnx, facts)

    def prove(self, facts: Facts, graph: bytes, picture: np.ndarray) -> Proof | None:
        return prove(self.onnx, facts, graph, picture)


def chosen_facts(
    source: Source, activation: Activation, stem: Stem = "none", outputs: Outputs = "one"
) -> Facts:
    """The decode facts of a source's deploy graph in the form a user chose. Raises UserError."""
    facts = source.facts(activation)
    plain = facts.model_dump() | {"outputs": outputs}
    plain["input"]["stem"] = stem
    try:
        return Facts(**plain)
    except ValidationError as error:
        raise UserError(f"{source.path}: --stem {stem} needs an even --size") from error


def chosen_graph(source: Source, facts: Facts) -> onnx.ModelProto:
    """A source's deploy graph in the form its chosen facts say. Raises UserError."""
    graph = source.graph(facts)
    try:
        if facts.input.stem != "none":
            fold_stem(graph, facts.input)
        if facts.outputs == "split":
            split_heads(graph, facts)
    except UserError as error:
        raise UserError(f"{source.path}: {error}") from error
    return graph


def read_source(path: Path, wh: tuple[int, int] | None, anchors: str | None = None) -> Source:
    """Read a .pt or an .onnx. wh: input (width, height), None for the file's own or 640 x 640.
    anchors: see given_anchors; only for an ONNX, since a checkpoint holds its own. Raises
    UserError.
    """
    if path.suffix.lower() in (".pt", ".pth"):
        if anchors is not None:
            raise UserError(f"{path} holds its own anchors: leave --anchors out")
        return CheckpointSource(read_checkpoint(path), wh or DEFAULT_WH)
    if path.suffix.lower() == ".onnx":
        anchors_of, names = given_anchors(anchors) if anchors else (None, None)
        return GraphSource(read_onnx(path, wh, anchors_of, names))
    if not path.exists():
        raise UserError(f"{path} does not exist")
    raise UserError(f"{path} is no model to convert: give a .pt or an .onnx")


def given_anchors(text: str) -> tuple[AnchorsOf, tuple[str, ...] | None]:
    """Anchors that a user gives: a preset's name, or a file, which is the .pt the model was made
    from, a yaml, or the vendor's RK_anchors.txt; and class names, where the file has them.

    Raises UserError, at once or once the strides are known.
    """
    if text in PRESETS:
        return (lambda strides: PRESETS[text]), None
    path = Path(text)
    if path.suffix.lower() in (".pt", ".pth"):
        checkpoint = read_checkpoint(path)
        return (lambda strides: checkpoint.anchors), checkpoint.class_names
    readers = {".yaml": from_yaml, ".yml": from_yaml, ".txt": from_rk_text}
    if path.suffix.lower() not in readers:
        raise UserError(
            f"--anchors {text} is neither a preset ({', '.join(PRESETS)}) nor a .pt, .yaml or .txt"
        )
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} as text") from error

    def read(strides: tuple[int, ...]) -> Anchors:
        try:
            return readers[path.suffix.lower()](content, strides)
        except (ValueError, OverflowError) as error:
            raise UserError(f"{path} holds no anchors for strides {strides}: {error}") from error

    return read, None
