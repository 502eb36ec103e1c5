"""Run an ONNX graph in float, as written."""

import numpy as np
import onnx

from runtime.errors import UserError


def run_graph(
    model: onnx.ModelProto | bytes, feeds: dict[str, np.ndarray], origin: object
) -> dict[str, np.ndarray]:
    """Every output by name. Optimizations are off: one of them changes results (see the runtime's
    ONNX Runtime backend). Inputs the graph does not have are left out. Raises UserError where it
    does not run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    data = model if isinstance(model, bytes) else model.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        wanted = {value.name for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        values = session.run(names, {name: feeds[name] for name in feeds.keys() & wanted})
    except Exception as error:  # its errors share no narrower base
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{origin} does not run in ONNX Runtime: {reason}") from error
    return dict(zip(names, values, strict=True))
