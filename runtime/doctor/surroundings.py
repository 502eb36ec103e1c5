"""Checks of what is around the NPU: memory, cameras, the system's time."""

import stat
from datetime import datetime, timezone

from runtime.doctor.board import Board
from runtime.doctor.disk import Absent
from runtime.doctor.finding import Finding
from runtime.doctor.model import CompiledModel
from runtime.doctor.user import group_name

_LOW_MEMORY = 512 * 2**20
_SOFTWARE_IS_OF = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""This software is younger, so a system that thinks it is earlier is wrong."""
_DAY_S = 86400.0
_SET_TIME = "set the time: sudo timedatectl set-ntp true, with a network or a battery for the clock"


def check_memory(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That there is room for the model and for pictures."""
    free = board.available_bytes
    if free is None:
        return [Finding("memory", "unknown", "/proc/meminfo does not say what is available")]
    what = f"{free // 2**20} MB available"
    if model and free < model.size:
        what += f", the model alone has {model.size // 2**20} MB"
        return [Finding("memory", "fault", what, "end other programs, or use a smaller model")]
    if free < _LOW_MEMORY:
        fix = "end other programs, or start without a desktop"
        return [Finding("memory", "warning", f"only {what}", fix)]
    return [Finding("memory", "ok", what)]


def check_camera(board: Board, path: str) -> Finding:
    """That the user can open a V4L2 camera."""
    facts = board.disk.stat(path)
    if isinstance(facts, Absent):
        there = [name for name in board.disk.names("/dev") if name.startswith("video")]
        known = f"those there are {', '.join(there)}" if there else "there is no camera at all"
        fix = "plug it in; a container needs --device for it"
        return Finding("camera", "fault", f"{path} is not there; {known}", fix)
    if stat.S_ISDIR(facts.st_mode) or (board.disk.live and not stat.S_ISCHR(facts.st_mode)):
        what, fix = f"{path} is no device", "give a camera's node, like --camera /dev/video0"
        return Finding("camera", "fault", what, fix)
    if board.user.may_use(board.disk, path):
        name = board.disk.text(f"/sys/class/video4linux/{path.rpartition('/')[2]}/name")
        shown = "" if isinstance(name, Absent) else f" ({name})"
        return Finding("camera", "ok", f"{path}{shown}")
    group = group_name(board.disk, facts.st_gid) or "video"
    fix = f"sudo usermod -aG {group} {board.user.name}, then log out and in"
    if board.container:
        fix = f"start the container with --group-add {facts.st_gid}"
    mode = stat.filemode(facts.st_mode)
    return Finding("camera", "fault", f"{path} may not be opened ({mode}, group {group})", fix)


def check_time(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That the system's time can be right: certificates and recordings depend on it."""
    if board.process is None:
        return []
    now = board.process.now()
    shown = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    if now < _SOFTWARE_IS_OF.timestamp():
        what = f"it is {shown} here, which is before this software was made"
        return [Finding("time", "warning", what, _SET_TIME)]
    if model and now + _DAY_S < model.changed_at:
        what = f"it is {shown} here, which is before the model was written"
        return [Finding("time", "warning", what, _SET_TIME)]
    if board.disk.exists("/run/systemd/timesync/synchronized"):
        return [Finding("time", "ok", f"{shown}, synchronized")]
    if board.disk.names("/run/chrony"):
        return [Finding("time", "ok", f"{shown}, kept by chrony")]
    if board.container:
        return [Finding("time", "unknown", f"{shown}; the board keeps it, not the container")]
    return [Finding("time", "warning", f"{shown}, not synchronized since the start", _SET_TIME)]
