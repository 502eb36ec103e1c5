"""Networks exported by torch: every way to write YOLOv5's decode, every opset, every shape."""

import collections

import numpy as np
import onnx
import onnx_networks as networks
import pytest
import torch

from convert.source import read_source


@pytest.fixture
def check(tmp_path, converted):
    """Exports a network, reads it, and compares all that is found with the network itself."""

    def go(network, decodes, opset=12, wh=None, change=None):
        path = tmp_path / "network.onnx"
        networks.export(network, path, opset, sizes_open=wh is not None)
        if change:
            path.write_bytes(change(onnx.load(path)).SerializeToString())
        source = read_source(path, wh)
        assert source.onnx.found_anchors == decodes
        if not decodes:
            text = tmp_path / "anchors.txt"
            text.write_text(" ".join(map(str, network.anchors_px.numpy().ravel())))
            source = read_source(path, wh, str(text))
        width, height = wh or network.wh
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (1, height, width, network.channels)).astype(np.uint8)
        with torch.no_grad():
            expected = network.maps(torch.from_numpy(picture).permute(0, 3, 1, 2) / 255)
        for activation in ("none", "sigmoid"):
            facts, proof, maps = converted(source, picture, activation)
            assert facts.input.wh == (width, height)
            assert facts.input.channels == network.channels
            assert facts.classes == network.each - 5
            assert facts.anchors.strides == network.strides
            for head, wh_px in zip(facts.anchors.heads, network.anchors_px.numpy(), strict=True):
                np.testing.assert_allclose(head.wh_px, wh_px, rtol=1e-4)
            for ours, logits in zip(maps, expected, strict=True):
                logits = logits if activation == "none" else logits.sigmoid()
                np.testing.assert_allclose(ours, logits[0].numpy(), rtol=1e-4, atol=1e-4)
            assert proof.compared == ("boxes" if decodes else "head maps")
            assert (proof.largest_px or 0) < 1e-3
            assert proof.largest_value < 1e-5
        return collections.Counter(node.op_type for node in onnx.load(path).graph.node), proof

    return go


@pytest.mark.parametrize("opset", [9, 11, 12, 17, 18, 20])
@pytest.mark.parametrize("tail", [networks.split, networks.sliced])
def test_a_decode_at_every_opset(tail, opset, check):
    kinds, _ = check(networks.Network(tail), True, opset)
    assert kinds["Upsample" if opset < 10 else "Resize"] == 2
    assert kinds["Split" if tail is networks.split else "Slice"]


@pytest.mark.parametrize("opset", [11, 12, 17, 18, 20])
def test_a_decode_written_in_place_with_its_raw_maps(opset, check):
    """Assigning to slices does not export below opset 11."""
    kinds, _ = check(networks.Network(networks.written_in_place), True, opset)
    assert kinds["ScatterND"] == 6


@pytest.mark.parametrize("opset", [9, 12, 20])
@pytest.mark.parametrize(
    "tail",
    [
        networks.logits,
        networks.sigmoids,
        networks.five_d,
        networks.joined_logits,
        networks.joined_sigmoids_reversed,
    ],
)
def test_no_decode_at_any_opset(tail, opset, check):
    check(networks.Network(tail), False, opset)


@pytest.mark.parametrize(
    ("tail", "opset"),
    [
        # without Range the grid comes from NonZero
        pytest.param(networks.split, 9, id="split-9"),
        pytest.param(networks.split, 12, id="split-12"),
        pytest.param(networks.split, 20, id="split-20"),
        pytest.param(networks.sliced, 9, id="sliced-9"),
        pytest.param(networks.sliced, 17, id="sliced-17"),
        # torch calls the sizes of all raw maps by one name here
        pytest.param(networks.written_in_place, 12, id="in-place-12"),
        pytest.param(networks.written_in_place, 20, id="in-place-20"),
    ],
)
def test_a_decode_whose_size_is_open(tail, opset, check):
    check(networks.Network(tail), True, opset, wh=(160, 128))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({"strides": (32,)}, id="one-head"),
        pytest.param({"strides": (16, 32)}, id="two-heads"),
        pytest.param({"strides": (4, 8, 16, 32, 64), "wh": (128, 64)}, id="five-heads"),
        pytest.param({"strides": (8, 16, 32, 64, 128), "wh": (128, 256)}, id="five-up-to-128"),
        pytest.param({"na": 4}, id="four-anchors"),
        pytest.param({"na": 1}, id="one-anchor"),
        pytest.param({"classes": 1}, id="one-class"),
        pytest.param({"classes": 1, "na": 1, "strides": (32,)}, id="one-of-all"),
        pytest.param({"classes": 365}, id="many-classes"),
        pytest.param({"channels": 1}, id="grey"),
        pytest.param({"wh": (160, 32)}, id="a-row-of-cells"),
        pytest.param({"wh": (32, 160)}, id="a-column-of-cells"),
        pytest.param({"wh": (32, 32)}, id="a-cell"),
        pytest.param({"shared": True}, id="shared-weights"),
    ],
)
@pytest.mark.parametrize("tail", [networks.split, networks.five_d])
def test_every_shape(shape, tail, check):
    check(networks.Network(tail, **shape), tail is networks.split)


def test_parts_by_their_number(check):
    """From opset 18 a Split may say how many parts instead of their sizes."""

    def with_numbers(model):
        for node in model.graph.node:
            if node.op_type == "Split":
                del node.input[1:]
                node.attribute.append(onnx.helper.make_attribute("num_outputs", 3))
        return model

    # 2 + 2 + 2 numbers: objectness and one class are the third part
    check(networks.Network(networks.split, classes=1), True, 18, change=with_numbers)


def test_scores_that_underflow(check):
    """Where the objectness is nothing at all, ONNX Runtime's sigmoid is not."""
    network = networks.Network(networks.split)
    with torch.no_grad():
        network.convs[0].bias[4] = -200
        network.convs[1].bias[4 :: network.each] = -70
        network.convs[1].bias[5 :: network.each] = -60
        network.convs[2].weight *= 60
    _, proof = check(network, True)
    places = [12 * 8, 6 * 4, 3 * 2]
    assert 0 < proof.count < 2 * places[0] + 3 * sum(places[1:])
