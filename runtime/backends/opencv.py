"""The float graph on the CPU, by OpenCV's own network module."""

import cv2
import numpy as np

from runtime.backends import float_graph, planar
from runtime.decode import Tensor
from runtime.errors import UserError
from runtime.model import Model


class OpenCvBackend:
    """Float32 head maps. Raises UserError where the graph cannot be loaded."""

    def __init__(self, model: Model):
        graph = np.frombuffer(float_graph(model, "opencv"), np.uint8)
        try:
            self._network = cv2.dnn.readNetFromONNX(graph)
        except cv2.error as error:
            reason = " ".join(str(error).split())
            raise UserError(f"OpenCV cannot load the graph of {model.path}: {reason}") from error
        self._outputs = [name for name, _ in model.facts.tensors]

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        self._network.setInput(planar(picture))
        # by name: OpenCV's own list of outputs is sorted by name
        return [Tensor(output) for output in self._network.forward(self._outputs)]

    def close(self) -> None:
        self._network = None
