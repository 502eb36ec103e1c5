"""Quantize a deploy graph with the vendor's toolkit, and run what it built on its simulator."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from convert.toolkit import COMPILED, DATASET, GRAPH, Table
from runtime.errors import UserError
from runtime.manifest import Algorithm, Facts, Precision, Target

PACKAGE = "rknn-toolkit2"


@dataclass(frozen=True)
class Options:
    """How to build: target chip, precision, and how ranges are chosen from calibration."""

    target: Target = "rk3588"
    precision: Precision = "int8"
    algorithm: Algorithm = "normal"


class Toolkit:
    """The toolkit's process with one graph. A context manager: leaving it ends the process and
    removes its folder, whatever it was doing. Not for two threads at once.

    Starting it returns at once; the toolkit is imported while the caller goes on.
    """

    def __init__(self, facts: Facts, options: Options):
        toolkit_version()
        self.options = options
        self._folder = tempfile.TemporaryDirectory(prefix="rkyolo-")
        self.folder = Path(self._folder.name)
        self._request_end, self._answer_end, self._process = self._start()
        channels = facts.input.channels
        self._send(
            "start",
            {
                "mean_values": [[0] * channels],
                "std_values": [[255] * channels],
                "target_platform": options.target,
                "quantized_algorithm": options.algorithm,
                "custom_string": facts.to_custom_string(),
            },
        )
        self._started = False

    def __enter__(self) -> "Toolkit":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def build(self, graph: bytes, calibration: Sequence[np.ndarray] | None) -> bytes:
        """Build from a graph, quantized on inputs uint8 (h, w, c), or in fp16 for None.

        The compiled model's bytes. Raises UserError where the toolkit fails.
        """
        (self.folder / GRAPH).write_bytes(graph)
        if calibration is not None:
            self._write_dataset(calibration)
        self.table: Table = self._ask("build", calibration is not None)
        return (self.folder / COMPILED).read_bytes()

    def ranges(self) -> bytes:
        """What rebuild needs, as JSON: the measured ranges of the last build. Those of the weights
        follow from the graph, but for the algorithm that moves them."""
        keep = self.table
        if self.options.algorithm != "mmse":
            weights = set(self._ask("weights"))
            keep = {name: entry for name, entry in keep.items() if name not in weights}
        return json.dumps(keep, separators=(",", ":")).encode()

    def output_range(self, output: str) -> tuple[float, float] | None:
        """The least and greatest value that an output's int8 can say; None for float."""
        entry = self.table.get(f"{output}_int8") or self.table.get(output)
        return None if entry is None else (float(entry["min"][0]), float(entry["max"][0]))

    def rebuild(self, graph: bytes, ranges: bytes | None, facts: Facts) -> None:
        """Build again what build once built, from its ranges, None for fp16."""
        (self.folder / GRAPH).write_bytes(graph)
        if ranges is None:
            self._ask("build", False)
            return
        width, height = facts.input.wh
        noise = np.random.default_rng(0).integers(0, 256, (height, width, facts.input.channels))
        self._write_dataset([noise.astype(np.uint8)])
        self._ask("rebuild", _checked_table(ranges))

    def start_simulator(self) -> None:
        self._ask("start_simulator")

    def infer(self, picture: np.ndarray) -> list[np.ndarray]:
        """Head maps float32 NCHW of a picture uint8 (1, h, w, c), from the simulator."""
        return self._ask("infer", picture)

    def log(self) -> str:
        """What the toolkit printed, without progress bars and without this machine's folders."""
        text = (self.folder / "toolkit.log").read_text("utf-8", "replace")
        text = "\n".join(line.rpartition("\r")[2] for line in text.splitlines())
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
        for folder, name in (
            (self.folder, "."),
            (Path(sys.prefix), "<python>"),
            (Path.home(), "~"),
        ):
            text = text.replace(str(folder), name)
        return text

    def close(self) -> None:
        """End the process and remove its folder. Calling it again does nothing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._request_end.close()
        self._answer_end.close()
        self._folder.cleanup()

    def _start(self) -> tuple[Connection, Connection, subprocess.Popen]:
        requests, request_end = os.pipe()
        answer_end, answers = os.pipe()
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        with (self.folder / "toolkit.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "convert.toolkit", str(requests), str(answers)],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(requests, answers),
                start_new_session=True,  # Ctrl-C is for us, who then end it
            )
        os.close(requests)
        os.close(answers)
        return (
            Connection(request_end, readable=False),
            Connection(answer_end, writable=False),
            process,
        )

    def _write_dataset(self, inputs: Sequence[np.ndarray]) -> None:
        """Inputs as the toolkit takes them without touching them: NCHW arrays, one a line."""
        names = [f"{i:05}.npy" for i in range(len(inputs))]
        for name, picture in zip(names, inputs, strict=True):
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
        self._process.wait()
        lines = [line for line in self.log().splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "it said nothing"
        return f"{PACKAGE} ended unexpectedly (code {self._process.returncode}): {last}"


def toolkit_version() -> str:
    """The installed toolkit's version. Raises UserError where there is none."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError as error:
        raise UserError(
            f"{PACKAGE} is not installed: run make setup in rkyolo's folder (x86-64 Linux only)"
        ) from error


def _checked_table(ranges: bytes) -> Table:
    """Ranges of a bundle, checked to be a table and nothing else."""
    try:
        table = json.loads(ranges)
        checked = all(
            isinstance(entry, dict) and isinstance(entry["dtype"], str) for entry in table.values()
        )
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise UserError("the bundle's quantization ranges are damaged: convert again") from error
    if not checked:
        raise UserError("the bundle's quantization ranges are damaged: convert again")
    return table
