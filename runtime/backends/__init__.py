"""What runs a model: one file each, in a table by name, opened through one protocol."""

from importlib.util import find_spec
from typing import Protocol

import numpy as np

from runtime.decode import Tensor
from runtime.errors import UserError
from runtime.model import Model, explained_imports, load_entry


class Backend(Protocol):
    """A model made ready to run, on one picture at a time and in one thread at a time."""

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        """The head maps of a picture uint8 as runtime.feed makes it, (1, h, w, c) of the facts'
        input shape, in the facts' order. The arrays may be overwritten by the next call."""

    def close(self) -> None:
        """Give back what the backend holds. Calling it again does nothing."""


BACKENDS = {
    "onnxruntime": "runtime.backends.onnxruntime:OnnxRuntimeBackend",
    "opencv": "runtime.backends.opencv:OpenCvBackend",
    "rknnlite": "runtime.backends.rknnlite:RknnLiteBackend",
    "simulator": "convert.simulator:SimulatorBackend",
}
"""Each is a class that takes a Model and raises UserError where it cannot run it."""


def open_backend(name: str, model: Model) -> Backend:
    """A model on the backend of that name, or on the best there is for "auto": the NPU where its
    package is installed, else onnxruntime. Raises UserError."""
    if name == "auto":
        name = "rknnlite" if model.rknn and find_spec("rknnlite") else "onnxruntime"
    if name not in BACKENDS:
        raise UserError(f"no backend is called {name}: choose auto, {', '.join(BACKENDS)}")
    with explained_imports(f"the backend {name} needs"):
        return load_entry(BACKENDS[name])(model)


def float_graph(model: Model, backend: str) -> bytes:
    """The model's ONNX graph. Raises UserError where there is only a compiled model."""
    if model.onnx is None:
        raise UserError(
            f"{model.path} is compiled for the NPU and backend {backend} cannot run it: give the"
            " whole bundle, or use backend rknnlite on the board"
        )
    return model.onnx


def planar(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 (1, h, w, c) as the float graph takes it: float32 (1, c, h, w) in 0 to 1."""
    return np.ascontiguousarray(picture.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
