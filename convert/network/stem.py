"""The first convolution of a deploy graph, rewritten for pictures whose pixels are folded by twos.

The NPU multiplies 32 input channels at a time, and a picture has three. A convolution of even
kernel, stride and padding is exactly one of half of each over blocks of 2 x 2 pixels as channels.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import UserError
from runtime.manifest import InputFacts

_PLAIN = {"group": 1, "dilations": [1, 1], "auto_pad": b"NOTSET"}


def fold_stem(model: onnx.ModelProto, facts: InputFacts) -> None:
    """Make a deploy graph, in place, take its picture as runtime.feed folds it. Handled: the 6x6
    convolution of stride 2 and padding 2 that YOLOv5 begins with from v6.0 on, and others of even
    kernel, stride and padding, like what a Focus becomes. Raises UserError for any other beginning.
    """
    graph, picture = model.graph, model.graph.input[0]
    node = _first(graph, picture.name)
    weight = next((t for t in graph.initializer if t.name == node.input[1]), None)
    if weight is None or weight.data_type != TensorProto.FLOAT:
        raise _refused("its weights are no constant")
    sizes = _even(node, list(weight.dims))
    folded = numpy_helper.from_array(
        _folded(numpy_helper.to_array(weight)), f"{weight.name}_folded"
    )
    graph.initializer.append(folded)
    node.input[1] = folded.name
    if not any(weight.name in other.input for other in graph.node):
        graph.initializer.remove(weight)
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in sizes.items())
    _, height, width, channels = facts.shape
    shape = [1, channels, height, width]
    picture.CopyFrom(helper.make_tensor_value_info(picture.name, TensorProto.FLOAT, shape))


def _first(graph: onnx.GraphProto, picture: str) -> onnx.NodeProto:
    users = [node for node in graph.node if picture in node.input]
    if len(users) != 1 or users[0].op_type != "Conv":
        kinds = ", ".join(sorted({node.op_type for node in users}))
        raise _refused(f"it begins with {kinds}")
    return users[0]


def _even(node: onnx.NodeProto, dims: list[int]) -> dict[str, list[int]]:
    """The attributes of the rewritten convolution."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    stride, pads = list(given.get("strides", [1, 1])), list(given.get("pads", [0, 0, 0, 0]))
    plain = all(given.get(name, value) == value for name, value in _PLAIN.items())
    if not plain or any(n % 2 for n in (*dims[2:], *stride, *pads)):
        kernel, by = ("x".join(map(str, size)) for size in (dims[2:], stride))
        raise _refused(
            f"it begins with a {kernel} convolution of stride {by} and padding"
            f" {','.join(map(str, pads))}{'' if plain else ' with groups or dilation'}"
        )
    sizes = {"kernel_shape": dims[2:], "strides": stride, "pads": pads}
    return {name: [n // 2 for n in numbers] for name, numbers in sizes.items()}


def _folded(weight: np.ndarray) -> np.ndarray:
    """(out, c, 2h, 2w) as (out, 4c, h, w), the channels in runtime.feed's order."""
    out, channels, height, width = weight.shape
    blocks = weight.reshape(out, channels, height // 2, 2, width // 2, 2)
    return np.ascontiguousarray(
        blocks.transpose(0, 3, 5, 1, 2, 4).reshape(out, 4 * channels, height // 2, width // 2)
    )


def _refused(why: str) -> UserError:
    return UserError(
        f"{why}; --stem space-to-depth rewrites a first convolution of 6x6, stride 2 and padding 2"
        " (YOLOv5 v6.0 and later) or a checkpoint's Focus (before): leave --stem out"
    )
