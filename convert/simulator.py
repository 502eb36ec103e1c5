"""The compiled model on the host, by the vendor's simulator. Not there on the board."""

import numpy as np

from convert.options import Options
from convert.quantize import Toolkit
from runtime.backends import float_graph
from runtime.decode import Tensor
from runtime.errors import UserError
from runtime.model import Model

RANGES = "quantization/ranges.json"


class SimulatorBackend:
    """Head maps of the int8 (or fp16) model, float32. Rebuilds it from the bundle's graph and
    ranges, which takes some seconds and gives the outputs of the first build to the bit.

    Raises UserError for a lone file, and where the toolkit fails.
    """

    def __init__(self, model: Model):
        if model.manifest is None:
            raise UserError(
                f"the simulator runs bundles, and {model.path} is a lone file: convert it first"
            )
        manifest = model.manifest
        quantized = manifest.precision == "int8"
        if quantized and RANGES not in model.extra:
            raise UserError(f"{model.path} has no {RANGES}: convert it again")
        ranges = model.extra[RANGES] if quantized else None
        options = Options(manifest.target, manifest.precision, manifest.algorithm or "normal")
        graph = float_graph(model, "simulator")
        self._toolkit = Toolkit(model.facts, options)
        try:
            self._toolkit.rebuild(graph, ranges, model.facts, manifest.hybrid)
            self._toolkit.start_simulator()
        except BaseException:
            self._toolkit.close()
            raise

    def infer(self, picture: np.ndarray) -> list[Tensor]:
        return [Tensor(output) for output in self._toolkit.infer(picture)]

    def close(self) -> None:
        self._toolkit.close()
