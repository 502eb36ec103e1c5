"""The golden ONNX files as other exporters, options and tools would have written them."""

import itertools

import numpy as np
import onnx
import onnx_variants as variants
import pytest
from onnx_variants import BARE, DECODING

from convert.source import read_source

ALL = (*DECODING, *BARE)
STATIC = tuple(name for name in ALL if "dyn" not in name)


def cases(*rows):
    """(change, name) for every change and golden file it can be made to."""
    return pytest.mark.parametrize(
        ("change", "name"),
        [pytest.param(change, name, id=f"{key}-{name}") for key, change, ok in rows for name in ok],
    )


@cases(
    ("opset-9", lambda model: variants.at_opset(model, 9), STATIC),
    ("opset-11", lambda model: variants.at_opset(model, 11), ALL),
    ("opset-17", lambda model: variants.at_opset(model, 17), ALL),
    ("opset-18", lambda model: variants.at_opset(model, 18), ALL),
    ("opset-20", lambda model: variants.at_opset(model, 20), ALL),
    ("half-weights", lambda model: variants.half(model, io=False), ALL),
    ("half-inputs-and-outputs", lambda model: variants.half(model, io=True), ALL),
    ("half-unsorted", lambda model: variants.half(model, io=False, unsorted=True), ALL),
    ("onnxsim", variants.simplified, ALL),
    ("constants-as-initializers", variants.constants_as_initializers, ALL),
    ("constants-as-nodes", variants.constants_as_nodes, ALL),
    ("weights-as-inputs", variants.weights_as_inputs, ALL),
    ("open-batch", variants.with_open_batch, ALL),
    ("shuffled", variants.shuffled, ALL),
    ("heads-reversed", variants.with_heads_reversed, DECODING),
    ("raw-outputs-too", variants.with_raw_outputs, DECODING),
)
def test_the_same_graph_written_otherwise(change, name, golden, write, check):
    truth = golden(name)
    check(write(change(truth.model)), truth, truth.heads, truth.decodes)


@cases(
    ("logits", lambda truth: variants.cut_at(truth.model, truth.heads), ALL),
    ("sigmoids", lambda truth: variants.sigmoids_at(truth.model, truth.heads), ALL),
    (
        "joined-rows",
        lambda truth: variants.rows_at(truth.model, truth.heads, truth.anchors_px.shape[1]),
        ALL,
    ),
    (
        "joined-rows-reversed",
        lambda truth: variants.rows_at(truth.model, truth.heads[::-1], truth.anchors_px.shape[1]),
        ALL,
    ),
    (
        "rows-each",
        lambda truth: variants.rows_at(truth.model, truth.heads, truth.anchors_px.shape[1], False),
        ALL,
    ),
    (
        "rows-without-batch",
        lambda truth: variants.rows_at(
            truth.model, truth.heads, truth.anchors_px.shape[1], batch=False
        ),
        ALL,
    ),
    (
        "channels-last",
        lambda truth: variants.turned_at(truth.model, truth.heads, [0, 2, 3, 1]),
        ALL,
    ),
    (
        "channels-parted",
        lambda truth: variants.reshaped_at(
            truth.model,
            truth.heads,
            [(1, truth.anchors_px.shape[1], -1, *m.shape[1:]) for m in truth.maps],
        ),
        ALL,
    ),
    (
        "cells-in-a-row",
        lambda truth: variants.reshaped_at(
            truth.model, truth.heads, [(1, len(m), -1) for m in truth.maps]
        ),
        ALL,
    ),
)
def test_a_graph_that_ends_before_its_decode(change, name, golden, write, check):
    truth = golden(name)
    check(write(change(truth)), truth, truth.heads, False)


@pytest.mark.parametrize("name", [*BARE, "torch1.13_v70_op12", "torch2.13_v70_v3tiny"])
def test_outputs_in_every_order(name, golden, write, check):
    truth = golden(name)
    model = truth.model if name in BARE else variants.with_raw_outputs(truth.model)
    orders = variants.output_orders(model)
    assert len(orders) in (6, 24)
    for changed in orders:
        check(write(changed), truth, truth.heads, truth.decodes)


@pytest.mark.parametrize("name", ALL)
def test_outputs_in_every_order_as_bare_logits(name, golden, write, check):
    truth = golden(name)
    for heads in itertools.permutations(truth.heads):
        check(write(variants.cut_at(truth.model, list(heads))), truth, truth.heads, False)


@pytest.mark.parametrize("name", ALL)
def test_all_tensors_are_numbers(name, golden, write, check):
    truth = golden(name)
    model, number = variants.numbered(truth.model)
    check(write(model), truth, [number(head) for head in truth.heads], truth.decodes)


@pytest.mark.parametrize("name", ALL)
def test_names_that_the_deploy_graph_uses_itself(name, golden, write, check):
    """The coarsest head is called as the finest will be, and a tensor as the input."""
    truth = golden(name)
    model = truth.model
    first = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    change = {model.graph.input[0].name: "picture", first: "images"}
    change[truth.heads[-1]] = f"head0_stride{truth.strides[0]}"
    for node in model.graph.node:
        node.input[:] = [change.get(n, n) for n in node.input]
        node.output[:] = [change.get(n, n) for n in node.output]
    model.graph.input[0].name = "picture"
    check(write(model), truth, [change.get(head, head) for head in truth.heads], truth.decodes)


@pytest.mark.parametrize("name", ["torch1.13_v70_op12", "torch1.13_v31_s"])
@pytest.mark.parametrize("one_file", [True, False])
def test_weights_in_files_beside_it(name, one_file, golden, tmp_path, check):
    truth = golden(name)
    path = tmp_path / "model.onnx"
    onnx.save_model(
        truth.model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        location="weights.bin" if one_file else None,
        size_threshold=0,
        convert_attribute=True,
    )
    assert path.stat().st_size < truth.path.stat().st_size / 2
    check(path, truth, truth.heads, truth.decodes)


def test_a_folder_that_is_a_link_is_a_folder(golden, tmp_path, check):
    truth = golden("torch1.13_v70_op12")
    real = tmp_path / "real"
    real.mkdir()
    onnx.save_model(
        truth.model, real / "model.onnx", save_as_external_data=True, location="weights.bin"
    )
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "model.onnx").symlink_to(real / "model.onnx")
    check(tmp_path / "link" / "model.onnx", truth, truth.heads, True)
    check(tmp_path / "model.onnx", truth, truth.heads, True)


def test_metadata_survives_the_deploy_graph_only_as_facts(golden):
    truth = golden("torch1.13_v70_op12")
    source = read_source(truth.path, None)
    model = source.graph(source.facts("none"))
    assert [item.key for item in model.metadata_props] == ["rkyolo"]
    assert model.producer_name == "rkyolo"
    assert [value.name for value in model.graph.input] == ["images"]


def test_a_source_is_not_changed_by_its_deploy_graph(golden, converted):
    source = read_source(golden("torch1.13_v70_op12").path, None)
    before = source.onnx.model.SerializeToString()
    picture = np.zeros((1, 96, 128, 3), np.uint8)
    first = converted(source, picture, "sigmoid")
    again = converted(source, picture, "sigmoid")
    assert source.onnx.model.SerializeToString() == before
    assert first[0] == again[0]
    for a, b in zip(first[2], again[2], strict=True):
        np.testing.assert_array_equal(a, b)
