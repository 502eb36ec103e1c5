"""The compiled model on the NPU, by the vendor's board package."""

import numpy as np

from runtime.decode import Tensor
from runtime.errors import UserError
from runtime.model import Model


class RknnLiteBackend:
    """Float32 head maps, which the vendor's package makes of the NPU's int8 ones.

    The scheduler picks a core. Raises UserError where the model does not load, the NPU does not
    start, or the outputs are not the facts'; a failed call raises RuntimeError.
    """

    def __init__(self, model: Model):
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
            if self._runtime.init_runtime(core_mask=RKNNLite.NPU_CORE_AUTO) != 0:
                raise UserError(
                    f"the NPU does not take {model.rknn}: librknnrt may be missing, or older than"
                    " the toolkit that built the model; the vendor's message above says more"
                )
        except BaseException:
            self.close()
            raise
        self._path = model.rknn
        self._shapes = [shape for _, shape in model.facts.tensors]

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        outputs = self._runtime.inference(inputs=[picture], data_format=["nhwc"])
        if outputs is None:
            raise RuntimeError("the NPU refused a picture; the vendor's message above says why")
        if [output.shape for output in outputs] != self._shapes:
            raise UserError(
                f"{self._path} gives other outputs than the decode facts in it say: convert again"
            )
        return [Tensor(output) for output in outputs]

    def close(self) -> None:
        if self._runtime is not None:
            self._runtime.release()
            self._runtime = None
