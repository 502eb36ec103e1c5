import os
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from servers import program

from runtime.sources import SourceLostError

TESTS = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda path: None,
            r" is not there: plug the camera in, or give another device \(v4l2-ctl --list-devices",
            id="missing",
        ),
        pytest.param(lambda path: path.mkdir(), " is no camera: give a device", id="folder"),
        pytest.param(lambda path: path.write_text("x"), " is no camera: give a device", id="file"),
        pytest.param(
            lambda path: path.symlink_to("/dev/null"),
            r" is no camera, or does not work \(Inappropriate ioctl for device\): give a device",
            id="another-device",
        ),
        pytest.param(lambda path: path.symlink_to("gone"), " is not there: plug", id="unplugged"),
        pytest.param(lambda path: os.mkfifo(path), " is no camera: give a device", id="pipe"),
    ],
)
def test_what_is_no_camera(source, tmp_path, make, message):
    path = tmp_path / "video9"
    make(path)
    with pytest.raises(SourceLostError, match=f"^{path}{message}"):
        next(source("camera", device=path).captures(Event()))


def test_a_device_this_user_may_not_use():
    """Any character device that only root may open shows it; root itself may open all."""
    code = """
import os
from pathlib import Path
from runtime.sources import SourceLostError
from runtime.sources.camera import check_device
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    check_device(Path("/dev/console"))
except SourceLostError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == (
        "/dev/console may not be used by this user: add it to the group video "
        "(sudo usermod -aG video NAME) and log in again\n"
    ), done.stderr


def test_live(source, tmp_path):
    assert source("camera", device=tmp_path).live is True


def test_a_pixel_format_and_size_are_checked_before(source):
    with pytest.raises(ValueError, match="pixel_format"):
        source("camera", pixel_format="mjpg")
    with pytest.raises(ValueError, match="width"):
        source("camera", width=0)


CODE = """
import logging, sys, threading, time
from runtime.sources import SourceLostError, open_source
from runtime.sources.options import CameraOptions
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
device, mode, count, then, options = sys.argv[1], *eval(sys.argv[2])
options = CameraOptions(name="cam", type="camera", device=device, **options)
source = open_source(options, "board")
for _ in range(2):
    try:
        seen = []
        for capture in source.captures(threading.Event()):
            seen.append(capture.bgr)
            if len(seen) == count:
                open(mode, "w").write(then)
    except SourceLostError as error:
        rising = all((a < b).all() for a, b in zip(seen, seen[1:]))
        print(len(seen), seen and seen[0].shape, rising, error)
        open(mode, "w").write("works")
        count = 3
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("camera") / "camera.so"
    flags = ["-shared", "-fPIC", "-O1", "-o", path, TESTS / "camera.c", "-ldl"]
    subprocess.run([program("cc"), *flags], check=True, timeout=120)
    return path


@pytest.fixture
def camera(library, tmp_path):
    """Runs a source on a camera that changes its ways after some pictures, then on one that works
    and is unplugged after three; gives what the source said."""
    device, mode = tmp_path / "video0", tmp_path / "mode"
    device.symlink_to("/dev/null")
    settings = {"CAMERA": str(device), "CAMERA_MODE": str(mode), "LD_PRELOAD": str(library)}
    settings["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = "1"

    def run(first="works", count=0, then="gone", **options):
        mode.write_text(first)
        arguments = [device, repr((str(mode), count, then, options))]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | settings,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.replace(str(device), "DEVICE").splitlines()

    return run


GONE = "DEVICE gives no more pictures: check its cable, or plug it in again"


def test_a_camera_that_is_unplugged_and_plugged_in_again(camera):
    assert camera(count=5) == [f"5 (480, 640, 3) True {GONE}", f"3 (480, 640, 3) True {GONE}"]


def test_a_camera_that_falls_silent(camera):
    assert camera(count=5, then="silent")[0] == f"5 (480, 640, 3) True {GONE}"


def test_a_size_the_camera_has(camera):
    told = camera(count=2, width=320, height=240, frames_per_second=30, pixel_format="YUYV")
    assert told[0] == f"2 (240, 320, 3) True {GONE}"


def test_what_the_camera_has_not_is_told(camera):
    told = camera(count=2, width=1920, height=1080, frames_per_second=60)
    advice = "(v4l2-ctl --list-formats-ext)"
    assert told[:4] == [
        f"source cam: the camera has no width 1920 and gives 640 {advice}",
        f"source cam: the camera has no height 1080 and gives 480 {advice}",
        f"source cam: the camera has no frames_per_second 60 and gives 30 {advice}",
        f"2 (480, 640, 3) True {GONE}",
    ]


def test_a_busy_camera(camera):
    message = "DEVICE cannot be opened: end the other program that uses it (fuser DEVICE names it)"
    told = camera(first="busy")
    assert told[0].startswith(f"0 [] True {message}")
    assert told[1] == f"3 (480, 640, 3) True {GONE}"


def test_the_other_device_of_a_camera(camera):
    told = camera(first="metadata")
    assert "DEVICE is a video device that gives no pictures: give another one of" in told[0]
