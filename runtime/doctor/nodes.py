"""The check of the NPU's device nodes: that they are there, and that the user can open them."""

import os
import stat

from runtime.doctor.board import VENDOR_NODE, Board
from runtime.doctor.disk import Absent
from runtime.doctor.finding import Finding
from runtime.doctor.model import CompiledModel
from runtime.doctor.user import group_name, groups_of

CONTAINER_FLAGS = (
    "start the container with --security-opt systempaths=unconfined --device /dev/dri"
    " -v /usr/lib/librknnrt.so:/usr/lib/librknnrt.so"
)
"""Docker hides /sys/firmware, where /proc/device-tree leads, unless systempaths are unconfined."""


def check_node(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That the user can open the NPU's device nodes."""
    if not board.bound and not board.container:
        return []  # the kernel's own check says it all
    nodes = [node for node in board.npu_nodes if board.disk.exists(node)] or board.render_nodes
    if not nodes:
        return [_no_node(board)]
    if board.docker and not board.disk.exists(VENDOR_NODE):
        return [_other_name(nodes)]
    if board.disk.is_link("/dev/rknpu"):
        what = "/dev/rknpu is a link, which leads librknnrt to speak to the node in the wrong way"
        fix = "sudo rm /dev/rknpu, and remove the udev rule that makes it"
        return [Finding("node", "fault", what, fix)]
    denied = [finding for node in nodes if (finding := _denied(board, node))]
    if denied:
        return denied
    return [Finding("node", "ok", f"{_who(board)} may open {', '.join(nodes)}")]


def _no_node(board: Board) -> Finding:
    if board.container:
        return Finding("node", "fault", "the container has no node of the NPU", CONTAINER_FLAGS)
    fix = "sudo dmesg | grep -i rknpu says why; ls -l /dev/dri shows what there is"
    return Finding("node", "fault", "the NPU has no node in /dev/dri", fix)


def _other_name(nodes: list[str]) -> Finding:
    node = next((node for node in nodes if "renderD" in node), nodes[0])
    what = f"the NPU is {node}, but in Docker rknn-toolkit-lite2 wants it as {VENDOR_NODE}"
    fix = f"start the container with --device /dev/dri --device {node}:{VENDOR_NODE}"
    return Finding("node", "fault", what, fix)


def _denied(board: Board, node: str) -> Finding | None:
    """What keeps the user from a node. A card node is a warning: librknnrt asks for it first, and
    which of the two it goes on with differs between its versions."""
    facts = board.disk.stat(node)
    if board.disk.is_folder(node):
        what = f"{node} is a folder: the container was started when the device was not there"
        return Finding("node", "fault", what, "remove the folder on the board, start it again")
    if isinstance(facts, Absent) or board.user.may_use(board.disk, node):
        return None
    group = group_name(board.disk, facts.st_gid)
    shown = f"{stat.filemode(facts.st_mode)}, group {group or facts.st_gid}"
    return Finding(
        "node",
        "warning" if "/card" in node else "fault",
        f"{_who(board)} may not open {node} ({shown})",
        _permission_fix(board, node, facts, group),
    )


def _permission_fix(board: Board, node: str, facts: os.stat_result, group: str | None) -> str:
    """How the user gets to a node, by what its mode and the group's list say."""
    if board.container:
        return f"start the container with --group-add {facts.st_gid}"
    if facts.st_mode & 0o060 != 0o060 or group in (None, "root"):
        kernel = node.rpartition("/")[2]
        rule = f'KERNEL=="{kernel}", GROUP="render", MODE="0660"'
        return (
            f"echo '{rule}' | sudo tee /etc/udev/rules.d/99-rknpu.rules; sudo udevadm trigger;"
            f" sudo usermod -aG render {board.user.name}"
        )
    if facts.st_gid in groups_of(board.disk, board.user.name):
        return f"the group {group} is given but not yet in force: log out and in, or start again"
    return f"sudo usermod -aG {group} {board.user.name}, then log out and in"


def _who(board: Board) -> str:
    return "this user" if board.user.name.startswith("$") else board.user.name
