"""What doctor says of recorded boards."""

from pathlib import Path

import pytest

from runtime.doctor.checks import examine
from runtime.doctor.model import CompiledModel
from runtime.doctor.version import parse_version


def model_of(target="rk3588", toolkit="2.5.0", **facts):
    return CompiledModel(Path("m.rknn"), 4_000_000, 0.0, target, parse_version(toolkit), **facts)


def by_state(findings, state):
    return [finding for finding in findings if finding.state == state]


def only(findings, check):
    (finding,) = (finding for finding in findings if finding.check == check)
    return finding


def test_a_healthy_board(recorded):
    findings = examine(recorded("orangepi-5-plus"), model_of(), ["/dev/video0"])
    assert {finding.state for finding in findings} == {"ok"}
    assert [finding.fix for finding in findings] == [None] * len(findings)
    said = {finding.check: finding.what for finding in findings}
    assert said == {
        "soc": "RK3588, RK3588 OPi 5 Plus",
        "kernel": "6.1.43-rockchip-rk3588, with the vendor's driver rknpu",
        "node": "orangepi may open /dev/dri/card1, /dev/dri/renderD129",
        "library": "librknnrt 2.5.0, the model needs 2.5.0",
        "package": "rknn-toolkit-lite2 2.5.0, Python 3.11",
        "driver": "rknpu 0.9.8",
        "frequency": "governor performance, 1000 of 1000 MHz",
        "model": "m.rknn is built for rk3588, by toolkit 2.5.0",
        "memory": "6068 MB available",
        "time": "2026-09-21 14:13 UTC, synchronized",
        "camera": "/dev/video0 (USB 2.0 Camera: USB Camera)",
    }


FAULTS = [
    pytest.param(
        "mainline",
        model_of(),
        "kernel",
        "6.18.2-edge-rockchip64 is a mainline kernel; librknnrt cannot use its driver, rocket",
        "vendor kernel 5.10 or 6.1",
        id="mainline-kernel",
    ),
    pytest.param(
        "missing-library",
        model_of(toolkit="2.3.2"),
        "library",
        "/usr/lib/librknnrt.so is missing",
        "download version 2.3.2 or newer, rknpu2/runtime/Linux/librknn_api/aarch64/librknnrt.so of"
        " https://github.com/airockchip/rknn-toolkit2",
        id="missing-library",
    ),
    pytest.param(
        "missing-library",
        None,
        "library",
        "/usr/lib/librknnrt.so is missing",
        "download the version of the toolkit that built your model or newer",
        id="missing-library-and-no-model",
    ),
    pytest.param(
        "old-library",
        model_of(),
        "library",
        "librknnrt 1.4.0 is older than 2.5.0, the toolkit that built the model",
        "download version 2.5.0 or newer",
        id="library-older-than-the-model",
    ),
    pytest.param(
        "no-permission",
        model_of(),
        "node",
        "radxa may not open /dev/dri/renderD129 (crw-rw----, group render)",
        "sudo usermod -aG render radxa, then log out and in",
        id="no-permission",
    ),
    pytest.param(
        "rk3566",
        model_of("rk3588"),
        "model",
        "m.rknn is built for rk3588, this is a rk3566",
        "convert it again with --target rk3566",
        id="wrong-soc",
    ),
    pytest.param(
        "rk3576",
        model_of("rk3588", "2.3.2"),
        "model",
        "m.rknn is built for rk3588, this is a rk3576",
        "--target rk3576",
        id="wrong-soc-rk3576",
    ),
    pytest.param(
        "orangepi-5-plus",
        model_of("rv1103"),
        "model",
        "m.rknn is built for rv1103, this is a rk3588",
        "--target rk3588",
        id="model-of-another-family",
    ),
    pytest.param(
        "orangepi-5-plus",
        model_of("rk3588", "2.6.0"),
        "library",
        "librknnrt 2.5.0 is older than 2.6.0, the toolkit that built the model",
        "download version 2.6.0 or newer",
        id="model-newer-than-everything",
    ),
    pytest.param(
        "rk3568-disabled",
        None,
        "kernel",
        "5.10.160-26-rk356x has the vendor's driver rknpu, but it drives no NPU",
        "enable the NPU in the device tree",
        id="npu-disabled",
    ),
    pytest.param(
        "orangepi-5-plus",
        model_of(obstacles=("it is anchor-free",)),
        "model",
        "m.rknn cannot be run: it is anchor-free",
        "convert the .pt or .onnx it was made from",
        id="model-not-ours",
    ),
    pytest.param(
        "orangepi-5-plus",
        CompiledModel(Path("m"), damage="m/model.rknn is not the file manifest.yaml describes"),
        "model",
        "m/model.rknn is not the file manifest.yaml describes",
        "copy it again, or convert it again",
        id="damaged-model",
    ),
]


@pytest.mark.parametrize(("board", "model", "check", "what", "fix"), FAULTS)
def test_the_one_fault_of_a_board(recorded, board, model, check, what, fix):
    (fault,) = by_state(examine(recorded(board), model), "fault")
    assert (fault.check, fault.what) == (check, what)
    assert fix in fault.fix


@pytest.mark.parametrize(
    ("board", "what"),
    [
        ("pc", "not a Rockchip board"),
        ("raspberry-pi", "not a Rockchip board but raspberrypi,5-model-b, brcm,bcm2712"),
    ],
)
def test_another_machine_is_told_in_one_line(recorded, board, what):
    (finding,) = examine(recorded(board), model_of())
    assert (finding.check, finding.state, finding.what) == ("soc", "fault", what)


def test_a_rockchip_board_without_a_known_npu(recorded):
    board = recorded("orangepi-5-plus")
    tree = board.disk.at("/proc/device-tree/compatible")
    tree.write_bytes(b"pine64,rockpro64-v2.1\0pine64,rockpro64\0rockchip,rk3399\0")
    (finding,) = examine(board, None)
    assert finding.what == "RK3399 has no NPU that rkyolo knows"
    assert "RK3588" in finding.fix


def test_a_container_without_any_flag(recorded):
    faults = by_state(examine(recorded("container"), model_of()), "fault")
    assert [finding.check for finding in faults] == ["soc", "node", "library"]
    assert "--security-opt systempaths=unconfined --device /dev/dri" in faults[0].fix
    assert faults[1].what == "the container has no node of the NPU"
    assert "-v /usr/lib/librknnrt.so:/usr/lib/librknnrt.so" in faults[2].fix


@pytest.mark.parametrize(
    ("soc", "target"), [("rk3566", "rk3568"), ("rk3566", "rk3566")], ids=["twin", "same"]
)
def test_models_that_run_here(recorded, soc, target):
    finding = only(examine(recorded(soc), model_of(target)), "model")
    assert finding.state == "ok"


def test_a_board_with_warnings_only(recorded):
    findings = examine(recorded("old-library"), model_of(toolkit="1.4.0+c3f2b2d8"))
    assert by_state(findings, "fault") == []
    said = {finding.check: finding.what for finding in by_state(findings, "warning")}
    assert said == {
        "driver": "rknpu 0.8.2 is older than 0.9.6; newer models may not run",
        "frequency": "governor rknpu_ondemand, 600 of 1000 MHz",
        "memory": "only 392 MB available",
        "time": "2026-09-21 14:13 UTC, not synchronized since the start",
    }
    governor = only(findings, "frequency").fix
    assert "echo performance | sudo tee /sys/class/devfreq/fdab0000.npu/governor" in governor


def test_a_copy_of_a_board_says_nothing_of_this_process(recorded):
    findings = examine(recorded("orangepi-5-plus", live=False), model_of())
    assert {finding.check for finding in findings}.isdisjoint({"package", "time"})


@pytest.mark.parametrize(
    "board", ["orangepi-5-plus", "no-permission", "mainline", "pc", "container", "rk3566"]
)
def test_every_fault_and_warning_names_a_fix(recorded, board):
    findings = examine(recorded(board), model_of(), ["/dev/video0", "/dev/video9"])
    wrong = [finding for finding in findings if finding.state in ("fault", "warning")]
    assert wrong
    assert all(finding.fix for finding in wrong)
