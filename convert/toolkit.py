"""The vendor's toolkit, in a process of its own: the only file that imports it.

The toolkit prints from C, writes into the working folder, changes the environment and can crash.
Here it works in a temporary folder with its output in a log file, and answers requests over a pipe:
python -m convert.toolkit READ_FD WRITE_FD. convert.quantize is the other end.
"""

import argparse
import io
import json
import os
import pickle
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from convert.checkpoint.unpickle import unpickle
from convert.checkpoint.values import Global, Instance
from runtime.errors import UserError

GRAPH = "model.onnx"
DATASET = "dataset.txt"
COMPILED = "model.rknn"

_DAMAGED = (
    "rebuild: the saved ranges are damaged, or of another graph or toolkit version; convert again"
)

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
        """Load, build and export; the table of what calibration measured, {} for float. The log
        then has the compiler's cost table."""
        self._rknn = self._compiled(quantize)
        _call("export", self._rknn.export_rknn, COMPILED)
        return _plain(self._rknn.rknn_base.quantizer.quant_tab) if quantize else {}

    def print_cost(self, quantize: bool) -> None:
        """Build for the cost table in the log alone; what was built before goes on."""
        self._compiled(quantize).release()

    def weights(self) -> list[str]:
        """The names of the table's tensors that are the model's own constants."""
        base = self._rknn.rknn_base
        return [name for name in base.quantizer.quant_tab if name in base.ir.consts]

    def tensors(self) -> list[str]:
        """The names of the table's tensors that int8 holds, without the model's own constants, in
        the network's order."""
        base = self._rknn.rknn_base
        table = base.quantizer.quant_tab.items()
        return [name for name, e in table if e["dtype"] == "int8" and name not in base.ir.consts]

    def analyse(self, picture: str) -> str:
        """The toolkit's analysis of what was built on a picture's file, layer by layer. It writes
        every tensor down as text meanwhile, some hundred bytes for each of the input's pixels."""
        folder = Path("analysis")
        try:
            _call("analyse", self._rknn.accuracy_analysis, inputs=[picture], output_dir=folder.name)
            return (folder / "error_analysis.txt").read_text("utf-8", "replace")
        except OSError as error:
            raise ToolkitError(f"analyse: {error.strerror or error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def auto_hybrid(self, threshold: float) -> list[str]:
        """The tensors that the toolkit itself would keep in float16, by a build for that alone."""
        rknn = self._loaded(self._options | {"auto_hybrid_cos_thresh": threshold})
        _call("build", rknn.build, do_quantization=True, dataset=DATASET, auto_hybrid=True)
        table = rknn.rknn_base.quantizer.quant_tab
        chosen = [name for name, entry in table.items() if entry["dtype"] == "float16"]
        rknn.release()
        return chosen

    def build_hybrid(self, ranges: bytes, hybrid: Sequence[str]) -> Table:
        """As rebuild, and export; the table that the model has now. The log then has the compiler's
        cost table."""
        self.rebuild(ranges, hybrid, verbose=True)
        _call("export", self._rknn.export_rknn, COMPILED)
        return _plain(self._rknn.rknn_base.quantizer.quant_tab)

    def rebuild(self, ranges: bytes, hybrid: Sequence[str] = (), verbose: bool = False) -> None:
        """The model that build made, from its table as JSON and without its pictures: calibrate on
        a dummy, put the saved ranges in place of the measured ones, build. The simulator's outputs
        are the first build's to the bit. hybrid: tensors that stay in float16."""
        saved = _parsed(ranges)
        if self._rknn is not None:
            self._rknn.release()
        # with another algorithm the second step refuses tables that are not its own
        self._rknn = self._loaded(self._options | {"quantized_algorithm": "normal"})
        _call("calibrate", self._rknn.hybrid_quantization_step1, dataset=DATASET)
        weights, known = self.weights(), {*self.tensors()}
        self._rknn.release()
        if not {*hybrid} <= known:
            raise ToolkitError(_DAMAGED)
        stem = Path(GRAPH).stem
        data, settings = Path(f"{stem}.data"), Path(f"{stem}.quantization.cfg")
        data.write_bytes(_with_table(data.read_bytes(), saved, weights))
        settings.write_text(_with_hybrid(settings.read_text("utf-8"), saved, hybrid), "utf-8")
        self._rknn = self._make(verbose=verbose)  # the second step fails in the first one's object
        _call(
            "build",
            self._rknn.hybrid_quantization_step2,
            model_input=f"{stem}.model",
            data_input=str(data),
            model_quantization_cfg=str(settings),
        )

    def start_simulator(self) -> None:
        _call("simulator", self._rknn.init_runtime)

    def infer(self, picture: np.ndarray) -> list[np.ndarray]:
        """Head maps float32 NCHW of a picture uint8 (1, h, w, c)."""
        outputs = self._rknn.inference(inputs=[picture], data_format=["nhwc"])
        if outputs is None:
            raise ToolkitError("the simulator gave no outputs")
        return [np.asarray(output, np.float32) for output in outputs]

    def _compiled(self, quantize: bool) -> Any:
        rknn = self._loaded(self._options, verbose=True)  # or it prints no cost table
        dataset = DATASET if quantize else None
        _call("build", rknn.build, do_quantization=quantize, dataset=dataset)
        return rknn

    def _loaded(self, options: dict[str, Any], verbose: bool = False) -> Any:
        rknn = self._make(verbose=verbose)
        _call("configure", rknn.config, **options)
        _call("load", rknn.load_onnx, model=GRAPH)
        return rknn


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


def _parsed(ranges: bytes) -> Any:
    try:
        return json.loads(ranges)
    except (ValueError, RecursionError) as error:
        raise ToolkitError(_DAMAGED) from error


def _with_table(data: bytes, saved: Any, weights: list[str]) -> bytes:
    """The toolkit's .data, a pickle it has just written, with the saved ranges in it. It is read by
    our own unpickler, which passes plain data only. Only numbers may differ from the table that is
    there, and every range that was measured on the dummy has to be replaced."""
    content = unpickle(io.BytesIO(data), "the toolkit's .data file", _no_persistent_id)
    table = content["quant_tab"]
    wanted = isinstance(saved, dict) and {*table} - {*weights} <= {*saved} <= {*table}
    if not wanted or not _alike(saved, {name: table[name] for name in saved}):
        raise ToolkitError(_DAMAGED)
    table.update(saved)
    return pickle.dumps({key: _revived(value) for key, value in content.items()}, protocol=4)


def _with_hybrid(settings: str, saved: Any, hybrid: Sequence[str]) -> str:
    """The toolkit's .quantization.cfg, YAML it has just written, with the saved ranges in it, and
    with the tensors that stay in float16. Without those it needs no ranges beside the .data's."""
    if not hybrid:
        return "custom_quantize_layers: {}\nquantize_parameters: {}\n"
    content = yaml.safe_load(settings)
    parameters = content["quantize_parameters"]
    for name in saved.keys() & parameters.keys():
        parameters[name] = {key: saved[name].get(key, old) for key, old in parameters[name].items()}
    content["custom_quantize_layers"] = dict.fromkeys(hybrid, "float16")
    return yaml.safe_dump(content, sort_keys=False)


def _alike(saved: Any, own: Any) -> bool:
    """Whether two entries of a table are the same but for the values of their numbers."""
    if isinstance(own, dict):
        same_keys = isinstance(saved, dict) and saved.keys() == own.keys()
        return same_keys and all(_alike(saved[key], own[key]) for key in own)
    if isinstance(own, list):
        same_length = isinstance(saved, list) and len(saved) == len(own)
        return same_length and all(isinstance(n, int | float) and abs(n) < 1e39 for n in saved)
    return saved == own


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


def _exit_with(requests: int) -> None:
    """Wait until nobody holds the other end of the pipe any more, then end this process, whatever
    the toolkit is doing: a long build must not outlive who asked for it."""
    hangup = select.poll()
    hangup.register(requests, 0)
    hangup.poll()
    os._exit(1)


def main(requests: int, answers: int) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())  # held while this process was made
    threading.Thread(target=_exit_with, args=[requests], daemon=True).start()
    serve(Connection(requests, writable=False), Connection(answers, readable=False))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
