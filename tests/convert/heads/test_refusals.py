"""What is no YOLOv5 detection graph, or is damaged, and what is said of it."""

import os
import re

import numpy as np
import onnx
import onnx_networks as networks
import onnx_variants as variants
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from convert.heads.load import load_graph
from convert.source import read_source
from runtime.errors import UserError

NAME = "torch1.13_v70_op12"


@pytest.fixture
def model(golden):
    """A golden model that decodes, to be spoilt."""
    return golden(NAME).model


@pytest.fixture
def refused(write):
    """Writes what it is given, and gives what is said of it; the path must be in it."""

    def go(spoilt, anchors=None):
        path = write(spoilt)
        with pytest.raises(UserError) as caught:
            read_source(path, None, anchors)
        assert str(path) in str(caught.value)
        assert str(caught.value).isprintable()
        return str(caught.value)

    return go


@pytest.fixture
def exported(tmp_path):
    """The bytes of an exported network."""

    def go(network, opset=12):
        path = tmp_path / "exported.onnx"
        networks.export(network, path, opset)
        return path.read_bytes()

    return go


# other kinds of model


def test_segmentation_is_known_by_its_masks(data, refused):
    whole = (data / "golden" / "onnx" / "torch1.13_v70_seg.onnx").read_bytes()
    message = refused(whole)
    assert "from 8 on are no class scores but a segmentation model's mask coefficients" in message


def test_segmentation_is_known_by_its_prototypes(data, refused):
    model = onnx.load(data / "golden" / "onnx" / "torch1.13_v70_seg.onnx")
    outputs = list(model.graph.output)[::-1]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    assert re.search("'output1' .*is no head but a map beside them", refused(model))


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        pytest.param(networks.landmarks, "from 5 on are no class scores but landmarks", id="marks"),
        pytest.param(networks.exponential, "centres .* older formula", id="before-yolov5"),
        pytest.param(networks.exponential_sizes, "sizes .* not YOLOv5's", id="sizes-of-before"),
        pytest.param(networks.corners, "centres .* are not YOLOv5's", id="corners"),
    ],
)
def test_another_decode(tail, message, refused, exported):
    assert re.search(message, refused(exported(networks.Network(tail, classes=6))))


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "the-vendors-nine-outputs"])
def test_an_anchor_free_model(joined, refused, exported):
    message = refused(exported(networks.DistributionHead(joined=joined)))
    assert "it looks anchor-free (YOLOv8 or later)" in message


@pytest.mark.parametrize("kind", ["NonMaxSuppression", "EfficientNMS_TRT"])
def test_suppression_inside_names_the_tensors_to_cut_at(kind, golden, model, refused):
    model.graph.node.append(helper.make_node(kind, ["output0", "output0"], ["kept"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("kept", TensorProto.INT64, None))
    message = refused(model)
    assert f"has non-maximum suppression inside ({kind})" in message
    assert f"cut it at {', '.join(golden(NAME).heads)}" in message


def test_a_quantized_model(model, refused):
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    model.graph.initializer.append(scale)
    model.graph.node.append(helper.make_node("QuantizeLinear", ["images", "scale"], ["q"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "scale"], ["dq"]))
    conv.input[0] = "dq"
    message = refused(model)
    assert "is quantized already (DequantizeLinear, QuantizeLinear): give the float" in message


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan", "SequenceMap"])
def test_control_flow(kind, model, refused):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node(kind, ["output0"], ["after"], body=body))
    assert "has control flow or functions inside" in refused(model)


def test_functions(model, refused):
    opset = helper.make_opsetid("", 12)
    model.functions.append(helper.make_function("own", "Act", ["x"], ["y"], [], [opset]))
    assert "has control flow or functions inside" in refused(model)


def test_operations_of_others(model, refused):
    model.graph.node[-1].domain = "com.microsoft"
    assert "has operations of 'com.microsoft'" in refused(model)


def test_an_operation_nobody_knows(model, refused):
    model.graph.node[-1].op_type = "YoloLayer_TRT"
    assert "does not run in ONNX Runtime" in refused(model)


def test_an_opset_nobody_knows(model, refused):
    model.opset_import[0].version = 99
    assert "does not run in ONNX Runtime" in refused(model)


def test_sparse_weights(model, refused):
    values = helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("places", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, places, [4])
    model.graph.sparse_initializer.append(sparse)
    assert "has sparse weights inside" in refused(model)


# inputs and outputs


def with_input(model, shape, kind=TensorProto.FLOAT):
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", kind, shape))
    return model


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        pytest.param([1, 96, 128, 3], TensorProto.FLOAT, "takes .*of type FLOAT, not", id="nhwc"),
        pytest.param([1, 3, 96, 128], TensorProto.UINT8, "of type UINT8, not float", id="uint8"),
        pytest.param([1, 3, 96, 128], 99, "of type unknown, not float", id="no-type"),
        pytest.param([1, 12, 48, 64], TensorProto.FLOAT, r"takes \[1, 12, 48, 64\]", id="focus"),
        pytest.param([3, 96, 128], TensorProto.FLOAT, r"takes \[3, 96, 128\]", id="no-batch"),
        pytest.param([8, 3, 96, 128], TensorProto.FLOAT, "batches of 8: .*--batch-size 1", id="8"),
        pytest.param([1, 3, 96, 20000], TensorProto.FLOAT, "96x20000, .* out of range", id="large"),
        pytest.param([1, 3, "h", 20000], TensorProto.FLOAT, "out of range", id="large-and-open"),
    ],
)
def test_another_input(shape, kind, message, model, refused):
    assert re.search(message, refused(with_input(model, shape, kind)))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        pytest.param("Div", [], id="by-255"),
        pytest.param("Mul", [1], id="by-a-255th"),
        pytest.param("Sub", [1, 3, 1, 1], id="less-a-mean"),
    ],
)
@pytest.mark.parametrize("name", [NAME, "torch1.13_v50_s"])
def test_preprocessing_inside(name, kind, shape, golden, refused):
    """Also before a Focus, which only rearranges."""
    model = golden(name).model
    for node in model.graph.node:
        node.input[:] = ["scaled" if n == "images" else n for n in node.input]
    scale = numpy_helper.from_array(np.full(shape, 255, np.float32), "scale")
    model.graph.initializer.append(scale)
    model.graph.node.append(helper.make_node("Identity", ["images"], ["same"]))
    model.graph.node.append(helper.make_node(kind, ["same", "scale"], ["scaled"]))
    message = refused(model)
    assert f"calculates with its picture before any convolution ({kind})" in message


def test_two_inputs(model, refused):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    assert "has 2 inputs, not one picture" in refused(model)


def test_a_size_that_heads_do_not_divide(refused, exported):
    network = networks.Network(networks.logits, strides=(8,), wh=(100, 96))
    assert "is 12x13 for a picture of 96x100, which is no whole stride" in refused(
        exported(network)
    )


def test_half_of_the_size_open(model, write):
    path = write(with_input(model, [1, 3, 96, "width"]))
    assert read_source(path, (128, 96)).onnx.wh == (128, 96)
    with pytest.raises(UserError, match="takes pictures of 96xany"):
        read_source(path, (128, 128))


def test_no_convolution(refused):
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Sigmoid", ["images"], ["output"])]
    graph = helper.make_graph(nodes, "graph", [picture], [output])
    message = refused(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)]))
    assert "has no convolution behind its outputs" in message


def test_a_classifier(refused, exported):
    def pooled(network, maps):
        return maps[0].mean((2, 3))

    message = refused(exported(networks.Network(pooled, strides=(32,))))
    assert re.search(r"row 0 on, output .* is neither a head nor its decode", message)


def test_an_output_of_another_rank(refused, exported):
    def flat(network, maps):
        return maps[0].reshape(-1)[1:]

    message = refused(exported(networks.Network(flat, strides=(32,))))
    assert re.search(r"has shape \(161,\), unlike YOLOv5's", message)


def test_too_few_numbers_a_row(refused, exported):
    def boxes(network, maps):
        return networks.split(network, maps)[..., :4].contiguous()

    message = refused(exported(networks.Network(boxes)))
    assert "has 4 numbers a row, unlike YOLOv5's" in message


def test_a_head_that_no_output_shows(refused, exported):
    def two_of_three(network, maps):
        return maps[0], maps[1] + 0 * maps[2].sum()

    assert "no output shows what becomes of" in refused(exported(networks.Network(two_of_three)))


def test_a_head_that_is_not_decoded(refused, exported):
    def one_raw(network, maps):
        return networks.split(network, maps), maps[2]

    def without_the_last(network, maps):
        network.strides, strides = network.strides[:2], network.strides
        network.anchors_px, anchors_px = network.anchors_px[:2], network.anchors_px
        decoded = networks.split(network, maps[:2])
        network.strides, network.anchors_px = strides, anchors_px
        return decoded, maps[2]

    exported(networks.Network(one_raw))
    message = refused(exported(networks.Network(without_the_last)))
    assert "decodes only 2 of its 3 heads" in message


# damage


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "it has no graph", id="empty"),
        pytest.param(b"# YOLOv5 by Ultralytics\nnames: [a]\n", "damaged or no ONNX", id="text"),
        pytest.param(b"\x08\x07", "it has no graph", id="a-version-alone"),
        pytest.param(b"PK\x03\x04" + bytes(99), "damaged or no ONNX", id="zip"),
        pytest.param(b"<html>404</html>", "damaged or no ONNX", id="html"),
    ],
)
def test_no_onnx(content, message, refused):
    assert message in refused(content)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9, 0.99])
def test_truncated(part, golden, refused):
    whole = golden(NAME).path.read_bytes()
    assert "damaged" in refused(whole[: int(len(whole) * part)])


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.onnx: No such file"):
        read_source(tmp_path / "none.onnx", None)


def test_a_folder(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*folder\.onnx: Is a directory"):
        read_source(tmp_path / "folder.onnx", None)


def test_larger_than_any_onnx(tmp_path):
    path = tmp_path / "large.onnx"
    path.touch()
    os.truncate(path, 2**31)
    with pytest.raises(UserError, match="larger than the 2 GB"):
        read_source(path, None)


def test_names_that_are_no_text(golden, refused):
    whole = golden(NAME).path.read_bytes()
    assert "a name in it is no text" in refused(whole.replace(b"Sigmoid", b"\xffigmoid"))


def test_a_tensor_that_nothing_gives(model, refused):
    del model.graph.node[0]
    assert re.search("nothing gives the tensor '.*'", refused(model))


def test_nodes_in_a_circle(model, refused):
    model.graph.node[0].input[0] = model.graph.node[5].output[0]
    assert "nothing gives the tensor" in refused(model)


def test_twenty_thousand_nodes_in_reverse(write):
    """In time that grows with their number."""
    nodes = [helper.make_node("Relu", [f"{i}"], [f"{i + 1}"]) for i in range(20_000)][::-1]
    picture = helper.make_tensor_value_info("0", TensorProto.FLOAT, [1, 3, 32, 32])
    output = helper.make_tensor_value_info("20000", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [picture], [output])
    loaded = load_graph(write(helper.make_model(graph)))
    assert [node.input[0] for node in loaded.model.graph.node] == [str(i) for i in range(20_000)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value, model, refused):
    for tensor in model.graph.initializer:
        if tensor.name == "model.0.conv.bias":
            array = np.full(tensor.dims, value, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert "is not finite: weights are NaN, infinite or damaged" in refused(model)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, -1])
def test_anchors_that_are_no_sizes(value, model, refused):
    model = variants.constants_as_initializers(model)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 5 and (array > 1).all():
            array = np.full_like(array, value)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert "the sizes in 'output0' are not YOLOv5's (2 sigmoid)^2 x anchor" in refused(model)


def test_weights_of_another_size_than_they_say(model, refused):
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weight.dims[3] += 1
    assert "does not run in ONNX Runtime" in refused(model)


def test_a_half_precision_weight_of_another_size_than_it_says(model, refused):
    halved = variants.half(model, io=False)
    halved.graph.initializer[0].dims[0] += 1
    assert "a constant of it cannot be read" in refused(halved)


def test_a_bias_that_is_too_short(model, refused):
    """ONNX Runtime reads on behind its end."""
    for tensor in model.graph.initializer:
        if tensor.name == "model.24.m.0.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32), tensor.name))
    assert "bias 'model.24.m.0.bias' has another size" in refused(model)


@pytest.mark.parametrize("name", ["value_string", "sparse_value", "other"])
def test_a_constant_of_another_kind(name, model, refused):
    constant = next(node for node in model.graph.node if node.op_type == "Constant")
    constant.attribute[0].name = name
    assert "a constant of it cannot be read" in refused(model)


def test_control_characters_are_not_repeated(model, refused):
    for node in model.graph.node:
        node.input[:] = [n.replace("/model.24", "\x1b[31m") for n in node.input]
        node.output[:] = [n.replace("/model.24", "\x1b[31m") for n in node.output]
    model.producer_name = "\x1b[31m"
    model.graph.node[-1].op_type = "\x1b[2J"
    refused(model)


def test_the_name_of_its_producer_is_shown_without_control_characters(model, write):
    model.producer_name = "\x1b[31m" + 500 * "x"
    shown = read_source(write(model), None).looks_like
    assert shown.startswith("ONNX by ?[31mxxx")
    assert len(shown) == 200


# weights in other files


@pytest.fixture
def outside(model, tmp_path):
    """Gives a model whose first weight lies in a file, by these facts."""
    folder = tmp_path / "models"
    folder.mkdir()
    weight = model.graph.initializer[0]
    size = len(weight.raw_data)
    (folder / "weights.bin").write_bytes(weight.raw_data)
    (tmp_path / "secret.bin").write_bytes(weight.raw_data)
    (folder / "link.bin").symlink_to("../secret.bin")
    (folder / "circle.bin").symlink_to("circle.bin")
    (folder / "inner").mkdir()
    (folder / "inner" / "weights.bin").write_bytes(weight.raw_data)
    os.mkfifo(folder / "pipe.bin")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL

    def go(**facts):
        facts = {"length": size, "folder": folder} | facts
        for key in facts.keys() - {"folder"}:
            value = str(facts[key]).replace("FOLDER", str(tmp_path))
            weight.external_data.add(key=key, value=value)
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return go


def test_weights_beside_it(outside):
    assert read_source(outside(location="weights.bin"), None).onnx.wh == (128, 96)


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("../secret.bin", id="above"),
        pytest.param("FOLDER/secret.bin", id="absolute"),
        pytest.param("/etc/passwd", id="another-folder"),
        pytest.param("/dev/zero", id="without-end"),
        pytest.param("link.bin", id="a-link-out"),
        pytest.param("circle.bin", id="a-link-to-itself"),
        pytest.param("inner/weights.bin", id="below"),
        pytest.param("inner/../../secret.bin", id="below-and-above"),
        pytest.param("missing.bin", id="missing"),
        pytest.param("pipe.bin", id="a-pipe"),
        pytest.param("inner", id="a-folder"),
        pytest.param(".", id="its-own-folder"),
        pytest.param("", id="empty"),
        pytest.param("a\0b", id="no-name"),
        pytest.param("a" * 5000, id="too-long"),
        pytest.param("\x1b[31m", id="control-characters"),
    ],
)
def test_weights_in_another_place(location, outside):
    with pytest.raises(UserError, match="which is no file beside it: copy both") as caught:
        read_source(outside(location=location), None)
    assert str(caught.value).isprintable()


def test_weights_without_a_place(outside):
    with pytest.raises(UserError, match="keeps weights in '', which is no file beside it"):
        read_source(outside(), None)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"length": 10**9}, id="longer-than-the-file"),
        pytest.param({"offset": 1}, id="begins-late"),
        pytest.param({"offset": 10**9}, id="begins-behind-the-end"),
        pytest.param({"offset": -1}, id="begins-before"),
        pytest.param({"length": -1}, id="negative"),
        pytest.param({"length": "all"}, id="no-number"),
        pytest.param({"offset": "9" * 5000}, id="a-number-too-long"),
    ],
)
def test_weights_that_their_file_does_not_hold(facts, outside):
    with pytest.raises(UserError, match=r"weights\.bin does not hold the weights that"):
        read_source(outside(location="weights.bin", **facts), None)


def test_one_file_for_very_many_weights(outside):
    path = outside(location="weights.bin")
    os.truncate(path.parent / "weights.bin", 2**29)
    model = onnx.load(path, load_external_data=False)
    del model.graph.initializer[0].external_data[:]
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    for tensor in list(model.graph.initializer)[1:6]:
        tensor.CopyFrom(model.graph.initializer[0])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="keeps more than the 2 GB of weights"):
        read_source(path, None)


def test_weights_that_are_too_short(outside):
    path = outside(location="weights.bin", length=4)
    with pytest.raises(UserError, match="does not run in ONNX Runtime"):
        read_source(path, None)


# anchors that do not fit


def test_anchors_that_disagree_are_both_shown(golden, refused):
    truth = golden(NAME)
    message = refused(truth.model, "coco-p5")
    assert "stride 8: 4.12891x6.83984 7.64844x4.80859 11.3828x6.12891;" in message
    assert "--anchors says (stride 8: 10x13 16x30 33x23; stride 16: 30x61 62x45" in message
    assert "leave --anchors out, or give the right model" in message


def test_the_checkpoint_of_another_model(golden, refused, data):
    other = data / "golden" / "checkpoints" / "v62_s.pt"
    assert "and --anchors says" in refused(golden(NAME).model, str(other))


def test_anchors_for_other_strides(golden, refused):
    message = refused(golden("torch1.13_v50_s").model, "coco-p6")
    assert "has heads of strides (8, 16, 32), and the anchors are for (8, 16, 32, 64)" in message


def test_anchors_of_a_decode_for_other_strides(golden, refused):
    assert "and --anchors says" in refused(golden(NAME).model, "coco-p6")


def test_anchors_of_another_number(golden, refused, data):
    """Four a head: 27 channels are no four times 5 + classes."""
    other = data / "golden" / "checkpoints" / "v70_na4.pt"
    truth = golden("torch1.13_v31_s")
    message = refused(variants.cut_at(truth.model, truth.heads), str(other))
    assert "has heads of 27, 27, 27 channels, which the anchors do not divide into" in message


def test_anchors_of_another_number_and_names(golden, refused, data):
    """Four a head, and 36 channels: four times 5 + 4 classes, were there not three names."""
    other = data / "golden" / "checkpoints" / "v70_na4.pt"
    message = refused(golden("sigmoid_heads_v62_s").model, str(other))
    assert "has 4 classes, and --anchors names 3" in message


def test_anchors_of_another_number_that_rows_tell(golden, refused, tmp_path):
    """Rows of 6 numbers are one class and three anchors, whatever else 18 may be divided into."""
    text = tmp_path / "anchors.txt"
    text.write_text(" ".join(map(str, range(1, 13))))
    message = refused(golden("torch1.13_v50_s").model, str(text))
    assert "they belong to another model" in message


def test_anchors_of_another_number_that_names_tell(golden, refused, tmp_path):
    """Without rows, 36 channels may be two anchors and 13 classes; the file knows its names."""
    model = golden("sigmoid_heads_v62_s").model
    text = tmp_path / "anchors.txt"
    text.write_text(" ".join(map(str, range(1, 13))))
    model.metadata_props.add(key="names", value=str([f"name{i}" for i in range(7)]))
    message = refused(model, str(text))
    assert "has heads for 13 classes with these anchors, and names 7" in message


def test_names_of_another_model(golden, refused, data):
    """v50_s has one class, and v70_leaky three."""
    other = data / "golden" / "checkpoints" / "v70_n.pt"
    message = refused(golden("torch1.13_v50_s").model, str(other))
    assert "they belong to another model" in message or "--anchors names 3" in message


def test_anchors_for_a_checkpoint(golden):
    checkpoint = golden(NAME).checkpoint
    with pytest.raises(UserError, match="holds its own anchors: leave --anchors out"):
        read_source(checkpoint, None, "coco-p5")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{[]: 1}", id="unhashable"),
        pytest.param("[" * 5000, id="deep"),
        pytest.param("-" * 5000 + "1", id="deep-too"),
        pytest.param("9" * 9000, id="a-long-number"),
        pytest.param("[1, 2, 3]", id="numbers"),
        pytest.param("{5: 'a'}", id="a-gap"),
        pytest.param("['a', 'b']", id="too-few"),
        pytest.param("__import__('os')", id="code"),
        pytest.param("", id="empty"),
    ],
)
def test_names_that_are_none_are_left_out(text, model, write):
    del model.metadata_props[:]
    model.metadata_props.add(key="names", value=text)
    facts = read_source(write(model), None).facts("none")
    assert facts.class_names == ("class0", "class1", "class2")


def test_names_are_shown_without_control_characters(model, write):
    del model.metadata_props[:]
    model.metadata_props.add(key="names", value=repr(["\x1b[31m", "b" * 500, "猫"]))
    facts = read_source(write(model), None).facts("none")
    assert facts.class_names == ("?[31m", "b" * 200, "猫")


def test_metadata_that_is_no_text_is_left_out(golden, write):
    whole = golden(NAME).path.read_bytes().replace(b"class_0", b"class_\xff")
    assert read_source(write(whole), None).facts("none").class_names[0] == "class0"


@pytest.mark.parametrize("text", ["{}", "no json", '{"rkyolo": 1}', '{"rkyolo": 2}'])
def test_our_own_metadata_spoilt(text, golden, refused):
    model = variants.cut_at(golden(NAME).model, golden(NAME).heads)
    model.metadata_props.add(key="rkyolo", value=text)
    refused(model)


def test_one_channel_models_keep_their_channel(exported, write):
    network = networks.Network(networks.split, channels=1)
    with torch.no_grad():
        source = read_source(write(exported(network)), None)
    assert source.facts("none").input.channels == 1
