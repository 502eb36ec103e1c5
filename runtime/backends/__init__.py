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

ON_NPU = frozenset({"rknnlite"})
"""These take the number of an NPU core too, None for the one the scheduler picks."""

_CORES = {"rk3588": 3, "rk3576": 2}
"""NPU cores of the chips that have several."""


def choose_backend(name: str, model: Model) -> str:
    """The backend of that name, or for "auto" the best there is: the NPU where its package is
    installed, else onnxruntime. Raises UserError for a name that is none."""
    if name == "auto":
        return "rknnlite" if model.rknn and find_spec("rknnlite") else "onnxruntime"
    if name not in BACKENDS:
        raise UserError(f"no backend is called {name}: choose auto, {', '.join(BACKENDS)}")
    return name


def open_backend(name: str, model: Model, core: int | None = None) -> Backend:
    """A model on the backend of that name, or on the best for "auto". core: of an NPU, the one to
    use. Raises UserError."""
    name = choose_backend(name, model)
    with explained_imports(f"the backend {name} needs"):
        backend = load_entry(BACKENDS[name])
        return backend(model, core) if name in ON_NPU else backend(model)


def cores_of(name: str, model: Model) -> tuple[int | None, ...]:
    """The cores a backend can use for a model: a chip's NPU cores by number; (None,) where there is
    nothing to choose."""
    if choose_backend(name, model) not in ON_NPU or model.target is None:
        return (None,)
    return tuple(range(_CORES[model.target])) if model.target in _CORES else (None,)


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
