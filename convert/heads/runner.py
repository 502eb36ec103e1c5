"""ONNX Runtime in a process of its own: python runner.py READ_FD WRITE_FD. convert.heads.run is the
other end.

Of a graph that a stranger wrote ONNX Runtime checks little before it divides by a stride or reads
behind the end of a bias. What it does then, or how much memory and time it takes, must not matter.
"""

import io
import json
import sys
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np


def main(requests: Connection, answers: Connection) -> None:
    """Answer requests until there are no more. A request is the bytes that the process may take
    more, the graph, and the feeds; the answer b"1" and the outputs, or b"0" and the reason."""
    with suppress(ImportError):  # while the other end reads the file; the first run says why
        import_module("onnxruntime")
    while True:
        try:
            limit = int.from_bytes(requests.recv_bytes(), "little")
            graph, feeds = requests.recv_bytes(), unpacked(requests.recv_bytes())
        except EOFError:
            return
        try:
            _limit_memory(limit)
            answer = b"1" + packed(_outputs(graph, feeds))
        except Exception as error:  # its errors share no narrower base
            answer = b"0" + str(error).encode()
        answers.send_bytes(answer)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as bytes. Only numbers: nothing that is unpacked can run code."""
    stream = io.BytesIO()
    names = np.frombuffer(json.dumps(list(arrays)).encode(), np.uint8)
    for array in (names, *arrays.values()):
        np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
    return stream.getvalue()


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """What was packed. Raises ValueError for anything else."""
    stream = io.BytesIO(data)
    names = json.loads(np.lib.format.read_array(stream, allow_pickle=False).tobytes())
    return {name: np.lib.format.read_array(stream, allow_pickle=False) for name in names}


def _outputs(graph: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output by name. Optimizations are off: one of them changes results (see the runtime's
    ONNX Runtime backend). Inputs the graph does not have are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    values = session.run(names, {name: feeds[name] for name in feeds.keys() & wanted})
    return dict(zip(names, values, strict=True))


def _limit_memory(more: int) -> None:
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    _, hardest = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + more, hardest))


if __name__ == "__main__":
    # this folder's modules are none of onnxruntime's
    sys.path = [place for place in sys.path if Path(place) != Path(__file__).parent]
    read, write = (int(argument) for argument in sys.argv[1:])
    main(Connection(read, writable=False), Connection(write, readable=False))
