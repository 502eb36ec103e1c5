"""The compiled model on the NPU, by the vendor's C library, with outputs as the NPU makes them."""

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import Structure, byref, c_uint64, sizeof
from typing import TypeVar

import numpy as np

from runtime.backends import librknnrt
from runtime.backends.librknnrt import Library, RknnError, TensorAttr
from runtime.decode import Tensor
from runtime.doctor.version import parse_version
from runtime.errors import NpuError, UserError
from runtime.model import Model

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer", bound=Structure)


class RknnRtBackend:
    """Head maps int8 with their scale and zero point; float32 ones of a model that is not int8. The
    next call overwrites them.

    core: the NPU core to use; None where the scheduler picks one. weights: of another context, to
    share them; None to load them. Raises UserError where librknnrt is missing, too old or does not
    take the model, and where its inputs or outputs are not the facts'. A failed call raises
    NpuError.
    """

    def __init__(self, model: Model, core: int | None = None, weights: "_Weights | None" = None):
        self._model = model
        self._weights = _Weights(model) if weights is None else weights
        self._library = self._weights.library
        self._context: int | None = None
        try:
            with _explained(model):
                self._context = self._weights.take()
                if core is not None:  # chips with one core do not take even its mask
                    self._library.call("rknn_set_core_mask", self._context, 1 << core)
                self._prepare()
        except BaseException:
            self.close()
            raise

    def another(self, core: int | None = None) -> "RknnRtBackend":
        """One more context, on this one's weights. Not while one of them runs."""
        return RknnRtBackend(self._model, core, self._weights)

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        self.run(picture)
        return self.outputs()

    def run(self, picture: np.ndarray) -> None:
        """The first half of infer: the NPU's work."""
        if picture.shape != self._shape or picture.dtype != np.uint8:
            raise ValueError(f"a picture is {picture.dtype} {picture.shape}, not {self._shape}")
        picture = np.ascontiguousarray(picture)
        self._input.buf = picture.ctypes.data
        self._library.call("rknn_inputs_set", self._context, 1, byref(self._input))
        self._library.call("rknn_run", self._context, None)

    def outputs(self) -> list[Tensor]:
        """The second half: its outputs."""
        count = len(self._tensors)
        for output, tensor in zip(self._outputs, self._tensors, strict=True):
            output.size = tensor.array.nbytes
        self._library.call("rknn_outputs_get", self._context, count, self._outputs, None)
        sizes = [output.size for output in self._outputs]
        self._library.call("rknn_outputs_release", self._context, count, self._outputs)
        if sizes != [tensor.array.nbytes for tensor in self._tensors]:
            raise NpuError(f"rknn_outputs_get gave outputs of {sizes} bytes, which is not all")
        return self._tensors

    def close(self) -> None:
        if self._context is not None:
            self._weights.give_back(self._context)
            self._context = None

    def _prepare(self) -> None:
        """Check what the model takes and gives, and make the memory that all pictures use."""
        facts, library, context = self._model.facts, self._library, self._context
        _check_version(library, context, self._model)
        given = _query(library, context, librknnrt.QUERY_IN_OUT_NUM, librknnrt.InOutNum())
        self._shape = facts.input.shape
        taken = _query(library, context, librknnrt.QUERY_INPUT_ATTR, TensorAttr())
        attributes = [
            _query(library, context, librknnrt.QUERY_OUTPUT_ATTR, TensorAttr(index=i))
            for i in range(given.n_output)
        ]
        self._tensors = _tensors(attributes, [shape for _, shape in facts.tensors], self._model)
        if given.n_input != 1 or taken.n_elems != math.prod(self._shape):
            raise _other_facts(self._model, "takes another input")
        self._input = librknnrt.Input(
            size=taken.n_elems, type=librknnrt.UINT8, fmt=librknnrt.NHWC, pass_through=0
        )
        self._outputs = (librknnrt.Output * len(self._tensors))()
        for i, (output, tensor) in enumerate(zip(self._outputs, self._tensors, strict=True)):
            output.index, output.is_prealloc = i, 1
            output.want_float = tensor.array.dtype == np.float32
            output.buf = tensor.array.ctypes.data


class _Weights:
    """A model that is loaded once, for contexts that share it. The last one that is given back ends
    it; then no more can be taken. Raises UserError."""

    def __init__(self, model: Model):
        if model.compiled is None:
            raise UserError(
                f"{model.path} is not compiled for the NPU: convert it, or pick another backend"
            )
        path = librknnrt.library_path()
        reason = librknnrt.obstacle(path, model.toolkit)
        if reason:
            raise UserError(f"backend rknnrt cannot be used, {reason}: rkyolo doctor says more")
        self.library = Library(path)
        self._lock = threading.Lock()
        self._users = 0
        self._original = c_uint64()
        with _explained(model):
            data = model.compiled
            self.library.call("rknn_init", byref(self._original), data, len(data), 0, None)

    def take(self) -> int:
        """A context: at first that which the model was loaded into, then copies of it."""
        with self._lock:
            assert self._original.value, "taken from weights that have ended"
            context = c_uint64(self._original.value)
            if self._users:
                self.library.call("rknn_dup_context", byref(self._original), byref(context))
            self._users += 1
            return context.value

    def give_back(self, context: int) -> None:
        """End a context; the first one, which holds the weights, ends last."""
        with self._lock:
            self._users -= 1
            if context != self._original.value:
                self._destroy(context)
            if not self._users:
                self._destroy(self._original.value)
                self._original.value = 0

    def _destroy(self, context: int) -> None:
        try:
            self.library.call("rknn_destroy", context)
        except RknnError as error:
            log.warning("a context of the NPU was not given back: %s", error)


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Makes a call that fails while a model is opened a UserError."""
    try:
        yield
    except RknnError as error:
        raise UserError(
            f"the NPU does not take {model.path}, {error}; rkyolo doctor says more"
        ) from error


def _query(library: Library, context: int, what: int, answer: _Answer) -> _Answer:
    library.call("rknn_query", context, what, byref(answer), sizeof(answer))
    return answer


def _check_version(library: Library, context: int, model: Model) -> None:
    """What the library answers counts, whatever its file says."""
    answer = _query(library, context, librknnrt.QUERY_SDK_VERSION, librknnrt.SdkVersion())
    version = parse_version(answer.api_version.decode("ascii", "replace"))
    reason = librknnrt.too_old(version, model.toolkit)
    if reason:
        raise UserError(f"backend rknnrt cannot be used, {reason}: rkyolo doctor says more")


def _tensors(
    attributes: Sequence[TensorAttr], shapes: Sequence[tuple[int, ...]], model: Model
) -> list[Tensor]:
    """An empty tensor for each output. Raises UserError where they are not as the facts say."""
    if [tuple(attr.dims[: attr.n_dims]) for attr in attributes] != list(shapes):
        raise _other_facts(model, "gives other outputs")
    return [_tensor(attr, shape, model) for attr, shape in zip(attributes, shapes, strict=True)]


def _tensor(attr: TensorAttr, shape: tuple[int, ...], model: Model) -> Tensor:
    if attr.fmt != librknnrt.NCHW:
        layout = librknnrt.FORMATS.get(attr.fmt, str(attr.fmt))
        raise UserError(
            f"librknnrt gives the outputs of {model.path} in the layout {layout} and not NCHW:"
            " use backend rknnlite"
        )
    if (attr.type, attr.qnt_type) != (librknnrt.INT8, librknnrt.AFFINE_ASYMMETRIC):
        return Tensor(np.zeros(shape, np.float32))
    if not (math.isfinite(attr.scale) and attr.scale > 0):
        raise UserError(
            f"an output of {model.path} has the scale {attr.scale:g}, which is none: convert again"
        )
    return Tensor(np.zeros(shape, np.int8), attr.scale, attr.zp)


def _other_facts(model: Model, what: str) -> UserError:
    return UserError(f"{model.path} {what} than the decode facts in it say: convert again")
