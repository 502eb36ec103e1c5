"""Run an ONNX graph in float, just as it is written."""

import numpy as np
import onnxruntime


def run_graph(graph, picture):
    """The graph's outputs, in order, for a float32 (1, channels, height, width) picture.

    onnxruntime's optimizations are off: one of them changes a Pad in front of a MaxPool.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    data = graph if isinstance(graph, bytes) else graph.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    return session.run(None, {wanted.name: picture})


def picture_of(image):
    """A golden file's image, uint8 (channels, height, width), as the network takes it."""
    return image[None].astype(np.float32) / 255
