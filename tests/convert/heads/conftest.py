"""The golden ONNX files, and what must be found in each."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from convert.heads.run import one_process, run_graph
from convert.source import GraphSource, read_source

# these tests' own modules, as setup.cfg has it for those of all tests
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module", autouse=True)
def shared_process():
    """One process for all graphs of a file, since starting one takes longer than the graphs."""
    with one_process():
        yield


@dataclass(frozen=True)
class Golden:
    """A golden ONNX file: its head tensors, the finest grid first, and what it computes."""

    name: str
    path: Path
    heads: list[str]
    picture: np.ndarray  # uint8 (1, h, w, 3)
    maps: list[np.ndarray]  # logits (channels, ny, nx) a head
    anchors_px: np.ndarray  # (heads, na, 2)
    strides: tuple[int, ...]
    checkpoint: Path | None  # the .pt it was exported from

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.load(self.path)

    @property
    def decodes(self) -> bool:
        return self.name.split("_")[1] not in ("names", "heads", "v31", "v50")

    @property
    def wh(self) -> tuple[int, int]:
        return self.picture.shape[2], self.picture.shape[1]

    @property
    def open_wh(self) -> tuple[int, int] | None:
        """What has to be said of the size."""
        return self.wh if "dyn" in self.name else None

    def anchors_text(self) -> str:
        """As the vendor's demo has them."""
        return "\n".join(map(str, self.anchors_px.ravel()))


@pytest.fixture
def golden(data):
    """Gives the golden file of a name."""

    def of(name: str) -> Golden:
        folder = data / "golden"
        entry = json.loads((folder / "onnx" / "heads.json").read_text())[name]
        truth = np.load(folder / "checkpoints" / f"{entry['checkpoint']}.npz")
        checkpoint = folder / "checkpoints" / f"{entry['checkpoint']}.pt"
        return Golden(
            name=name,
            path=folder / "onnx" / f"{name}.onnx",
            heads=entry["heads"],
            picture=truth["image"].transpose(1, 2, 0)[None],
            maps=[truth[f"head{i}"] for i in range(len(entry["heads"]))],
            anchors_px=truth["anchors"],
            strides=tuple(truth["stride"].tolist()),
            checkpoint=checkpoint if checkpoint.exists() else None,
        )

    return of


@pytest.fixture
def write(tmp_path):
    """Writes a model, or any bytes, as a file and gives its path."""

    def to_file(model: onnx.ModelProto | bytes, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return path

    return to_file


@pytest.fixture
def converted():
    """Takes an ONNX from file to head maps as convert does: converted(source, picture, activation)
    gives the facts, the proof, and the head maps of the deploy graph by its own outputs' order."""

    def go(source: GraphSource, picture: np.ndarray, activation: str = "none"):
        facts = source.facts(activation)
        model = source.graph(facts)
        onnx.checker.check_model(model, full_check=True)
        graph = model.SerializeToString()
        proof = source.prove(facts, graph, picture)
        values = picture.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        maps = run_graph(graph, {"images": values}, "deploy graph")
        return facts, proof, [maps[head.output][0] for head in facts.heads]

    return go


@pytest.fixture
def check(converted, tmp_path):
    """Reads a file that computes what a golden one does, and compares everything with the truth."""

    def go(
        path: Path, truth: Golden, heads: Sequence[str], decodes: bool, atol: float = 1e-3
    ) -> None:
        source = read_source(path, truth.open_wh)
        assert [head.name for head in source.onnx.heads] == list(heads)
        assert source.onnx.found_anchors == decodes
        if not decodes:
            text = tmp_path / "anchors.txt"
            text.write_text(truth.anchors_text())
            source = read_source(path, truth.open_wh, str(text))
        for activation in ("none", "sigmoid"):
            facts, proof, maps = converted(source, truth.picture, activation)
            assert facts.input.wh == truth.wh
            assert facts.anchors.strides == truth.strides
            found = np.stack([head.wh_px for head in facts.anchors.heads])
            np.testing.assert_allclose(found, truth.anchors_px, rtol=1e-4)
            assert proof.compared == ("boxes" if decodes else "head maps")
            assert (proof.largest_px or 0) < 1e-3
            assert proof.largest_value < 1e-5
            assert proof.count == sum(m.size for m in truth.maps) // (
                5 + facts.classes if decodes else 1
            )
            for ours, logits in zip(maps, truth.maps, strict=True):
                expected = logits if activation == "none" else 1 / (1 + np.exp(-logits))
                np.testing.assert_allclose(ours, expected, rtol=0, atol=atol)

    return go
