"""rkyolo doctor as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_files import rknn_bytes, rknn_description, rknn_of, write_bundle
from scenes import facts_of

KEYS = ["schema_version", "soc", "board", "kernel", "user", "model", "faults", "warnings"]
FACTS = facts_of(wh=(640, 320), classes=2, activation="sigmoid")
ON_A_BOARD = Path("/proc/device-tree/compatible").exists()


def doctor(*arguments, **options):
    command = [
        sys.executable,
        "-c",
        "from runtime.cli import main; main()",
        "doctor",
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def on(board, *arguments):
    return doctor("--root", board.root, "--user", board.user, *arguments)


def rknn(path, target="rk3588", toolkit="2.5.0"):
    """A compiled model of ours, for another SoC or of another toolkit."""
    outputs = [(head.output, FACTS.head_shape(i)) for i, head in enumerate(FACTS.heads)]
    description = rknn_description(outputs, target)
    description["version"] = f"{toolkit}(compiler version: {toolkit} (e1a2b3c4))"
    path.write_bytes(rknn_bytes(description, FACTS.to_custom_string()))
    return path


def test_a_healthy_board_is_a_table_and_exit_0(built, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", FACTS)
    done = on(built("orangepi-5-plus"), bundle, "--camera", "/dev/video0")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", check]
        for check in "soc kernel node library driver frequency model memory camera".split()
    ]
    assert lines[0] == "ok       soc        RK3588, RK3588 OPi 5 Plus"


@pytest.mark.parametrize(
    ("name", "check", "fix"),
    [
        ("mainline", "kernel", "vendor kernel 5.10 or 6.1"),
        ("missing-library", "library", "download version 2.5.0 or newer"),
        ("old-library", "library", "download version 2.5.0 or newer"),
        ("no-permission", "node", "sudo usermod -aG render radxa, then log out and in"),
        ("rk3566", "model", "convert it again with --target rk3566"),
        ("pc", "soc", "run doctor on the board"),
        ("container", "soc", "--security-opt systempaths=unconfined"),
    ],
)
def test_a_fault_is_named_with_its_fix_and_exit_1(built, tmp_path, name, check, fix):
    done = on(built(name), rknn(tmp_path / "m.rknn"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    index = next(i for i, line in enumerate(lines) if line.split()[:2] == ["fault", check])
    assert lines[index + 1].startswith(" " * 20 + "-> ")
    assert fix in lines[index + 1]
    assert done.stderr.endswith("found a fault\n")
    assert len(done.stderr.splitlines()) == 1


def test_plain_data(built, tmp_path):
    done = on(built("no-permission"), rknn(tmp_path / "m.rknn", toolkit="2.3.0"), "--json")
    assert done.returncode == 1
    plain = json.loads(done.stdout)
    findings = plain.pop("findings")
    assert list(plain) == KEYS
    assert plain == {
        "schema_version": 1,
        "soc": "rk3588",
        "board": "Radxa ROCK 5B",
        "kernel": "6.1.84-8-rk2410",
        "user": "radxa",
        "model": str(tmp_path / "m.rknn"),
        "faults": 1,
        "warnings": 2,
    }
    assert all(list(finding) == ["check", "state", "what", "fix"] for finding in findings)
    wrong = [finding for finding in findings if finding["state"] != "ok"]
    assert [(finding["check"], finding["state"]) for finding in wrong] == [
        ("node", "warning"),
        ("node", "fault"),
        ("frequency", "warning"),
    ]


def test_a_pc_is_one_finding(built):
    plain = json.loads(on(built("pc"), "--json").stdout)
    assert [finding["what"] for finding in plain["findings"]] == ["not a Rockchip board"]
    assert (plain["soc"], plain["board"], plain["model"]) == (None, None, None)


@pytest.mark.skipif(ON_A_BOARD, reason="says what a machine without a device tree is told")
def test_this_machine_itself():
    done = doctor()
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    assert done.stderr == "1 of 1 checks found a fault\n"


@pytest.mark.parametrize(
    ("target", "toolkit", "fault"),
    [
        ("rk3576", "2.5.0", "is built for rk3576, this is a rk3588"),
        ("rk3588", "3.0.0", "librknnrt 2.5.0 is older than 3.0.0, the toolkit that built the"),
        ("rv1126", "2.5.0", "is built for rv1126, this is a rk3588"),
    ],
)
def test_models_that_do_not_fit(built, tmp_path, target, toolkit, fault):
    done = on(built("orangepi-5-plus"), rknn(tmp_path / "m.rknn", target, toolkit))
    assert done.returncode == 1
    assert fault in done.stdout
    assert done.stderr == "1 of 8 checks found a fault\n"


def test_a_toolkit_of_unknown_version_is_no_fault(built, tmp_path):
    done = on(built("orangepi-5-plus"), rknn(tmp_path / "m.rknn", toolkit="nightly"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bundle_whose_file_was_changed(built, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", FACTS)
    with (bundle / "model.rknn").open("ab") as file:
        file.write(b"x")
    done = on(built("orangepi-5-plus"), bundle)
    assert done.returncode == 1
    assert "model.rknn is not the file manifest.yaml describes" in done.stdout


@pytest.mark.parametrize("content", [b"", b"RKNN", b"CYPTRKNN" + b"\0" * 99, rknn_of(FACTS)[:-20]])
def test_a_damaged_model_is_a_fault_and_no_crash(built, tmp_path, content):
    (tmp_path / "m.rknn").write_bytes(content)
    done = on(built("orangepi-5-plus"), tmp_path / "m.rknn")
    assert done.returncode == 1
    assert "fault    model" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.rknn"], "cannot read none.rknn: No such file or directory"),
        (["x" * 5000], "File name too long"),
        (["pipe.rknn"], "pipe.rknn does not run on an NPU: give a bundle folder or a .rknn"),
        (["best.pt"], "best.pt does not run on an NPU: give a bundle folder or a .rknn"),
        (["folder"], "folder is no bundle, it has no manifest.yaml"),
        (["--root", "none"], "--root none is no folder: give a copy of a board's files"),
        (["--root", "folder", "--user", "bob"], "has no user bob"),
        (["--camera", "rtsp://camera"], "--camera rtsp://camera is no device: give one like"),
    ],
)
def test_bad_input_is_a_line_and_exit_2(tmp_path, arguments, message):
    (tmp_path / "best.pt").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.rknn")  # which would block for ever
    root = Path(__file__).resolve().parents[3]
    done = doctor(*arguments, cwd=tmp_path, env={"PYTHONPATH": str(root)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_is_written(built, tmp_path):
    board = built("orangepi-5-plus")

    def content():
        return {path: path.lstat().st_mtime_ns for path in board.root.rglob("*")}

    before = content()
    assert on(board, rknn(tmp_path / "m.rknn")).returncode == 0
    assert content() == before


def test_an_empty_root_is_no_board(tmp_path):
    done = doctor("--root", tmp_path)
    assert (done.returncode, "not a Rockchip board" in done.stdout) == (1, True)


def test_a_boards_name_cannot_command_the_terminal(built):
    board = built("orangepi-5-plus")
    (board.root / "proc/device-tree/model").write_bytes(b"\x1b]0;owned\x07\nok  all\0")
    done = on(board)
    assert done.returncode == 0
    assert "RK3588, ?]0;owned??ok  all" in done.stdout


def test_the_command_imports_light():
    code = (
        "import sys, runtime.doctor.command;"
        " print([name for name in ('numpy', 'cv2', 'pydantic', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
