"""Golden ONNX files with one thing changed, and what becomes of each.

Run as a program, it prints a line of JSON for each: GOLDEN_FOLDER SCRATCH_FOLDER FIRST LAST.
"""

import json
import random
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_variants
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from peak import peak_bytes

from convert.heads.proof import prove
from convert.heads.run import one_process, run_graph
from convert.heads.source import onnx_deploy_graph, onnx_facts, read_onnx
from convert.source import given_anchors
from runtime.errors import UserError

Mutation = Callable[[onnx.ModelProto, random.Random, Path], onnx.ModelProto | bytes]
MUTATIONS: list[Mutation] = []


def mutation(function: Mutation) -> Mutation:
    """In the table: changes a model in place, or gives another, or the bytes of a file."""
    MUTATIONS.append(function)
    return function


@mutation
def drop_node(model, rng, folder):
    del model.graph.node[rng.randrange(len(model.graph.node))]
    return model


@mutation
def bypass_node(model, rng, folder):
    node = model.graph.node.pop(rng.randrange(len(model.graph.node)))
    if node.input:
        _rewire(model, node.output[0], node.input[0])
    return model


@mutation
def drop_tail_node(model, rng, folder):
    node = model.graph.node.pop(len(model.graph.node) - 1 - rng.randrange(30))
    if node.input and rng.random() < 0.7:
        _rewire(model, node.output[0], node.input[0])
    return model


@mutation
def swap_inputs(model, rng, folder):
    node = rng.choice([n for n in model.graph.node if len(n.input) > 1])
    a, b = rng.sample(range(len(node.input)), 2)
    node.input[a], node.input[b] = node.input[b], node.input[a]
    return model


@mutation
def swap_tail_inputs(model, rng, folder):
    node = rng.choice([n for n in list(model.graph.node)[-60:] if len(n.input) > 1])
    a, b = rng.sample(range(len(node.input)), 2)
    node.input[a], node.input[b] = node.input[b], node.input[a]
    return model


@mutation
def take_another_input(model, rng, folder):
    names = [name for node in model.graph.node for name in node.output]
    node = rng.choice([n for n in model.graph.node if n.input])
    node.input[rng.randrange(len(node.input))] = rng.choice(names)
    return model


@mutation
def drop_input(model, rng, folder):
    node = rng.choice([n for n in model.graph.node if n.input])
    if rng.random() < 0.5:
        del node.input[rng.randrange(len(node.input))]
    else:
        node.input[rng.randrange(len(node.input))] = ""
    return model


@mutation
def rename_everywhere(model, rng, folder):
    names = [name for node in model.graph.node for name in node.output]
    old = rng.choice(names)
    new = rng.choice(["", "images", "head0_stride8", "\x1b[31m", "a" * 5000, "../../x", "ü"])
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    return model


@mutation
def rename_once(model, rng, folder):
    node = rng.choice(model.graph.node)
    names = node.output if rng.random() < 0.5 or not node.input else node.input
    names[rng.randrange(len(names))] = "other"
    return model


@mutation
def number_all(model, rng, folder):
    return onnx_variants.numbered(model)[0]


@mutation
def shuffle_nodes(model, rng, folder):
    return onnx_variants.shuffled(model, rng.randrange(1000))


@mutation
def repeat_node(model, rng, folder):
    node = rng.choice(model.graph.node)
    copy = model.graph.node.add()
    copy.CopyFrom(node)
    if rng.random() < 0.5:
        copy.output[0] += "_again"
    return model


@mutation
def change_operation(model, rng, folder):
    kinds = sorted({node.op_type for node in model.graph.node})
    more = ["Tanh", "Relu", "Softmax", "Identity", "ConvTranspose", "Flatten", "NonZero", "Unique"]
    more += ["Loop", "If", "Shape", "Size", "GlobalAveragePool", "Tile", "NoSuchOperation"]
    rng.choice(model.graph.node).op_type = rng.choice(kinds + more)
    return model


@mutation
def change_input_shape(model, rng, folder):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[rng.randrange(4)].dim_value = rng.choice([-1, 0, 1, 2, 3, 4, 31, 64, 8192, 2**31, 2**62])
    return model


@mutation
def change_input_rank(model, rng, folder):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if rng.random() < 0.5:
        del dims[rng.randrange(4)]
    else:
        dims.add().dim_value = 1
    return model


@mutation
def change_output_shape(model, rng, folder):
    dims = rng.choice(model.graph.output).type.tensor_type.shape.dim
    dims[rng.randrange(len(dims))].dim_value = rng.choice([-1, 0, 1, 7, 2**40])
    return model


@mutation
def change_type(model, rng, folder):
    value = rng.choice([*model.graph.input, *model.graph.output])
    value.type.tensor_type.elem_type = rng.choice([0, 2, 6, 7, 8, 9, 10, 11, 16, 99])
    return model


@mutation
def change_weight_shape(model, rng, folder):
    tensor = rng.choice(_tensors(model))
    dims = list(tensor.dims) or [1]
    place = rng.randrange(len(dims))
    dims[place] = rng.choice([0, 1, -1, dims[place] + 1, dims[place] * 2, 2**31, 2**62])
    tensor.dims[:] = rng.choice([dims, dims[::-1], dims[1:], [1, *dims]])
    return model


@mutation
def change_weight_type(model, rng, folder):
    rng.choice(_tensors(model)).data_type = rng.choice([0, 2, 6, 7, 8, 9, 10, 11, 16, 99])
    return model


@mutation
def change_weight_data(model, rng, folder):
    tensor = rng.choice(_tensors(model))
    data = bytearray(tensor.raw_data)
    for _ in range(rng.randrange(1, 4)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    tensor.raw_data = bytes(data[: rng.choice([len(data), len(data), len(data) - 1, 0])])
    return model


@mutation
def change_tail_constant(model, rng, folder):
    """Anchors, strides, grids, powers, shapes of the decode: or where there is none, any."""
    small = [tensor for tensor in _tensors(model) if 0 < len(tensor.raw_data) <= 8192]
    tensor = rng.choice(small[-40:])
    array = numpy_helper.to_array(tensor).copy()
    if array.dtype == np.float32:
        factor = rng.choice([-1, 0, 0.5, 0.99, 1.01, 2, 1e30, np.inf, np.nan])
        with np.errstate(all="ignore"):
            array *= np.float32(factor)
    elif array.dtype != bool:
        place = rng.randrange(array.size)
        array.flat[place] = rng.choice([-1, 0, 1, 2, 3, 5, 85, 10**6, -(2**63), 2**62])
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@mutation
def swap_tail_constants(model, rng, folder):
    small = [tensor for tensor in _tensors(model) if 0 < len(tensor.raw_data) <= 8192]
    a, b = rng.sample(small[-40:], 2)
    a_array, b_array = numpy_helper.to_array(a), numpy_helper.to_array(b)
    names = a.name, b.name
    a.CopyFrom(numpy_helper.from_array(b_array, names[0]))
    b.CopyFrom(numpy_helper.from_array(a_array, names[1]))
    return model


@mutation
def scale_anchors(model, rng, folder):
    """Other anchors, which must be found as they are then."""
    pairs = [
        tensor for tensor in _tensors(model) if tensor.dims[:2] == [1, 3] and len(tensor.dims) > 3
    ]
    if pairs:
        tensor = rng.choice(pairs)
        array = numpy_helper.to_array(tensor) * np.float32(rng.uniform(0.2, 5))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@mutation
def change_attribute(model, rng, folder):
    attribute = rng.choice([a for n in model.graph.node for a in n.attribute])
    _change(attribute, rng)
    return model


@mutation
def change_tail_attribute(model, rng, folder):
    nodes = list(model.graph.node)[-60:]
    attributes = [a for n in nodes for a in n.attribute if a.type != AttributeProto.TENSOR]
    if attributes:
        _change(rng.choice(attributes), rng)
    return model


@mutation
def rename_attribute(model, rng, folder):
    attribute = rng.choice([a for n in model.graph.node for a in n.attribute])
    attribute.name = rng.choice(["", "axis", "value_ints", "value_string", "sparse_value", "to"])
    return model


@mutation
def drop_attribute(model, rng, folder):
    node = rng.choice([n for n in model.graph.node if n.attribute])
    del node.attribute[rng.randrange(len(node.attribute))]
    return model


@mutation
def nest_graph(model, rng, folder):
    graph = onnx_variants.copied(model).graph
    node = rng.choice(model.graph.node)
    node.attribute.add(name="body", type=AttributeProto.GRAPH).g.CopyFrom(graph)
    return model


@mutation
def repeat_output(model, rng, folder):
    value = rng.choice(model.graph.output)
    model.graph.output.add().CopyFrom(value)
    return model


@mutation
def reorder_outputs(model, rng, folder):
    outputs = list(model.graph.output)
    rng.shuffle(outputs)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model


@mutation
def drop_output(model, rng, folder):
    del model.graph.output[rng.randrange(len(model.graph.output))]
    return model


@mutation
def add_output(model, rng, folder):
    name = rng.choice([name for node in model.graph.node for name in node.output])
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


@mutation
def add_input(model, rng, folder):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    return model


@mutation
def change_version(model, rng, folder):
    if rng.random() < 0.5:
        model.opset_import[0].version = rng.choice([0, 1, 6, 9, 10, 11, 13, 18, 21, 99, -1])
    else:
        model.ir_version = rng.choice([0, 1, 3, 8, 10, 99])
    return model


@mutation
def change_metadata(model, rng, folder):
    texts = [
        "{[]: 1}",
        "[" * 5000,
        "-" * 5000 + "1",
        "[1, 2]",
        "{0: 'a'}",
        "['\x1b[31m']",
        "9" * 9000,
    ]
    key = rng.choice(["names", "names", "stride", "rkyolo"])
    model.metadata_props.add(key=key, value=rng.choice(texts))
    return model


@mutation
def truncate(model, rng, folder):
    data = model.SerializeToString()
    return data[: rng.randrange(len(data))]


@mutation
def flip_bytes(model, rng, folder):
    data = bytearray(model.SerializeToString())
    for _ in range(rng.choice([1, 1, 10, 100])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@mutation
def flip_structure_bytes(model, rng, folder):
    """Bytes that are no weights."""
    data = bytearray(model.SerializeToString())
    text = [i for i in range(len(data)) if 32 <= data[i] < 127]
    data[rng.choice(text)] = rng.choice([0, 10, 255, 128, 65, 8])
    return bytes(data)


@mutation
def insert_bytes(model, rng, folder):
    data = model.SerializeToString()
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.randrange(1, 20)) + data[place:]


@mutation
def move_weights_outside(model, rng, folder):
    (folder / "weights.bin").write_bytes(rng.randbytes(4096))
    (folder.parent / "outside.bin").write_bytes(rng.randbytes(4096))
    link = folder / "link.bin"
    link.unlink(missing_ok=True)
    link.symlink_to(rng.choice(["../outside.bin", "link.bin", "/dev/zero", "weights.bin"]))
    places = ["weights.bin", "weights.bin", "../outside.bin", "/etc/passwd", "link.bin", "", "."]
    places += ["..", "a\0b", "a" * 5000, "/dev/zero", "/proc/self/mem", "missing.bin", "sub/x"]
    tensor = rng.choice(_tensors(model))
    facts = {"location": rng.choice(places)}
    facts["length"] = rng.choice([str(len(tensor.raw_data)), "-1", "10" * 20, "x", "", "99999999"])
    facts["offset"] = rng.choice(["0", "0", "-1", "4090", "9" * 30, "0x10"])
    for key in rng.sample(sorted(facts), rng.randrange(1, 4)):
        tensor.external_data.add(key=key, value=facts[key])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return model


@mutation
def enlarge(model, rng, folder):
    """Something that makes a map, or the work on it, very large."""
    node = rng.choice([n for n in model.graph.node if n.op_type in ("Conv", "MaxPool")])
    value = rng.choice([50, 1000, 10**5, 2**31])
    name = rng.choice(["pads", "strides", "dilations", "kernel_shape", "group"])
    found = [a for a in node.attribute if a.name == name]
    if found and found[0].ints:
        found[0].ints[:] = [value] * len(found[0].ints)
    elif found:
        found[0].i = value
    return model


@mutation
def insert_expand(model, rng, folder):
    node = rng.choice(model.graph.node)
    sizes = rng.choice([[4], [50, 1, 1, 1], [1, 1, 1000, 1000, 1, 1], [10**6, 1, 1, 1], [2**40]])
    model.graph.initializer.append(numpy_helper.from_array(np.array(sizes), "sizes"))
    old, node.output[0] = node.output[0], node.output[0] + "_small"
    model.graph.node.append(helper.make_node("Expand", [node.output[0], "sizes"], [old]))
    return model


def _change(attribute: AttributeProto, rng: random.Random) -> None:
    numbers = [-1, 0, 1, 2, 3, 4, 7, 1000, 2**31, -(2**63), 2**63 - 1]
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(numbers)
    elif attribute.floats:
        attribute.floats[0] = rng.choice([-1, 0, 1e30, float("nan")])
    elif attribute.type == AttributeProto.STRING:
        attribute.s = rng.choice([b"", b"linear", b"cubic", b"SAME_UPPER", b"\xff"])
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = rng.choice([-1, 0, 0.5, 1e30, float("nan"), float("inf")])
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice(numbers)
    else:
        attribute.type = rng.choice([0, 1, 2, 3, 5, 6, 7])


def _rewire(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    nodes = [a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute]
    return [*model.graph.initializer, *nodes]


def outcome(path: Path, wh: tuple[int, int], given: str, picture: np.ndarray) -> tuple[str, str]:
    """(how it ended, more on it). given: anchors where the graph has none."""
    fixed = None if onnx_variants.has_fixed_size(path) else wh
    try:
        source = read_onnx(path, fixed)
        if source.anchors is None:
            source = read_onnx(path, fixed, *given_anchors(given))
        facts = onnx_facts(source, "none")
        graph = onnx_deploy_graph(source, facts).SerializeToString()
        size = facts.input.wh
        shown = np.zeros((1, size[1], size[0], facts.input.channels), np.uint8)
        height, width = min(size[1], wh[1]), min(size[0], wh[0])
        shown[:, :height, :width] = picture[:, :height, :width, : facts.input.channels]
        proof = prove(source, facts, graph, shown)
    except UserError as error:
        return "refused", str(error).replace(str(path), "FILE")
    return proof.compared, _against_the_file(path, source, shown)


def _against_the_file(path: Path, source: object, picture: np.ndarray) -> str:
    """The graph as it was taken up, against the file run as it is. Raises AssertionError."""
    values = picture.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    try:
        expected = run_graph(path.read_bytes(), {source.input_name: values}, "the file itself")
    except UserError as error:
        return str(error)
    for name, value in run_graph(source.model, {source.input_name: values}, path).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)
    return "same as the file"


def main(folder: Path, scratch: Path, first: int, last: int) -> None:
    warnings.simplefilter("error")
    entries = json.loads((folder / "onnx" / "heads.json").read_text())
    (scratch / "inner").mkdir(parents=True)
    for i in range(first, last):
        print(json.dumps(_one(i, entries, folder, scratch)), flush=True)


def _one(i: int, entries: dict, folder: Path, scratch: Path) -> dict:
    """Make the mutation of this number, and say how it ended, how long it took and what memory."""
    name = sorted(entries)[i % len(entries)]
    change = MUTATIONS[i // len(entries) % len(MUTATIONS)]
    truth = np.load(folder / "checkpoints" / f"{entries[name]['checkpoint']}.npz")
    picture = truth["image"].transpose(1, 2, 0)[None]
    given, path = scratch / "anchors.txt", scratch / "inner" / "mutated.onnx"
    given.write_text(" ".join(map(str, truth["anchors"].ravel())))
    model = change(onnx.load(folder / "onnx" / f"{name}.onnx"), random.Random(i), path.parent)
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    start = time.monotonic()
    try:
        with one_process():
            ended, more = outcome(path, picture.shape[2:0:-1], str(given), picture)
    except Exception:  # what is looked for; the test shows it
        ended, more = "crashed", traceback.format_exc()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "number": i,
        "file": name,
        "change": change.__name__,
        "ended": ended,
        "more": more,
        "seconds": time.monotonic() - start,
        "peak_mb": max(peak_bytes(), 1024 * children.ru_maxrss) >> 20,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
