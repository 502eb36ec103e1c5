"""The deploy graph with a decode put back behind its heads, for other runtimes than the NPU's."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.manifest import Facts

OUTPUT = "output0"
PLUGIN = "YoloLayer_TRT"
_PLUGIN_OUTPUTS = (
    ("DecodeNumDetection", TensorProto.INT32, ()),
    ("DecodeDetectionBoxes", TensorProto.FLOAT, (4,)),
    ("DecodeDetectionScores", TensorProto.FLOAT, ()),
    ("DecodeDetectionClasses", TensorProto.INT32, ()),
)


def with_decode(graph: onnx.ModelProto, facts: Facts) -> None:
    """End a deploy graph, in place, in one output (1, N, 5 + nc) as YOLOv5's own export: a row is
    x, y, w, h of a box in input pixels, objectness and class scores, head by head, anchor-major.

    The formula is runtime.decode's, with its constants multiplied out.
    """
    add = _Appender(graph)
    rows = [_decoded_rows(add, facts, i) for i in range(len(facts.heads))]
    add.node("Concat", rows, OUTPUT, axis=1)
    count = sum(np.prod(facts.head_shape(i)[1:]) for i in range(len(rows))) // (5 + facts.classes)
    shape = [1, int(count), 5 + facts.classes]
    _replace_outputs(graph, [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)])
    names = str(dict(enumerate(facts.class_names)))
    stride = str(facts.anchors.largest_stride)
    helper.set_model_props(graph, {"stride": stride, "names": names})


def with_plugin(graph: onnx.ModelProto, facts: Facts, score: float) -> None:
    """End a deploy graph with sigmoid heads, in place, in the one node of the TensorRT plugin
    YoloLayer_TRT, which decodes and drops boxes up to this score. N is the number of cells."""
    heads = [head.output for head in facts.heads]
    node = helper.make_node(
        PLUGIN,
        heads,
        [name for name, _, _ in _PLUGIN_OUTPUTS],
        name="YoloLayer",
        max_stride=facts.anchors.largest_stride,
        num_classes=facts.classes,
        anchors=[float(n) for head in facts.anchors.heads for n in head.wh_px.ravel()],
        prenms_score_threshold=float(score),
    )
    graph.graph.node.append(node)
    count = sum(int(np.prod(facts.head_shape(i)[1:])) for i in range(len(heads)))
    count //= 5 + facts.classes
    _replace_outputs(
        graph,
        [
            helper.make_tensor_value_info(name, kind, [1, 1 if i == 0 else count, *rest])
            for i, (name, kind, rest) in enumerate(_PLUGIN_OUTPUTS)
        ],
    )


class _Appender:
    """Appends nodes and constants to a graph under names of their own."""

    def __init__(self, model: onnx.ModelProto):
        self._graph = model.graph
        self._count = 0

    def node(self, op: str, inputs: list[str], name: str = "", **attributes: object) -> str:
        name = name or self._name(op)
        self._graph.node.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        name = self._name("constant")
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _name(self, what: str) -> str:
        self._count += 1
        return f"decode/{what}_{self._count}"


def _decoded_rows(add: _Appender, facts: Facts, index: int) -> str:
    """One head as rows (1, na * ny * nx, 5 + nc). 4-D throughout, which every runtime can."""
    head, (ny, nx) = facts.anchors.heads[index], facts.head_shape(index)[2:]
    na, each = len(head.wh_px), 5 + facts.classes
    q = facts.heads[index].output
    if facts.activation == "none":
        q = add.node("Sigmoid", [q])
    q = add.node("Reshape", [q, add.constant(np.array([1, na, each, ny * nx]))])
    q = add.node("Transpose", [q], perm=[0, 1, 3, 2])
    xy, wh, rest = (_columns(add, q, a, b) for a, b in ((0, 2), (2, 4), (4, each)))
    row, column = np.divmod(np.arange(ny * nx), nx)
    corner = (np.stack((column, row), 1) - 0.5) * head.stride
    xy = add.node("Mul", [xy, add.constant(np.float32([2 * head.stride]))])
    xy = add.node("Add", [xy, add.constant(corner[None, None].astype(np.float32))])
    wh = add.node("Mul", [wh, wh])
    wh = add.node("Mul", [wh, add.constant(4 * head.wh_px[None, :, None])])
    rows = add.node("Concat", [xy, wh, rest], axis=3)
    return add.node("Reshape", [rows, add.constant(np.array([1, na * ny * nx, each]))])


def _columns(add: _Appender, q: str, first: int, end: int) -> str:
    bounds = [add.constant(np.array([n])) for n in (first, end, 3)]
    return add.node("Slice", [q, *bounds])


def _replace_outputs(graph: onnx.ModelProto, outputs: list[onnx.ValueInfoProto]) -> None:
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
    del graph.metadata_props[:]  # they describe the heads as outputs
