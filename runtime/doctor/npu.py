"""Checks of the NPU: the SoC, the kernel, its driver, its clock."""

from typing import get_args

from runtime.doctor.board import Board
from runtime.doctor.disk import Absent
from runtime.doctor.finding import Finding
from runtime.doctor.model import CompiledModel
from runtime.doctor.nodes import CONTAINER_FLAGS
from runtime.doctor.version import parse_version
from runtime.manifest import Target

SOCS = get_args(Target)
"""The SoCs there are models for."""

_OLDEST_DRIVER = parse_version("0.9.6")
_VENDOR_KERNEL = (
    "install an image with Rockchip's vendor kernel 5.10 or 6.1: the board maker's own, or one of"
    " Armbian's vendor branch (armbian-config, System, Kernels)"
)


def check_soc(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That this is a board rkyolo has models for."""
    if board.soc in SOCS:
        name = f", {board.name}" if board.name else ""
        return [Finding("soc", "ok", f"{board.soc.upper()}{name}")]
    if board.soc:
        return [
            Finding(
                "soc",
                "fault",
                f"{board.soc.upper()} has no NPU that rkyolo knows",
                f"use a board with one of {', '.join(SOCS).upper()}",
            )
        ]
    if board.arm and board.container and isinstance(board.compatible, Absent):
        what = "the container hides /proc/device-tree/compatible, which names the SoC"
        return [Finding("soc", "fault", what, CONTAINER_FLAGS)]
    if board.compatible is Absent.UNREADABLE:
        what = "/proc/device-tree/compatible, which names the SoC, cannot be read"
        return [Finding("soc", "fault", what, "run doctor as a user who may read it, or as root")]
    names = "" if isinstance(board.compatible, Absent) else f" but {', '.join(board.compatible)}"
    fix = "run doctor on the board; on a PC rkyolo detect runs models without an NPU"
    return [Finding("soc", "fault", f"not a Rockchip board{names}", fix)]


def check_kernel(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That the kernel is one that librknnrt can speak to."""
    release = board.kernel or "of unknown release"
    if board.bound:
        return [Finding("kernel", "ok", f"{release}, with the vendor's driver rknpu")]
    if board.rocket:
        what = f"{release} is a mainline kernel; librknnrt cannot use its driver, rocket"
        return [Finding("kernel", "fault", what, _VENDOR_KERNEL)]
    if board.vendor_driver:
        what = f"{release} has the vendor's driver rknpu, but it drives no NPU"
        fix = (
            "enable the NPU in the device tree (on Radxa boards: sudo rsetup, Overlays), start"
            " again, and read sudo dmesg | grep -i rknpu"
        )
        return [Finding("kernel", "fault", what, fix)]
    if not board.disk.names("/sys"):
        return [Finding("kernel", "unknown", f"{release}; /sys, which says more, is not there")]
    what = f"{release} has no NPU driver: it is a mainline kernel, or built without rknpu"
    return [Finding("kernel", "fault", what, _VENDOR_KERNEL)]


def check_driver(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That the driver is new enough."""
    if not board.bound:
        return []
    if board.driver is Absent.MISSING:
        return [Finding("driver", "unknown", "the kernel does not show the driver's version")]
    if board.driver is Absent.UNREADABLE:
        return [Finding("driver", "unknown", "the driver's version is not readable without root")]
    if board.driver < _OLDEST_DRIVER:
        what = f"rknpu {board.driver} is older than {_OLDEST_DRIVER}; newer models may not run"
        return [Finding("driver", "warning", what, "update the vendor kernel, the driver is in it")]
    return [Finding("driver", "ok", f"rknpu {board.driver}")]


def check_clock_rate(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That the NPU runs at its full clock."""
    clock = board.frequency
    if clock is None:
        what = "the kernel does not show the NPU's clock"
        return [Finding("frequency", "unknown", what)] if board.bound else []
    if clock.governor is None:
        return [Finding("frequency", "unknown", f"{clock.folder}/governor cannot be read")]
    what = f"governor {clock.governor}"
    if clock.now_hz and clock.max_hz:
        what += f", {clock.now_hz // 10**6} of {clock.max_hz // 10**6} MHz"
    if clock.governor == "performance":
        return [Finding("frequency", "ok", what)]
    fix = f"echo performance | sudo tee {clock.folder}/governor (until the next start)"
    return [Finding("frequency", "warning", what, fix)]
