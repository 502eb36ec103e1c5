"""Networks saved by YOLOv5's own releases give what those releases' code gave."""

import numpy as np
import onnx
import onnxsim
import pytest
from conftest import DATA
from full_grid import full_grid
from run_graph import picture_of, run_graph

from convert.checkpoint import read_checkpoint
from convert.network import deploy_graph, facts_for
from convert.network.deploy import METADATA_KEY
from runtime.errors import UserError
from runtime.manifest import Facts

CHECKPOINTS = sorted((DATA / "golden" / "checkpoints").glob("*.pt"))
DETECTORS = [path for path in CHECKPOINTS if path.stem != "v70_seg"]

named = pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)


def golden(path):
    with np.load(path.with_suffix(".npz")) as file:
        return dict(file)


def heads_of(reference):
    return [reference[f"head{i}"] for i in range(len(reference["stride"]))]


def size_of(reference):
    height, width = reference["image"].shape[1:]
    return width, height


def built(path, activation="none"):
    """(reference, facts, graph) at the reference's size."""
    reference, checkpoint = golden(path), read_checkpoint(path)
    facts = facts_for(checkpoint, size_of(reference), activation)
    return reference, facts, deploy_graph(checkpoint, facts)


def test_there_are_golden_checkpoints_of_every_release():
    assert {path.stem[:3] for path in DETECTORS} == {"v31", "v40", "v50", "v60", "v62", "v70"}


@named
def test_head_maps_are_the_releases_own(path):
    reference, facts, graph = built(path)
    maps = run_graph(graph, picture_of(reference["image"]))
    assert len(maps) == len(facts.heads) == len(heads_of(reference))
    for i, (found, expected) in enumerate(zip(maps, heads_of(reference), strict=True)):
        assert found.shape == facts.head_shape(i)
        np.testing.assert_allclose(found[0], expected, atol=1e-3, rtol=0)


@named
def test_anchors_and_strides_are_what_the_release_decodes_with(path):
    reference, checkpoint = golden(path), read_checkpoint(path)
    assert checkpoint.anchors.strides == tuple(reference["stride"].tolist())
    for head, expected in zip(checkpoint.anchors.heads, reference["anchors"], strict=True):
        np.testing.assert_allclose(head.wh_px, expected, rtol=1e-6, atol=0)


@named
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_the_full_grid_decode_is_the_releases_own(path, activation):
    reference, facts, graph = built(path, activation)
    decoded = full_grid(run_graph(graph, picture_of(reference["image"])), facts)
    np.testing.assert_allclose(decoded[:, :4], reference["decoded"][:, :4], atol=1e-2, rtol=0)
    np.testing.assert_allclose(decoded[:, 4:], reference["decoded"][:, 4:], atol=1e-4, rtol=0)


@named
def test_sigmoid_heads_are_the_sigmoid_of_the_logits(path):
    reference, _, graph = built(path, "sigmoid")
    maps = run_graph(graph, picture_of(reference["image"]))
    for found, logits in zip(maps, heads_of(reference), strict=True):
        np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-logits)), atol=1e-5, rtol=0)


@named
def test_onnxsim_keeps_the_head_maps_and_the_facts(path):
    reference, facts, graph = built(path)
    simplified, same = onnxsim.simplify(graph, check_n=1)
    assert same
    maps = run_graph(simplified, picture_of(reference["image"]))
    for found, expected in zip(maps, heads_of(reference), strict=True):
        np.testing.assert_allclose(found[0], expected, atol=1e-3, rtol=0)
    assert facts_in(simplified) == facts


def facts_in(graph):
    (text,) = (item.value for item in graph.metadata_props if item.key == METADATA_KEY)
    return Facts.from_json(text, "the graph")


@named
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_the_facts_come_back_from_the_metadata(path, activation):
    reference, facts, graph = built(path, activation)
    onnx.checker.check_model(graph, full_check=True)
    again = facts_in(onnx.load_from_string(graph.SerializeToString()))
    assert again == facts
    assert again.input.wh == size_of(reference)
    assert again.classes == reference["decoded"].shape[1] - 5
    assert again.anchors == read_checkpoint(path).anchors


@named
@pytest.mark.parametrize("more_w, more_h", [(2, 1), (1, 3)], ids=["wide", "tall"])
def test_other_shapes_than_square_are_built(path, more_w, more_h):
    checkpoint = read_checkpoint(path)
    stride = checkpoint.anchors.largest_stride
    facts = facts_for(checkpoint, (stride * more_w, stride * more_h), "none")
    picture = np.zeros((1, checkpoint.input_channels, stride * more_h, stride * more_w), np.float32)
    maps = run_graph(deploy_graph(checkpoint, facts), picture)
    shapes = [facts.head_shape(i) for i in range(len(facts.heads))]
    assert [found.shape for found in maps] == shapes
    assert all(np.isfinite(found).all() for found in maps)


def test_the_unstripped_checkpoint_gives_its_ema():
    path = DATA / "golden" / "checkpoints" / "v60_unstripped.pt"
    assert read_checkpoint(path).ema


def test_a_segmentation_model_is_refused():
    with pytest.raises(UserError, match=r"v70_seg\.pt has a segmentation head .*detection models"):
        read_checkpoint(DATA / "golden" / "checkpoints" / "v70_seg.pt")
