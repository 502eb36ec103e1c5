"""The checks in the order they are made, and what they say together."""

from collections.abc import Callable, Sequence

from runtime.doctor.board import Board
from runtime.doctor.disk import Absent
from runtime.doctor.finding import Finding
from runtime.doctor.model import CompiledModel
from runtime.doctor.nodes import check_node
from runtime.doctor.npu import (
    SOCS,
    check_clock_rate,
    check_driver,
    check_kernel,
    check_soc,
)
from runtime.doctor.software import check_library, check_model, check_package
from runtime.doctor.surroundings import check_camera, check_memory, check_time

Check = Callable[[Board, CompiledModel | None], list[Finding]]

CHECKS: tuple[Check, ...] = (
    check_soc,
    check_kernel,
    check_node,
    check_library,
    check_package,
    check_driver,
    check_clock_rate,
    check_model,
    check_memory,
    check_time,
)
"""Each says nothing, one thing or several; nothing where an earlier one has said it all."""


def examine(
    board: Board, model: CompiledModel | None = None, cameras: Sequence[str] = ()
) -> list[Finding]:
    """Every check's findings; on a machine that is no Rockchip board only that it is none."""
    if not _worth_a_look(board):
        return check_soc(board, model)
    findings = [finding for check in CHECKS for finding in check(board, model)]
    return findings + [check_camera(board, path) for path in cameras]


def _worth_a_look(board: Board) -> bool:
    """Whether this can be a board with an NPU, also from inside a container that hides it."""
    hidden = board.arm and board.container and isinstance(board.compatible, Absent)
    return board.soc in SOCS or hidden
