"""What runs a model: one file each, in a table by name, opened through one protocol."""

import logging
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from runtime.backends import librknnrt
from runtime.decode import Tensor
from runtime.errors import UserError
from runtime.model import Model, explained_imports, load_entry

log = logging.getLogger(__name__)


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
    "rknnrt": "runtime.backends.rknnrt:RknnRtBackend",
    "simulator": "convert.simulator:SimulatorBackend",
}
"""Each is a class that takes a Model and raises UserError where it cannot run it."""

ON_NPU = frozenset({"rknnlite", "rknnrt"})
"""These take the number of an NPU core too, None for the one the scheduler picks."""

SHARING = frozenset({"rknnrt"})
"""One of these opens others on the weights it has loaded: another(core)."""

_CORES = {"rk3588": 3, "rk3576": 2}
"""NPU cores of the chips that have several."""


def choose_backend(name: str, model: Model) -> str:
    """The backend of that name, or for "auto" the best there is: the NPU by librknnrt, else by the
    vendor's package where that is installed, else onnxruntime. Raises UserError for a name that is
    none."""
    if name == "auto":
        return _best(model)[0]
    if name not in BACKENDS:
        raise UserError(f"no backend is called {name}: choose auto, {', '.join(BACKENDS)}")
    return name


def _best(model: Model) -> tuple[str, str | None]:
    """The best backend, and why it is not rknnrt."""
    if model.rknn is None:
        return "onnxruntime", "the model is not compiled for the NPU"
    reason = librknnrt.obstacle(librknnrt.library_path(), model.toolkit)
    if reason is None:
        return "rknnrt", None
    return "rknnlite" if find_spec("rknnlite") else "onnxruntime", reason


class Opener:
    """Opens a model on the backend of a name, or on the best for "auto", as often as it is called;
    backends that can share the model's weights do. Not for two threads at once, and neither while
    one of those it opened runs nor after all of them are closed. Raises UserError.
    """

    def __init__(self, name: str, model: Model):
        self._name = choose_backend(name, model)
        self._model = model
        self._first: Backend | None = None
        if name == "auto" and model.rknn is not None:
            _say_why(*_best(model))

    def __call__(self, core: int | None = None) -> Backend:
        """One more. core: of an NPU, the one to use."""
        if self._name in SHARING and self._first is not None:
            return self._first.another(core)
        self._first = self._opened(core)
        return self._first

    def _opened(self, core: int | None) -> Backend:
        with explained_imports(f"the backend {self._name} needs"):
            backend = load_entry(BACKENDS[self._name])
            return backend(self._model, core) if self._name in ON_NPU else backend(self._model)


def _say_why(chosen: str, reason: str | None) -> None:
    """Why a compiled model does not run by librknnrt; louder where there is one, and the CPU has to
    do the work."""
    if reason is not None:
        degraded = chosen not in ON_NPU and librknnrt.library_path().exists()
        level = logging.WARNING if degraded else logging.INFO
        log.log(level, "backend %s and not rknnrt: %s", chosen, reason)


def open_backend(name: str, model: Model, core: int | None = None) -> Backend:
    """A model on the backend of that name, or on the best for "auto". core: of an NPU, the one to
    use. Raises UserError."""
    return Opener(name, model)(core)


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
            " whole bundle, or use backend rknnrt on the board"
        )
    return model.onnx


def planar(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 (1, h, w, c) as the float graph takes it: float32 (1, c, h, w) in 0 to 1."""
    return np.ascontiguousarray(picture.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
