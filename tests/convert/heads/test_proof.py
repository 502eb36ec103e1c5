"""The proof bites: with one fact or one place of the deploy graph changed, it fails."""

import copy

import numpy as np
import onnx
import onnx_networks as networks
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_variants import BARE, DECODING

from convert.source import read_source
from runtime.errors import UserError
from runtime.manifest import Facts


def plain(facts):
    return facts.model_dump(mode="json", include=set(Facts.model_fields))


def swap_two_anchors(facts):
    anchors = facts["heads"][0]["anchors_px"]
    anchors[0], anchors[1] = anchors[1], anchors[0]


def swap_width_and_height(facts):
    facts["heads"][-1]["anchors_px"][0].reverse()


def swap_anchors_of_two_heads(facts):
    a, b = facts["heads"][:2]
    a["anchors_px"], b["anchors_px"] = b["anchors_px"], a["anchors_px"]


def swap_two_outputs(facts):
    a, b = facts["heads"][:2]
    a["output"], b["output"] = b["output"], a["output"]


def other_activation(facts):
    facts["activation"] = "none" if facts["activation"] == "sigmoid" else "sigmoid"


def double_one_stride(facts):
    facts["heads"][0]["stride"] *= 2


def one_percent_of_one_anchor(facts):
    facts["heads"][-1]["anchors_px"][-1][1] *= 1.01


def stretch_all_anchors(facts):
    for head in facts["heads"]:
        head["anchors_px"] = [[1.01 * w, 1.01 * h] for w, h in head["anchors_px"]]


def anchors_for_classes(facts):
    """As many channels, parted otherwise: one anchor with all of them."""
    channels = len(facts["heads"][0]["anchors_px"]) * (5 + len(facts["class_names"]))
    for head in facts["heads"]:
        head["anchors_px"] = head["anchors_px"][:1]
    facts["class_names"] = [f"class{i}" for i in range(channels - 5)]


CHANGES = (
    swap_two_anchors,
    swap_width_and_height,
    swap_anchors_of_two_heads,
    swap_two_outputs,
    other_activation,
    double_one_stride,
    one_percent_of_one_anchor,
    stretch_all_anchors,
    anchors_for_classes,
)


@pytest.fixture
def proof_of(golden, tmp_path):
    """Proves a golden file with its facts, or its deploy graph, changed."""

    def go(name, activation, change_facts=None, change_graph=None, picture=None):
        truth = golden(name)
        text = tmp_path / "anchors.txt"
        text.write_text(truth.anchors_text())
        given = None if truth.decodes else str(text)
        source = read_source(truth.path, truth.open_wh, given)
        facts = source.facts(activation)
        model = source.graph(facts)
        if change_graph:
            change_graph(model, facts)
        if change_facts:
            changed = copy.deepcopy(plain(facts))
            change_facts(changed)
            facts = Facts.model_validate(changed)
        picture = truth.picture if picture is None else picture
        return source.prove(facts, model.SerializeToString(), picture)

    return go


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("name", DECODING)
def test_it_passes_on_any_picture(name, activation, proof_of, golden):
    rng = np.random.default_rng(0)
    shape = golden(name).picture.shape
    noise = rng.integers(0, 256, shape).astype(np.uint8)
    for picture in (golden(name).picture, noise, np.zeros(shape, np.uint8)):
        proof = proof_of(name, activation, picture=picture)
        assert proof.compared == "boxes"
        assert proof.largest_px < 1e-3
        assert proof.largest_value < 1e-6


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", DECODING)
def test_a_changed_fact_fails(name, change, activation, proof_of):
    with pytest.raises(UserError, match=r"the proof fails for .*; please report it"):
        proof_of(name, activation, change_facts=change)


@pytest.mark.parametrize(
    "change", [swap_two_outputs, other_activation, double_one_stride], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("name", BARE)
def test_a_changed_fact_fails_without_a_decode_too(name, activation, change, proof_of):
    with pytest.raises(UserError, match="the proof fails"):
        proof_of(name, activation, change_facts=change)


def classes_before_anchors(model, facts):
    """Channels of the first head in another order: number by number instead of anchor by anchor."""
    na, each = len(facts.heads[0].anchors_px), 5 + facts.classes
    shuffle_channels(model, facts, np.arange(na * each).reshape(na, each).T.ravel())


def swap_two_classes(model, facts):
    order = np.arange(facts.head_shape(0)[1])
    order[[5, 6]] = order[[6, 5]]
    shuffle_channels(model, facts, order)


def swap_x_and_y(model, facts):
    order = np.arange(facts.head_shape(0)[1])
    order[[0, 1]] = order[[1, 0]]
    shuffle_channels(model, facts, order)


def shuffle_channels(model, facts, order):
    name = facts.heads[0].output
    for node in model.graph.node:
        node.output[:] = [f"{n}_before" if n == name else n for n in node.output]
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    node = helper.make_node("Gather", [f"{name}_before", "order"], [name], axis=1)
    model.graph.node.append(node)


def one_weight(model, facts):
    bias = next(t for t in model.graph.initializer if t.name.endswith("m.0.bias"))
    array = numpy_helper.to_array(bias).copy()
    array[4] += 1
    bias.CopyFrom(numpy_helper.from_array(array, bias.name))


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize(
    "change", [classes_before_anchors, swap_two_classes, swap_x_and_y, one_weight]
)
@pytest.mark.parametrize("name", ["torch1.13_v62_s", "torch1.13_v70_op12"])
def test_a_changed_graph_fails(name, change, activation, proof_of):
    with pytest.raises(UserError, match="the proof fails"):
        proof_of(name, activation, change_graph=change)


@pytest.mark.parametrize("change", [classes_before_anchors, swap_x_and_y])
@pytest.mark.parametrize("name", ["sigmoid_heads_v62_s", "torch1.13_v31_s"])
def test_a_changed_graph_fails_without_a_decode_too(name, change, proof_of):
    with pytest.raises(UserError, match="head maps are off by up to"):
        proof_of(name, "none", change_graph=change)


def test_two_heads_of_one_stride_cannot_be_swapped(tmp_path):
    """Their maps have one shape, so only what is in them tells."""
    network = networks.Network(networks.split, strides=(16, 16, 32))
    path = tmp_path / "network.onnx"
    networks.export(network, path)
    source = read_source(path, None)
    facts = source.facts("none")
    graph = source.graph(facts).SerializeToString()
    picture = np.full((1, 64, 96, 3), 99, np.uint8)
    assert source.prove(facts, graph, picture).largest_px < 1e-3
    changed = plain(facts)
    swap_two_outputs(changed)
    with pytest.raises(UserError, match="boxes are off by up to"):
        source.prove(Facts.model_validate(changed), graph, picture)


@pytest.mark.parametrize("tail", [networks.split, networks.logits])
def test_what_is_not_a_number_is_not_equal(tail, tmp_path):
    """A network that works on every picture but a black one."""

    class Dividing(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 0 * x.mean().log()

    network = networks.Network(tail)
    network.stages[0] = Dividing(3, 8, 3, 2, 1)
    path = tmp_path / "network.onnx"
    networks.export(network, path)
    source = read_source(path, None, None if tail is networks.split else "coco-p5")
    facts = source.facts("none")
    graph = source.graph(facts).SerializeToString()
    grey, black = np.full((1, 64, 96, 3), 99, np.uint8), np.zeros((1, 64, 96, 3), np.uint8)
    assert source.prove(facts, graph, grey).largest_value < 1e-6
    with pytest.raises(UserError, match="the proof fails"):
        source.prove(facts, graph, black)


def test_the_message_says_how_far_off(proof_of):
    with pytest.raises(UserError, match=r"boxes are off by up to \d+\.?\d* pixels and scores by"):
        proof_of("torch1.13_v62_s", "none", change_facts=swap_two_anchors)


def test_a_deploy_graph_that_does_not_run(golden):
    source = read_source(golden("torch1.13_v62_s").path, None)
    facts = source.facts("none")
    model = source.graph(facts)
    del model.graph.node[3]
    with pytest.raises(UserError, match=r"graph cut from .* does not run"):
        source.prove(facts, model.SerializeToString(), golden("torch1.13_v62_s").picture)
    assert onnx.load(golden("torch1.13_v62_s").path) == golden("torch1.13_v62_s").model
