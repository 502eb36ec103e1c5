"""Builds the stand-in for the vendor's librknnrt, and speaks to it; see librknnrt/librknnrt.c."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from servers import program

from runtime.backends import open_backend
from runtime.detections import Detections
from runtime.detector import Detector
from runtime.doctor.board import VARIABLE
from runtime.letterbox import letterbox
from runtime.model import Model

SOURCES = Path(__file__).parent / "librknnrt"


def build(folder: Path, version: str = "2.5.0", compiler: str | None = None) -> Path:
    """The library, for this machine where no compiler is given."""
    path = folder / "librknnrt.so"
    flags = ["-shared", "-fPIC", "-O3", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    sources = sorted(SOURCES.glob("*.c"))
    command = [compiler or program("cc"), *flags, f'-DVERSION="{version}"', "-o", path, *sources]
    subprocess.run([*map(str, command), "-lm"], check=True, timeout=120)
    return path


def cross_compiler() -> str:
    """What compiles for the board. Fails the test where it is missing."""
    return program("aarch64-linux-gnu-gcc")


class StandIn:
    """A library in use: environment has what makes a process use it."""

    def __init__(self, library: Path, folder: Path):
        self.library = library
        self._folder = folder
        self.environment = {VARIABLE: str(library), "RKNN_STAND_IN": str(folder)}
        (folder / "log").touch()

    def tell(self, *lines: str) -> None:
        """How to behave from now on: nothing for well."""
        fresh = self._folder / "told.new"
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.rename(self._folder / "told")

    def record(self, answers: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]]) -> None:
        """What to answer in contexts that are opened from now on: pictures, each with its maps."""
        parts = [part.tobytes() for picture, maps in answers for part in (picture, *maps)]
        (self._folder / "recorded").write_bytes(b"".join(parts))

    @property
    def log(self) -> list[str]:
        return (self._folder / "log").read_text().splitlines()

    @property
    def still_open(self) -> set[str]:
        """The contexts that were opened and not destroyed, by number; fails for one that was
        destroyed twice."""
        there: set[str] = set()
        for what, number, *_ in (line.split() for line in self.log):
            if what in ("init", "dup"):
                there.add(number)
            if what == "destroy":
                there.remove(number)
        return there


@contextmanager
def in_use(library: Path, folder: Path) -> Iterator[StandIn]:
    """The library in use in this process."""
    stand_in = StandIn(library, folder)
    before = {name: os.environ.get(name) for name in stand_in.environment}
    os.environ.update(stand_in.environment)
    try:
        yield stand_in
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def simulated(
    opened: Model, pictures: Sequence[np.ndarray], library: Path, folder: Path
) -> tuple[list[tuple[np.ndarray, list[np.ndarray]]], list[Detections]]:
    """What to record for a real bundle to be run on pictures BGR, and what is found in them: both
    by the simulator. The stand-in knows the int8 scales from the .rknn's own table."""
    simulator = open_backend("simulator", opened)
    inputs = [letterbox(bgr, opened.facts.input.wh)[None] for bgr in pictures]
    maps = [[tensor.array.copy() for tensor in simulator.infer(picture)] for picture in inputs]
    found = [Detector(simulator, opened.facts, opened.thresholds)(bgr) for bgr in pictures]
    simulator.close()
    with in_use(library, folder):
        board = open_backend("rknnrt", opened)
        scales = [(tensor.scale, tensor.zero_point) for tensor in board.infer(inputs[0])]
        board.close()
    codes = [[codes_of(a, *own) for a, own in zip(each, scales, strict=True)] for each in maps]
    return list(zip(inputs, codes, strict=True)), found


def codes_of(real: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """The int8 values whose real values these float32 ones are; fails where they are none."""
    codes = np.rint(real / scale) + zero_point
    assert (np.abs(codes) <= 128).all()
    quantized = codes.astype(np.int8)
    again = (quantized.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    np.testing.assert_allclose(again, real, rtol=1e-5, atol=1e-6)
    return quantized
