"""Facts about a Rockchip board, from its files alone."""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from runtime.doctor.disk import Absent, Disk
from runtime.doctor.user import User
from runtime.doctor.version import Version, parse_version

LIBRARY = "/usr/lib/librknnrt.so"
"""The only place rknn-toolkit-lite2 looks at (2.3.2 and 2.5.0, tried; LIBRKNNRT_PATH is the name of
a constant in it, and it does not read a variable of that name)."""

VARIABLE = "RKYOLO_LIBRKNNRT"
"""An environment variable that names another place of the library, for backend rknnrt alone."""

VENDOR_NODE = "/dev/dri/renderD129"
"""The node that rknn-toolkit-lite2 asks for by name where /.dockerenv is there."""

_ELSEWHERE = (
    "/usr/lib64/librknnrt.so",
    "/usr/lib/aarch64-linux-gnu/librknnrt.so",
    "/usr/local/lib/librknnrt.so",
    "/lib/librknnrt.so",
    "/vendor/lib64/librknnrt.so",
)
_LOADS = ("/sys/kernel/debug/rknpu/load", "/proc/rknpu/load")
_DRIVERS = ("/sys/module/rknpu/version", "/sys/kernel/debug/rknpu/version", "/proc/rknpu/version")
_SOC = re.compile(r"rockchip,(rk\d{4}|rv\d{4})")
_NODE = re.compile(r"(card|renderD)\d+")
VERSION_MARK = re.compile(rb"librknnrt version: ([^\s\0]{1,40})")
_LIBRARY_LIMIT = 2**26
_ARM64_ELF = (b"\x7fELF\x02", b"\xb7\x00")  # 64-bit, and the machine at byte 18


@dataclass(frozen=True)
class Process:
    """What is true of the running process and not of the files, so that a test can say it."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    python: tuple[int, int] = sys.version_info[:2]
    now: Callable[[], float] = time.time

    def package(self, name: str) -> str | None:
        """An installed package's version."""
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None


class Library(NamedTuple):
    """librknnrt.so: why it is absent, or whether it is an ARM library and the version it names."""

    absent: Absent | None
    arm64: bool = False
    version: Version | None = None


class Frequency(NamedTuple):
    """The NPU's clock: its folder, and its governor and Hz where they can be read."""

    folder: str
    governor: str | None
    now_hz: int | None
    max_hz: int | None


@dataclass(frozen=True)
class Board:
    """A board's facts. process: None where the files are a copy of another machine's."""

    disk: Disk
    user: User
    process: Process | None = None

    @cached_property
    def compatible(self) -> list[str] | Absent:
        """The device tree's names of the board, the most general last."""
        text = self.disk.text("/proc/device-tree/compatible")
        return text if isinstance(text, Absent) else [name for name in text.split("\0") if name]

    @cached_property
    def soc(self) -> str | None:
        """Like rk3588 (also for an RK3588S); None for another maker's, or where it is not said."""
        names = [] if isinstance(self.compatible, Absent) else self.compatible
        found = [match[1] for name in names if (match := _SOC.match(name))]
        return found[-1] if found else None

    @property
    def name(self) -> str | None:
        text = self.disk.text("/proc/device-tree/model")
        return None if isinstance(text, Absent) else text or None

    @property
    def arm(self) -> bool:
        text = self.disk.text("/proc/cpuinfo")
        return not isinstance(text, Absent) and "CPU implementer" in text

    @property
    def docker(self) -> bool:
        return self.disk.exists("/.dockerenv")

    @property
    def container(self) -> bool:
        return self.docker or self.disk.exists("/run/.containerenv")

    @property
    def kernel(self) -> str | None:
        """The kernel's release, like 6.1.43-rockchip-rk3588."""
        text = self.disk.text("/proc/version")
        found = None if isinstance(text, Absent) else re.match(r"Linux version (\S+)", text)
        return found[1] if found else None

    @cached_property
    def npu_nodes(self) -> list[str]:
        """The device nodes that are the NPU's by what the kernel says of them."""
        names = [name for name in self.disk.names("/sys/class/drm") if _NODE.fullmatch(name)]
        nodes = [f"/dev/dri/{name}" for name in names if self._is_npu(name)]
        return nodes + (["/dev/rknpu"] if self.disk.exists("/dev/rknpu") else [])

    def _is_npu(self, drm_name: str) -> bool:
        """By its driver; a driver built for a mainline kernel leaves the uevent empty, and then the
        device's place says it."""
        text = self.disk.text(f"/sys/class/drm/{drm_name}/device/uevent")
        said = "" if isinstance(text, Absent) else text.lower()
        place = self.disk.place(f"/sys/class/drm/{drm_name}")
        return "rknpu" in said or bool(re.search(r"(\.|rk)npu", place))

    @property
    def render_nodes(self) -> list[str]:
        """Every render node, whosever it is."""
        names = self.disk.names("/dev/dri")
        return [f"/dev/dri/{name}" for name in names if name.startswith("renderD")]

    @property
    def vendor_driver(self) -> bool:
        """Whether the kernel has the vendor's driver, bound to an NPU or not."""
        places = ("/sys/module/rknpu", "/sys/bus/platform/drivers/RKNPU")
        return bool(self.npu_nodes) or any(map(self.disk.exists, places))

    @property
    def bound(self) -> bool:
        """Whether the vendor's driver drives an NPU."""
        names = self.disk.names("/sys/bus/platform/drivers/RKNPU")
        return bool(self.npu_nodes) or any("npu" in name for name in names)

    @property
    def rocket(self) -> bool:
        """Whether the mainline kernel's driver has the NPU."""
        places = ("/sys/module/rocket", "/sys/bus/platform/drivers/rocket", "/dev/accel/accel0")
        return any(map(self.disk.exists, places))

    @cached_property
    def driver(self) -> Version | Absent:
        """The NPU driver's version."""
        texts = [self.disk.text(path) for path in _DRIVERS]
        said = [text.partition("driver:")[2] or text for text in texts if isinstance(text, str)]
        versions = [version for text in said if (version := parse_version(text.strip()))]
        if versions:
            return versions[0]
        return Absent.MISSING if set(texts) == {Absent.MISSING} else Absent.UNREADABLE

    @cached_property
    def library(self) -> Library:
        return self.library_at(LIBRARY)

    def library_at(self, path: str) -> Library:
        data = self.disk.read(path, _LIBRARY_LIMIT)
        if isinstance(data, Absent):
            return Library(data)
        arm64 = data.startswith(_ARM64_ELF[0]) and data[18:20] == _ARM64_ELF[1]
        found = VERSION_MARK.search(data)
        version = parse_version(found[1].decode("ascii", "replace")) if found else None
        return Library(None, arm64, version)

    @property
    def other_libraries(self) -> list[str]:
        """Copies of the library where rknn-toolkit-lite2 does not look."""
        return [path for path in _ELSEWHERE if self.library_at(path).arm64]

    @property
    def frequency(self) -> Frequency | None:
        """None where the kernel shows no NPU clock."""
        names = [n for n in self.disk.names("/sys/class/devfreq") if re.search(r"\.(rk)?npu$", n)]
        if not names:
            return None
        folder = f"/sys/class/devfreq/{names[0]}"
        governor = self.disk.text(f"{folder}/governor")
        hz = [self._number(f"{folder}/{name}") for name in ("cur_freq", "max_freq")]
        return Frequency(folder, None if isinstance(governor, Absent) else governor, *hz)

    def _number(self, path: str) -> int | None:
        text = self.disk.text(path)
        return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None

    @property
    def available_bytes(self) -> int | None:
        """The memory that programs can still take."""
        text = self.disk.text("/proc/meminfo")
        found = isinstance(text, str) and re.search(r"MemAvailable:\s+(\d{1,15}) kB", text)
        return int(found[1]) * 1024 if found else None


def npu_load(root: Path = Path("/")) -> list[float] | None:
    """How busy each NPU core is, in percent; None where that cannot be read, as without root."""
    disk = Disk(root)
    for path in _LOADS:
        text = disk.text(path)
        if isinstance(text, str):
            percents = re.findall(r"(\d{1,3})%", text)
            return [float(percent) for percent in percents] or None
    return None
