"""Quantize a deploy graph with the vendor's toolkit, and run what it built on its simulator."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from convert.cost import is_cost_line, read_cost
from convert.hybrid import named, worst_layers
from convert.options import Options
from convert.toolkit import COMPILED, DATASET, GRAPH, Table
from runtime.cost import Cost
from runtime.errors import UserError
from runtime.manifest import Facts, Precision

PACKAGE = "rknn-toolkit2"
LOG = "toolkit.log"
ANALYSED = 2
"""Layers are analysed on so many of the calibration pictures, seconds each."""
_INPUT = "images_int8"
_ROOT = Path(__file__).resolve().parent.parent


class Toolkit:
    """The toolkit's process with one graph. A context manager: leaving it ends the process and
    removes its folder, whatever it was doing. Not for two threads at once.

    Starting it returns at once; the toolkit is imported while the caller goes on.
    """

    def __init__(self, facts: Facts, options: Options):
        toolkit_version()
        self.options = options
        self._started = False
        self._facts = facts
        channels = facts.input.shape[3]
        settings = {
            "mean_values": [[0] * channels],
            "std_values": [[255] * channels],
            "target_platform": options.target,
            "quantized_algorithm": options.algorithm,
            "custom_string": facts.to_custom_string(),
        }
        with ExitStack() as stack, _room():
            self.folder = Path(stack.enter_context(TemporaryDirectory(prefix="rkyolo-")))
            self._start(stack)
            self._send("start", settings)
            self._held = stack.pop_all()

    def __enter__(self) -> "Toolkit":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def build(self, graph: bytes, calibration: Sequence[np.ndarray] | None) -> bytes:
        """Build from a graph, quantized on inputs uint8 (h, w, c), or in fp16 for None.

        The compiled model's bytes; cost is then what it costs, None where the compiler did not say,
        and hybrid what stays in float16. Raises UserError where the toolkit fails, and for a tensor
        that does not exist.
        """
        self._write(graph, calibration)
        begin = self._log_size()
        self.table: Table = self._ask("build", calibration is not None)
        self.cost = read_cost(self._log(begin))
        self._saved = b"" if calibration is None else self._measured()
        self.hybrid = () if calibration is None else self._chosen(len(calibration))
        if self.hybrid:
            self._write(graph, [_noise(self._facts)])
            self._build_hybrid(self._saved, self.hybrid)
        return (self.folder / COMPILED).read_bytes()

    def _chosen(self, pictures: int) -> tuple[str, ...]:
        """The tensors that the options leave in float16, after an int8 build on so many pictures,
        in the network's order."""
        options = self.options
        if not options.is_hybrid:
            return ()
        tensors = [name for name in self._ask("tensors") if name != _INPUT]
        if options.auto_hybrid:
            chosen = {*self._ask("auto_hybrid", options.auto_hybrid)}
            return tuple(name for name in tensors if name in chosen)
        if options.hybrid_layers:
            places = sorted({i * pictures // ANALYSED for i in range(ANALYSED)})
            texts = [self._ask("analyse", _input_file(place)) for place in places]
            return worst_layers(texts, options.hybrid_layers, tensors)
        return named(options.hybrid, tensors)

    def _build_hybrid(self, ranges: bytes, hybrid: Sequence[str]) -> None:
        """Build as rebuild does, so that both are the same model to the bit."""
        begin = self._log_size()
        self.table = self._ask("build_hybrid", ranges, list(hybrid))
        self.cost = read_cost(self._log(begin))

    def cost_in(self, precision: Precision, graph: bytes) -> Cost | None:
        """What a graph costs in a precision, None where the compiler did not say. It is built for
        that alone, int8 on noise, which changes neither cycles nor sizes; what was built before
        goes on running. Raises UserError where the toolkit fails."""
        quantized = precision == "int8"
        self._write(graph, [_noise(self._facts)] if quantized else None)
        begin = self._log_size()
        self._ask("print_cost", quantized)
        return read_cost(self._log(begin))

    def hybrid_cost(self, graph: bytes, ranges: bytes, hybrid: Sequence[str]) -> Cost | None:
        """As cost_in, for an int8 model of which some tensors stay in float16; it is what is built
        then. Raises UserError."""
        self._write(graph, [_noise(self._facts)])
        self._build_hybrid(ranges, hybrid)
        return self.cost

    def ranges(self) -> bytes:
        """What rebuild needs, as JSON: the measured ranges of the last build."""
        return self._saved

    def _measured(self) -> bytes:
        """The measured ranges. Those of the weights follow from the graph, but for the algorithm
        that moves them."""
        keep = self.table
        if self.options.algorithm != "mmse":
            weights = set(self._ask("weights"))
            keep = {name: entry for name, entry in keep.items() if name not in weights}
        return json.dumps(keep, separators=(",", ":")).encode()

    def output_range(self, output: str) -> tuple[float, float] | None:
        """The least and greatest value that an output's int8 can say; None for float."""
        entry = self.table.get(f"{output}_int8") or self.table.get(output)
        if entry is None or entry["dtype"] == "float16":
            return None
        return float(entry["min"][0]), float(entry["max"][0])

    def rebuild(
        self, graph: bytes, ranges: bytes | None, facts: Facts, hybrid: Sequence[str] = ()
    ) -> None:
        """Build again what build once built, from its ranges, None for fp16, and from what of it
        stays in float16. Raises UserError where the toolkit fails, and for ranges or names that are
        damaged or another graph's."""
        if ranges is None:
            self._write(graph, None)
            self._ask("build", False)
            return
        self._write(graph, [_noise(facts)])
        self._ask("rebuild", ranges, list(hybrid))

    def start_simulator(self) -> None:
        self._ask("start_simulator")

    def infer(self, picture: np.ndarray) -> list[np.ndarray]:
        """Head maps float32 NCHW of a picture uint8 (1, h, w, c), from the simulator."""
        return self._ask("infer", picture)

    def log(self) -> str:
        """What the toolkit printed, without progress bars, what it prints for its makers, and this
        machine's folders."""
        return "".join(
            line if is_cost_line(line.rstrip("\n")) else self._without_folders(line)
            for line in self._log().splitlines(keepends=True)
            if not line.startswith("D ") or is_cost_line(line.rstrip("\n"))
        )

    def close(self) -> None:
        """End the process and remove its folder. Calling it again does nothing."""
        self._held.close()

    def _log_size(self) -> int:
        return (self.folder / LOG).stat().st_size

    def _log(self, begin: int = 0) -> str:
        """The log from that byte on, without colours and progress bars."""
        text = (self.folder / LOG).read_bytes()[begin:].decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[^\n]*\r(?=[^\n])", "", text)

    def _without_folders(self, text: str) -> str:
        for folder in (self.folder, _ROOT, sys.prefix, sys.base_prefix, Path.home()):
            if len(str(folder)) > 1:  # a home of / would take every slash
                text = text.replace(str(folder), "/...")
        return re.sub(r"(?<![\w./-])/(?:[^\s/'\":]+/)+", ".../", text)

    def _start(self, stack: ExitStack) -> None:
        requests, request_end = os.pipe()
        answer_end, answers = os.pipe()
        self._request_end = stack.enter_context(Connection(request_end, readable=False))
        self._answer_end = stack.enter_context(Connection(answer_end, writable=False))
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with (self.folder / LOG).open("wb") as log, _signals_held():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "convert.toolkit", str(requests), str(answers)],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(requests, answers),
                start_new_session=True,  # Ctrl-C is for us, who then end it
            )
            stack.callback(self._end)
        os.close(requests)
        os.close(answers)

    def _end(self) -> None:
        with suppress(ProcessLookupError):  # its own helpers too, like what torch asks at import
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _write(self, graph: bytes, inputs: Sequence[np.ndarray] | None) -> None:
        """What the toolkit builds from. It takes inputs without touching them as NCHW arrays, one a
        line of its list."""
        names = [_input_file(i) for i in range(len(inputs or ()))]
        with _room():
            (self.folder / GRAPH).write_bytes(graph)
            for name, picture in zip(names, inputs or (), strict=True):
                np.save(self.folder / name, np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
            (self.folder / DATASET).write_text("".join(f"{name}\n" for name in names))

    def _send(self, *request: Any) -> None:
        try:
            self._request_end.send(request)
        except OSError as error:
            raise UserError(self._crash()) from error

    def _ask(self, *request: Any) -> Any:
        if not self._started:
            self._receive()
            self._started = True
        self._send(*request)
        return self._receive()

    def _receive(self) -> Any:
        try:
            fine, answer = self._answer_end.recv()
        except (EOFError, OSError) as error:
            raise UserError(self._crash()) from error
        if not fine:
            raise UserError(f"{PACKAGE} failed to {answer}")
        return answer

    def _crash(self) -> str:
        code = self._process.wait()
        lines = [line for line in self.log().splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "nothing"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{PACKAGE} {how}; the last it said was: {last}"


def _input_file(place: int) -> str:
    return f"{place:05}.npy"


def _noise(facts: Facts) -> np.ndarray:
    """An input uint8 (h, w, c) to calibrate on where the ranges do not matter."""
    noise = np.random.default_rng(0).integers(0, 256, facts.input.shape[1:])
    return noise.astype(np.uint8)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that arrive meanwhile are handled behind the block: one inside Popen would leave the
    process it has just made to itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to the temporary folder: {error.strerror or error}; make room there, or"
            " set TMPDIR to another place"
        ) from error


def toolkit_version() -> str:
    """The installed toolkit's version. Raises UserError where there is none."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError as error:
        raise UserError(
            f"{PACKAGE} is not installed: run make setup in rkyolo's folder (x86-64 Linux only)"
        ) from error
