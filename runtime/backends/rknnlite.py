"""The compiled model on the NPU, by the vendor's board package."""

import gc
from inspect import signature

import numpy as np

from runtime.decode import Tensor
from runtime.errors import NpuError, UserError
from runtime.model import Model

_CALLS_BETWEEN_COLLECTIONS = 200
"""Up to 2.3.2 the vendor's package leaves a reference cycle of some 42 kB a call, which only the
garbage collector frees, and it counts objects, not bytes: this bounds it to some 8 MB."""


class RknnLiteBackend:
    """Float32 head maps, which the vendor's package makes of the NPU's int8 ones.

    core: the NPU core to use; None where the scheduler picks one. Raises UserError where the model
    does not load, the NPU does not start, or the outputs are not the facts'; a failed call raises
    NpuError.
    """

    def __init__(self, model: Model, core: int | None = None):
        from rknnlite.api import RKNNLite

        if model.rknn is None:
            raise UserError(
                f"{model.path} is not compiled for the NPU: convert it, or pick another backend"
            )
        self._runtime = RKNNLite()
        try:
            if self._runtime.load_rknn(str(model.rknn)) != 0:
                raise UserError(
                    f"the vendor's runtime cannot read {model.rknn}: copy or convert it again"
                )
            mask = "AUTO" if core is None else str(core)
            if self._runtime.init_runtime(core_mask=getattr(RKNNLite, f"NPU_CORE_{mask}")) != 0:
                raise UserError(
                    f"the NPU does not take {model.rknn}: librknnrt may be missing, or older than"
                    " the toolkit that built the model; rkyolo doctor says which"
                )
        except BaseException:
            self.close()
            raise
        # of 2.5 and later; what it gives is then overwritten by the next call
        reuses = "reuse_outputs" in signature(self._runtime.inference).parameters
        self._reuse = {"reuse_outputs": True} if reuses else {}
        self._calls = 0
        self._path = model.rknn
        self._shapes = [shape for _, shape in model.facts.tensors]

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        outputs = self._runtime.inference(inputs=[picture], data_format=["nhwc"], **self._reuse)
        self._calls += 1
        if not self._reuse and self._calls % _CALLS_BETWEEN_COLLECTIONS == 0:
            gc.collect()
        if outputs is None:
            raise NpuError("the NPU refused a picture; the vendor's message above says why")
        if [output.shape for output in outputs] != self._shapes:
            raise UserError(
                f"{self._path} gives other outputs than the decode facts in it say: convert again"
            )
        return [Tensor(output) for output in outputs]

    def close(self) -> None:
        if self._runtime is not None:
            self._runtime.release()
            self._runtime = None
