"""The checks one by one, on boards changed for each."""

import shutil
from pathlib import Path

import pytest

from runtime.doctor.board import npu_load
from runtime.doctor.disk import Absent
from runtime.doctor.model import CompiledModel
from runtime.doctor.nodes import check_node
from runtime.doctor.npu import check_clock_rate, check_driver, check_kernel, check_soc
from runtime.doctor.software import check_library, check_package
from runtime.doctor.surroundings import check_camera, check_memory, check_time
from runtime.doctor.version import parse_version

HEALTHY = "orangepi-5-plus"
LIBRARY = "/usr/lib/librknnrt.so"
MODEL = CompiledModel(Path("m"), 4_000_000, 0.0, "rk3588", parse_version("2.5.0"))
DEBUG = ("/sys/kernel/debug",)


def set_group(board, line):
    path = board.disk.at("/etc/group")
    name = line.partition(":")[0]
    kept = [old for old in path.read_text().splitlines() if not old.startswith(f"{name}:")]
    path.write_text("\n".join([*kept, line]) + "\n")


# ---- the SoC


@pytest.mark.parametrize(
    ("compatible", "soc"),
    [
        (b"xunlong,orangepi-5\0rockchip,rk3588s\0", "rk3588"),
        (b"rockchip,rk3588-evb7-lp4-v10\0rockchip,rk3588\0", "rk3588"),
        (b"radxa,rock-5c\0rockchip,rk3588s\0", "rk3588"),
        (b"rockchip,rk3566-firefly-roc-pc\0rockchip,rk3566", "rk3566"),
        (b"rockchip,rk3562-evb\0rockchip,rk3562\0", "rk3562"),
        (b"rockchip,rv1126-evb\0rockchip,rv1126\0", "rv1126"),
        (b"rockchip,rk3568-based\0rockchip,rk3566\0", "rk3566"),  # the general name is the last
        (b"acme,rk3588-lookalike\0", None),
        (b"", None),
        (b"\xff\xfe\0\0\0", None),
    ],
)
def test_soc_of_a_device_tree(recorded, compatible, soc):
    board = recorded(HEALTHY)
    board.disk.at("/proc/device-tree/compatible").write_bytes(compatible)
    assert board.soc == soc


def test_a_device_tree_that_cannot_be_read(recorded):
    board = recorded(HEALTHY, hidden=("/proc/device-tree/compatible",))
    (finding,) = check_soc(board, None)
    assert finding.state == "fault"
    assert finding.what == "/proc/device-tree/compatible, which names the SoC, cannot be read"


# ---- the kernel


def test_the_vendors_driver_on_a_mainline_kernel_is_fine(recorded):
    board = recorded("mainline")
    device = board.disk.at("/sys/devices/platform/rknpu_dev.1.auto/drm/renderD129")
    device.mkdir(parents=True)
    link = board.disk.at("/sys/class/drm/renderD129")
    link.symlink_to("../../devices/platform/rknpu_dev.1.auto/drm/renderD129")
    assert board.npu_nodes == ["/dev/dri/renderD129"]
    (finding,) = check_kernel(board, None)
    assert finding.state == "ok"


def test_a_kernel_without_any_npu_driver(recorded):
    board = recorded("raspberry-pi")
    board.disk.at("/sys/class").mkdir(parents=True)
    (finding,) = check_kernel(board, None)
    assert finding.what.startswith("6.6.51+rpt-rpi-2712 has no NPU driver")
    assert (finding.state, "vendor kernel" in finding.fix) == ("fault", True)


def test_without_sys_the_kernel_is_unknown(recorded):
    board = recorded("raspberry-pi")
    board.disk.at("/proc/version").unlink()
    (finding,) = check_kernel(board, None)
    assert (finding.state, finding.what.startswith("of unknown release")) == ("unknown", True)


# ---- nodes


def test_without_the_video_group_is_a_warning(recorded):
    board = recorded(HEALTHY)
    set_group(board, "video:x:44:")
    (finding,) = check_node(recorded(HEALTHY), None)
    assert finding.state == "warning"
    assert finding.what == "orangepi may not open /dev/dri/card1 (crw-rw----, group video)"
    assert finding.fix == "sudo usermod -aG video orangepi, then log out and in"


def test_a_group_that_is_not_in_force_yet(recorded):
    old = recorded("no-permission")
    set_group(old, "render:x:107:radxa")
    (finding,) = check_node(old, None)
    assert finding.state == "fault"
    assert finding.fix.startswith("the group render is given but not yet in force: log out and in")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("crw------- root render /dev/dri/renderD129", "the group may not"),
        ("crw-rw---- root root /dev/dri/renderD129", "the group is root's"),
    ],
)
def test_a_node_that_no_group_opens_gets_a_rule(recorded, row, reason):
    board = recorded(HEALTHY)
    path = board.disk.at("/dev.list")
    lines = [line for line in path.read_text().splitlines() if "renderD129" not in line]
    path.write_text("\n".join([*lines, row]))
    (finding,) = check_node(recorded(HEALTHY), None)
    assert finding.state == "fault", reason
    assert """KERNEL=="renderD129", GROUP="render", MODE="0660"'""" in finding.fix
    assert finding.fix.endswith("sudo usermod -aG render orangepi")


def test_root_may_open_everything(recorded):
    board = recorded("no-permission")
    with board.disk.at("/etc/passwd").open("a") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")
    (finding,) = check_node(recorded("no-permission", user="root"), None)
    assert finding.state == "ok"


def test_a_link_in_place_of_the_old_node(recorded):
    board = recorded(HEALTHY)
    board.disk.at("/dev").mkdir()
    board.disk.at("/dev/rknpu").symlink_to("dri/renderD129")
    (finding,) = check_node(board, None)
    assert finding.state == "fault"
    assert finding.fix.startswith("sudo rm /dev/rknpu")


def test_a_folder_in_place_of_a_node(recorded):
    board = recorded(HEALTHY)
    del board.disk.nodes["/dev/dri/renderD129"]
    board.disk.at("/dev/dri/renderD129").mkdir(parents=True)
    (finding,) = check_node(board, None)
    assert finding.what.startswith("/dev/dri/renderD129 is a folder")


def test_no_node_at_all(recorded):
    board = recorded(HEALTHY)
    board.disk.nodes.clear()
    (finding,) = check_node(board, None)
    assert (finding.state, finding.what) == ("fault", "the NPU has no node in /dev/dri")


def test_a_board_without_a_display_has_the_npu_as_the_first_node(recorded):
    board = recorded(HEALTHY)
    drm = board.disk.at("/sys/class/drm")
    shutil.rmtree(drm / "renderD128")
    (drm / "renderD129").rename(drm / "renderD128")
    del board.disk.nodes["/dev/dri/renderD129"]
    (finding,) = check_node(board, None)
    assert (finding.state, finding.what) == (
        "ok",
        "orangepi may open /dev/dri/card1, /dev/dri/renderD128",
    )


def test_docker_with_the_npu_under_another_name(recorded):
    board = recorded("container")
    board.disk.nodes["/dev/dri/renderD128"] = (0o666, "root", "render")
    (finding,) = check_node(board, None)
    assert finding.fix == (
        "start the container with --device /dev/dri"
        " --device /dev/dri/renderD128:/dev/dri/renderD129"
    )


def test_docker_without_the_group(recorded):
    board = recorded("container")
    board.disk.nodes["/dev/dri/renderD129"] = (0o660, "root", "render")
    (finding,) = check_node(board, None)
    assert (finding.state, finding.fix) == ("fault", "start the container with --group-add 107")


# ---- the library


def test_a_library_without_a_version(recorded):
    board = recorded(HEALTHY)
    path = board.disk.at(LIBRARY)
    path.write_bytes(path.read_bytes().replace(b"librknnrt version", b"something else"))
    (finding,) = check_library(board, MODEL)
    assert (finding.state, finding.what) == ("unknown", f"{LIBRARY} does not say its version")
    assert "download version 2.5.0 or newer" in finding.fix


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"",
        b"\x7fELF\x01\x01\x01\0" + b"\0" * 8 + b"\x03\0\x28\0" + b"librknnrt version: 2.5.0 (x)",
        b"\x7fELF\x02\x01\x01\0" + b"\0" * 8 + b"\x03\0\x3e\0" + b"librknnrt version: 2.5.0 (x)",
    ],
    ids=["page", "lfs", "empty", "arm32", "x86"],
)
def test_a_file_that_is_no_arm_library(recorded, content):
    board = recorded(HEALTHY)
    board.disk.at(LIBRARY).write_bytes(content)
    (finding,) = check_library(board, None)
    assert finding.state == "fault"
    assert "is no 64-bit ARM library" in finding.what


def test_a_library_that_cannot_be_read(recorded):
    (finding,) = check_library(recorded(HEALTHY, hidden=(LIBRARY,)), None)
    assert (finding.state, finding.what) == ("fault", f"{LIBRARY} cannot be read")
    assert finding.fix == f"sudo chmod 644 {LIBRARY}"


@pytest.mark.parametrize("folder", ["/usr/lib64", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib"])
def test_a_library_where_the_package_does_not_look(recorded, folder):
    board = recorded(HEALTHY)
    board.disk.at(folder).mkdir(parents=True, exist_ok=True)
    board.disk.at(LIBRARY).rename(board.disk.at(f"{folder}/librknnrt.so"))
    (finding,) = check_library(board, None)
    assert finding.state == "fault"
    assert finding.fix == f"sudo ln -s {folder}/librknnrt.so {LIBRARY}"


@pytest.mark.parametrize(
    ("path", "there"), [("/opt/none.so", ", where there is nothing"), (LIBRARY, "")]
)
def test_a_variable_that_nobody_reads(recorded, path, there):
    board = recorded(HEALTHY, process=recorded.process(environ={"LIBRKNNRT_PATH": path}))
    library, variable = check_library(board, MODEL)
    assert library.state == "ok"
    assert variable.state == "warning"
    assert variable.what == (
        f"LIBRKNNRT_PATH is set to {path}{there}; rknn-toolkit-lite2 does not read it"
    )


def test_a_variable_that_names_another_library(recorded):
    environ = {"RKYOLO_LIBRKNNRT": "/opt/mine.so"}
    library, variable = check_library(
        recorded(HEALTHY, process=recorded.process(environ=environ)), MODEL
    )
    assert (library.state, variable.state) == ("ok", "warning")
    assert "RKYOLO_LIBRKNNRT makes backend rknnrt take /opt/mine.so" in variable.what


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.6.0", "2.0.0b0"),
        ("2.0.0b0", "2.0.0"),
        ("2.0.0b0", "2.0.0b1"),
        ("2.3.2", "2.10.0"),
        ("v0.9.2", "v0.9.10"),
        ("1.5.2+b642f30c", "1.6"),
    ],
)
def test_versions_in_order(older, newer):
    assert parse_version(older) < parse_version(newer)


@pytest.mark.parametrize("text", ["", "unknown", "two.three", "2", "-1.0.0"])
def test_no_versions(text):
    assert parse_version(text) is None


# ---- the package


@pytest.mark.parametrize(
    ("packages", "python", "state", "fix"),
    [
        ({}, (3, 11), "warning", "python3 -m pip install 'rknn-toolkit-lite2>=2.5.0'"),
        ({"rknn-toolkit-lite2": "2.3.2"}, (3, 12), "warning", "'rknn-toolkit-lite2>=2.5.0'"),
        ({"rknn-toolkit-lite2": "2.5.0"}, (3, 13), "fault", "Python 3.10, 3.11 or 3.12"),
        ({"rknn-toolkit-lite2": "2.5.0"}, (3, 10), "ok", None),
        ({"rknn-toolkit-lite2": "local"}, (3, 10), "ok", None),
    ],
    ids=["missing", "old", "python-too-new", "fine", "unknown-version"],
)
def test_the_vendors_package(recorded, packages, python, state, fix):
    board = recorded(HEALTHY, process=recorded.process(packages=packages, python=python))
    (finding,) = check_package(board, MODEL)
    assert finding.state == state
    assert finding.fix is None if fix is None else fix in finding.fix


# ---- driver, clock, load


def test_without_root_the_driver_is_still_known(recorded):
    board = recorded(HEALTHY, hidden=DEBUG)
    (finding,) = check_driver(board, None)
    assert (finding.state, finding.what) == ("ok", "rknpu 0.9.8")


@pytest.mark.parametrize(
    ("version", "state"), [("0.9.5", "warning"), ("0.9.6", "ok"), ("0.9.10", "ok")]
)
def test_drivers_old_and_new(recorded, version, state):
    board = recorded(HEALTHY)
    board.disk.at("/sys/module/rknpu/version").write_text(f"{version}\n")
    (finding,) = check_driver(board, None)
    assert finding.state == state


def test_a_driver_version_for_root_only_is_no_fault(recorded):
    (finding,) = check_driver(recorded("rk3576", hidden=DEBUG), None)
    assert finding.state == "unknown"
    assert finding.what == "the driver's version is not readable without root"


def test_a_kernel_that_does_not_show_its_driver(recorded):
    board = recorded("rk3576")
    board.disk.at("/sys/kernel/debug/rknpu/version").unlink()
    (finding,) = check_driver(board, None)
    assert finding.what == "the kernel does not show the driver's version"


def test_a_driver_that_says_nonsense(recorded):
    board = recorded("rk3576")
    board.disk.at("/sys/kernel/debug/rknpu/version").write_text("RKNPU driver: none\n")
    assert board.driver is Absent.UNREADABLE


@pytest.mark.parametrize(
    ("name", "content", "state", "what"),
    [
        ("governor", None, "unknown", "/sys/class/devfreq/fdab0000.npu/governor cannot be read"),
        ("cur_freq", None, "ok", "governor performance"),
        ("cur_freq", "much\n", "ok", "governor performance"),
        ("cur_freq", "300000000\n", "ok", "governor performance, 300 of 1000 MHz"),
    ],
)
def test_the_npus_clock(recorded, name, content, state, what):
    board = recorded(HEALTHY)
    path = board.disk.at(f"/sys/class/devfreq/fdab0000.npu/{name}")
    path.unlink()
    if content is not None:
        path.write_text(content)
    (finding,) = check_clock_rate(board, None)
    assert (finding.state, finding.what) == (state, what)


@pytest.mark.parametrize(
    ("board", "load"),
    [
        ("orangepi-5-plus", [0.0, 37.0, 0.0]),
        ("rk3576", [4.0, 0.0]),
        ("rk3566", [12.0]),
        ("no-permission", None),
        ("pc", None),
    ],
)
def test_the_load_of_the_cores(boards, board, load):
    assert npu_load(boards / board) == load


def test_a_load_that_says_nonsense(tmp_path):
    path = tmp_path / "proc/rknpu/load"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xffNPU load: ?\n")
    assert npu_load(tmp_path) is None
    path.write_text("NPU load:  Core0: 100%, Core1:  7%, Core2:  0%,\n")
    assert npu_load(tmp_path) == [100.0, 7.0, 0.0]


# ---- surroundings


@pytest.mark.parametrize(
    ("kilobytes", "state"),
    [(524288, "ok"), (524287, "warning"), (3906, "fault"), (3907, "warning")],
)
def test_memory(recorded, kilobytes, state):
    board = recorded(HEALTHY)
    board.disk.at("/proc/meminfo").write_text(f"MemAvailable: {kilobytes:>8} kB\n")
    (finding,) = check_memory(board, MODEL)
    assert finding.state == state


@pytest.mark.parametrize("text", ["", "MemAvailable: lots\n"])
def test_memory_that_is_not_said(recorded, text):
    board = recorded(HEALTHY)
    board.disk.at("/proc/meminfo").write_text(text)
    (finding,) = check_memory(board, MODEL)
    assert finding.state == "unknown"


@pytest.mark.parametrize(
    ("now", "changed_at", "state", "what"),
    [
        (0.0, 0.0, "warning", "it is 1970-01-01 00:00 UTC here, which is before this software"),
        (1_767_225_599.0, 0.0, "warning", "it is 2025-12-31 23:59 UTC here, which is before this"),
        (1_767_225_600.0, 0.0, "ok", "2026-01-01 00:00 UTC, synchronized"),
        (1_790_000_000.0, 1_790_086_401.0, "warning", "which is before the model was written"),
        (1_790_000_000.0, 1_790_086_400.0, "ok", "synchronized"),
    ],
)
def test_the_time(recorded, now, changed_at, state, what):
    board = recorded(HEALTHY, process=recorded.process(now=lambda: now))
    (finding,) = check_time(board, CompiledModel(Path("m"), changed_at=changed_at))
    assert finding.state == state
    assert what in finding.what


def test_time_kept_by_chrony_or_outside_a_container(recorded):
    board = recorded("no-permission")
    (finding,) = check_time(board, None)
    assert finding.state == "warning"
    board.disk.at("/run/chrony").mkdir(parents=True)
    board.disk.at("/run/chrony/chronyd.pid").touch()
    (finding,) = check_time(board, None)
    assert finding.state == "ok"
    (finding,) = check_time(recorded("container"), None)
    assert finding.state == "unknown"


def test_a_camera_of_another_group(recorded):
    board = recorded(HEALTHY)
    set_group(board, "video:x:44:")
    finding = check_camera(recorded(HEALTHY), "/dev/video0")
    assert finding.what == "/dev/video0 may not be opened (crw-rw----, group video)"
    assert finding.fix == "sudo usermod -aG video orangepi, then log out and in"


def test_a_camera_that_is_not_there(recorded):
    finding = check_camera(recorded(HEALTHY), "/dev/video7")
    assert finding.what == "/dev/video7 is not there; those there are video0"
    finding = check_camera(recorded("pc"), "/dev/video7")
    assert finding.what == "/dev/video7 is not there; there is no camera at all"


def test_a_camera_that_is_a_folder(recorded):
    finding = check_camera(recorded(HEALTHY), "/usr/lib")
    assert (finding.state, finding.what) == ("fault", "/usr/lib is no device")
