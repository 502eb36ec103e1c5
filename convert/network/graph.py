"""Write an ONNX graph one node at a time, with the shape of every feature map at hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.errors import UserError

OPSET = 13
"""The oldest that has all we need: the vendor's toolkit and OpenCV read it without surprises."""
IR_VERSION = 7


_LARGEST_MAP = 2**31
"""Numbers in one feature map: 8 GB of float32."""


@dataclass(frozen=True)
class Map:
    """A feature map (1, channels, height, width) in the graph, by name. Raises UserError for one
    that no memory holds."""

    name: str
    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.channels * self.height * self.width > _LARGEST_MAP:
            raise UserError(
                f"{self.name} is {self.channels} x {self.height} x {self.width}, which no memory"
                " holds; use a smaller --size"
            )

    def resized(self, name: str, height: int, width: int) -> "Map":
        return Map(name, self.channels, height, width)


class Graph:
    """A graph under construction. Nodes are kept in order; unused ones are dropped at the end."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        self._taken: set[str] = set()

    def add(self, op: str, path: str, inputs: Sequence[str], **attributes: object) -> str:
        """Append a node; the name of its only output, made from path and op."""
        name = self._name(f"/{path.replace('.', '/')}/{op}")
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, path: str, array: np.ndarray) -> str:
        """The name of a constant tensor."""
        name = self._name(path)
        self._constants[name] = array
        return name

    def _name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._taken:
            name, count = f"{wanted}_{count}", count + 1
        self._taken.add(name)
        return name

    def finish(self, picture: Map, outputs: Sequence[tuple[str, Map]]) -> onnx.ModelProto:
        """The model, from picture to the outputs under the given names."""
        nodes = self._reachable([value.name for _, value in outputs])
        rename = {value.name: name for name, value in outputs}
        for node in nodes:
            node.input[:] = [rename.get(name, name) for name in node.input]
            node.output[:] = [rename.get(name, name) for name in node.output]
        used = {name for node in nodes for name in node.input}
        model = helper.make_model(
            helper.make_graph(
                nodes,
                "yolov5",
                [_value_info(picture.name, picture)],
                [_value_info(name, value) for name, value in outputs],
            ),
            producer_name="rkyolo",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        # one at a time, so that the weights are never all there twice
        for name in [name for name in self._constants if name in used]:
            _set_tensor(model.graph.initializer.add(), name, self._constants.pop(name))
        return model

    def _reachable(self, wanted: list[str]) -> list[onnx.NodeProto]:
        needed, kept = set(wanted), []
        for node in reversed(self._nodes):
            if node.output[0] in needed:
                needed.update(node.input)
                kept.append(node)
        return kept[::-1]


def _value_info(name: str, value: Map) -> onnx.ValueInfoProto:
    shape = [1, value.channels, value.height, value.width]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _set_tensor(tensor: TensorProto, name: str, array: np.ndarray) -> None:
    kind = TensorProto.INT64 if array.dtype.kind == "i" else TensorProto.FLOAT
    data = array.astype("<i8" if kind == TensorProto.INT64 else "<f4", copy=False)
    tensor.name, tensor.data_type = name, kind
    tensor.dims.extend(array.shape)
    tensor.raw_data = np.ascontiguousarray(data).tobytes()
