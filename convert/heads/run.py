"""Run ONNX graphs that strangers wrote: in float, as written, with bounds on memory and time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx

from convert.heads.runner import packed, unpacked
from runtime.errors import UserError

_BASE_BYTES, _BYTES_A_NUMBER = 2**29, 2000
_BASE_S, _NUMBERS_A_S = 5, 10_000
"""What a run may take, by the numbers in its picture. YOLOv5's largest network takes about a tenth
of either."""


def run_graph(
    model: onnx.ModelProto | bytes, feeds: dict[str, np.ndarray], origin: object
) -> dict[str, np.ndarray]:
    """Every output by name. Optimizations are off, and inputs the graph does not have are left out.
    Raises UserError where it does not run."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with one_process() as process:
        return process.run(data, feeds, origin)


@contextmanager
def one_process() -> Iterator["GraphProcess"]:
    """The process that runs graphs until the block ends; within another such block, that one's."""
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    with GraphProcess() as process:
        token = _current.set(process)
        try:
            yield process
        finally:
            _current.reset(token)


class GraphProcess:
    """A process that runs graphs. It starts when it is made, and again when a graph was its end.
    A context manager: leaving it ends the process. Not for two threads at once."""

    def __init__(self) -> None:
        self._start()

    def __enter__(self) -> "GraphProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(
        self, graph: bytes, feeds: dict[str, np.ndarray], origin: object
    ) -> dict[str, np.ndarray]:
        """See run_graph."""
        numbers = sum(array.size for array in feeds.values())
        limit = _BASE_BYTES + _BYTES_A_NUMBER * numbers + 3 * len(graph)
        seconds = _BASE_S + numbers / _NUMBERS_A_S
        try:
            for part in (limit.to_bytes(8, "little"), graph, packed(feeds)):
                self._request_end.send_bytes(part)
            answer = self._answer_end.recv_bytes() if self._answer_end.poll(seconds) else None
        except (EOFError, OSError) as error:
            self._restart()
            raise UserError(f"{origin} makes ONNX Runtime crash: it is damaged") from error
        if answer is None:
            self._restart()
            raise UserError(f"{origin} takes ONNX Runtime more than {seconds:.0f} s: it is damaged")
        if not answer.startswith(b"1"):
            text = " ".join(answer[1:].decode("utf-8", "replace").split())[:300]
            reason = "".join(c if c.isprintable() else "?" for c in text)  # it names tensors
            raise UserError(f"{origin} does not run in ONNX Runtime: {reason}")
        return unpacked(answer[1:])

    def _start(self) -> None:
        requests, request_end = os.pipe()
        answer_end, answers = os.pipe()
        self._request_end = Connection(request_end, readable=False)
        self._answer_end = Connection(answer_end, writable=False)
        program = str(Path(__file__).with_name("runner.py"))
        self._process = subprocess.Popen(
            [sys.executable, program, str(requests), str(answers)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(requests, answers),
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        os.close(requests)
        os.close(answers)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._request_end.close()
        self._answer_end.close()

    def _restart(self) -> None:
        self._end()
        self._start()


_current: ContextVar[GraphProcess | None] = ContextVar("graph_process", default=None)
