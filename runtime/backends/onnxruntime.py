"""The float graph on the CPU, by ONNX Runtime."""

import numpy as np

from runtime.backends import float_graph, planar
from runtime.decode import Tensor
from runtime.errors import UserError
from runtime.model import Model

_WRONG_OPTIMIZERS = ["Pad_Fusion"]
"""It merges a zero padding into the max pool behind it, which pads with minus infinity instead:
another result for yolov3-tiny."""


class OnnxRuntimeBackend:
    """Float32 head maps. Raises UserError where the graph cannot be loaded."""

    def __init__(self, model: Model):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # threads that wait in a loop take the time of cameras and other contexts
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                float_graph(model, "onnxruntime"),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_WRONG_OPTIMIZERS,
            )
        except Exception as error:  # its errors share no narrower base
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"ONNX Runtime cannot load the graph of {model.path}: {error}"
            ) from error
        self._input = self._session.get_inputs()[0].name
        self._outputs = [name for name, _ in model.facts.tensors]

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        outputs = self._session.run(self._outputs, {self._input: planar(picture)})
        return [Tensor(output) for output in outputs]

    def close(self) -> None:
        self._session = None
