"""The vendor's toolkit, in a process of its own: the only file that imports it.

The toolkit prints from C, writes into the working folder, changes the environment and can crash.
Here it works in a temporary folder with its output in a log file, and answers requests over a pipe:
python -m convert.toolkit READ_FD WRITE_FD. convert.quantize is the other end.
"""

import argparse
import io
import json
import pickle
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from convert.checkpoint.unpickle import unpickle
from convert.checkpoint.values import Global, Instance
from runtime.errors import UserError

GRAPH = "model.onnx"
DATASET = "dataset.txt"
COMPILED = "model.rknn"

Table = dict[str, dict[str, Any]]
"""The toolkit's quantization table: per tensor dtype, range, scale and zero point, plain data."""


class ToolkitError(Exception):
    """A step of the toolkit that failed, in one line."""


class Session:
    """One model in the toolkit, from graph to simulator. The graph lies in the working folder."""

    def __init__(self, options: dict[str, Any]):
        from rknn.api import RKNN

        self._make = RKNN
        self._options = options
        self._rknn: Any = None

    def build(self, quantize: bool) -> Table:
        """Load, build and export; the table of what calibration measured, {} for float."""
        self._load(self._options)
        dataset = DATASET if quantize else None
        _call("build", self._rknn.build, do_quantization=quantize, dataset=dataset)
        _call("export", self._rknn.export_rknn, COMPILED)
        return _plain(self._rknn.rknn_base.quantizer.quant_tab) if quantize else {}

    def weights(self) -> list[str]:
        """The names of the table's tensors that are the model's own constants."""
        table, constants = self._rknn.rknn_base.quantizer.quant_tab, self._rknn.rknn_base.ir.consts
        return [name for name in table if name in constants]

    def rebuild(self, saved: Table) -> None:
        """The model that build made, from its table and without its pictures: calibrate on a dummy,
        put the saved ranges in place of the measured ones, build. The simulator's outputs are the
        first build's to the bit."""
        # with another algorithm the second step refuses tables that are not its own
        self._load(self._options | {"quantized_algorithm": "normal"})
        _call("calibrate", self._rknn.hybrid_quantization_step1, dataset=DATASET)
        self._rknn.release()
        stem = Path(GRAPH).stem
        data = Path(f"{stem}.data")
        data.write_bytes(_with_table(data.read_bytes(), saved))
        ranges = Path(f"{stem}.quantization.cfg")
        ranges.write_text("custom_quantize_layers: {}\nquantize_parameters: {}\n")
        self._rknn = self._make(verbose=False)  # the second step fails in the first one's object
        _call(
            "build",
            self._rknn.hybrid_quantization_step2,
            model_input=f"{stem}.model",
            data_input=str(data),
            model_quantization_cfg=str(ranges),
        )

    def start_simulator(self) -> None:
        _call("simulator", self._rknn.init_runtime)

    def infer(self, picture: np.ndarray) -> list[np.ndarray]:
        """Head maps float32 NCHW of a picture uint8 (1, h, w, c)."""
        outputs = self._rknn.inference(inputs=[picture], data_format=["nhwc"])
        if outputs is None:
            raise ToolkitError("the simulator gave no outputs")
        return [np.asarray(output, np.float32) for output in outputs]

    def _load(self, options: dict[str, Any]) -> None:
        self._rknn = self._make(verbose=False)
        _call("configure", self._rknn.config, **options)
        _call("load", self._rknn.load_onnx, model=GRAPH)


def _call(step: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> None:
    """Run one step; the toolkit reports failure by a return code in some and a ValueError, with a
    traceback in its text, in others."""
    try:
        code = function(*args, **keywords)
    except (ValueError, OSError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ToolkitError(f"{step}: {lines[-1] if lines else type(error).__name__}") from error
    if code not in (0, None):
        raise ToolkitError(f"{step}: failed with code {code}")


def _plain(table: Any) -> Table:
    """The table through JSON: nothing but plain data leaves this process, and floats survive."""
    return json.loads(json.dumps(table))


def _with_table(data: bytes, saved: Table) -> bytes:
    """The toolkit's .data, a pickle it has just written, with the saved ranges in it. It is read by
    our own unpickler, which passes plain data only."""
    content = unpickle(io.BytesIO(data), "the toolkit's .data file", _no_persistent_id)
    table = content["quant_tab"]
    if any(name not in table or table[name]["dtype"] != saved[name]["dtype"] for name in saved):
        raise ToolkitError("rebuild: the saved ranges belong to another graph or toolkit version")
    table.update(saved)
    return pickle.dumps({key: _revived(value) for key, value in content.items()}, protocol=4)


def _no_persistent_id(_: Any) -> Any:
    raise ValueError("a persistent id")


def _revived(value: Any) -> Any:
    if isinstance(value, Instance) and value.cls == Global("argparse", "Namespace"):
        return argparse.Namespace(**value.state)
    return value


def serve(requests: Connection, answers: Connection) -> None:
    """Answer requests (method, arguments) until the other end is gone; the first makes the session
    and takes the toolkit's options."""
    session: Session | None = None
    while True:
        try:
            method, *arguments = requests.recv()
        except EOFError:
            return
        try:
            if session is None:
                session = Session(*arguments)
                answer = None
            else:
                answer = getattr(session, method)(*arguments)
            answers.send((True, answer))
        except (ToolkitError, UserError) as error:
            answers.send((False, str(error)))
        except ImportError as error:
            answers.send((False, f"import: {error}"))


if __name__ == "__main__":
    serve(
        Connection(int(sys.argv[1]), writable=False), Connection(int(sys.argv[2]), readable=False)
    )
