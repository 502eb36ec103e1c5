"""Cameras at this board, over V4L2."""

import fcntl
import logging
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import cv2
import numpy as np

from runtime.pipeline.frames import Capture
from runtime.sources import SourceLostError
from runtime.sources.options import CameraOptions

log = logging.getLogger(__name__)

_SILENT_S = 5
_MOST_DAMAGED = 100
_QUERYCAP = 0x80685600
"""VIDIOC_QUERYCAP of linux/videodev2.h; its answer ends in what the device and this node can do."""
_CAPTURE = 0x1 | 0x1000
"""V4L2_CAP_VIDEO_CAPTURE, of one plane or several."""


class CameraSource:
    """A camera at this board. It may be unplugged and plugged in again."""

    live = True

    def __init__(self, options: CameraOptions, board: str):
        self._options = options
        # for the whole process; OpenCV asks once, and waits ten seconds by itself
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(_SILENT_S))

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Raises SourceLostError where the device is missing, busy, not allowed or no camera, or
        gives no picture for five seconds."""
        with self._opened() as camera:
            while not stop.is_set():
                yield Capture(self._read(camera), time.time())

    @contextmanager
    def _opened(self) -> Iterator[cv2.VideoCapture]:
        device = self._options.device
        check_device(device)
        camera = cv2.VideoCapture(str(device.absolute()), cv2.CAP_V4L2)
        try:
            if not camera.isOpened():
                raise SourceLostError(
                    f"{device} cannot be opened: end the other program that uses it (fuser {device}"
                    " names it), or take another device"
                )
            self._ask(camera)
            yield camera
        finally:
            camera.release()

    def _ask(self, camera: cv2.VideoCapture) -> None:
        """Ask for what is wanted. A camera takes what comes next to it."""
        options = self._options
        if options.pixel_format:
            camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.pixel_format))
        wanted = {
            cv2.CAP_PROP_FRAME_WIDTH: options.width,
            cv2.CAP_PROP_FRAME_HEIGHT: options.height,
            cv2.CAP_PROP_FPS: options.frames_per_second,
        }
        for setting, value in wanted.items():
            if value is not None:
                camera.set(setting, value)
        for setting, value in wanted.items():
            if value is not None and round(camera.get(setting)) != round(value):
                self._warn(setting, value, camera.get(setting))

    def _warn(self, setting: int, asked: float, given: float) -> None:
        names = {cv2.CAP_PROP_FRAME_WIDTH: "width", cv2.CAP_PROP_FRAME_HEIGHT: "height"}
        log.warning(
            "source %s: the camera has no %s %g and gives %g (v4l2-ctl --list-formats-ext)",
            self._options.name,
            names.get(setting, "frames_per_second"),
            asked,
            given,
        )

    def _read(self, camera: cv2.VideoCapture) -> np.ndarray:
        device = self._options.device
        for _ in range(_MOST_DAMAGED):
            if not camera.grab():
                raise SourceLostError(
                    f"{device} gives no more pictures: check its cable, or plug it in again"
                )
            whole, bgr = camera.retrieve()
            if whole:
                return bgr
        raise SourceLostError(f"{device} gives damaged pictures only: try another pixel_format")


def check_device(device: Path) -> None:
    """Raises SourceLostError for a device that gives no pictures, with the reason."""
    try:
        mode = device.stat().st_mode
    except OSError as error:
        raise SourceLostError(
            f"{device} is not there: plug the camera in, or give another device "
            "(v4l2-ctl --list-devices)"
        ) from error
    if not stat.S_ISCHR(mode):
        raise SourceLostError(f"{device} is no camera: give a device such as /dev/video0")
    capabilities = _capabilities(device)
    if not capabilities & _CAPTURE:
        raise SourceLostError(
            f"{device} is a video device that gives no pictures: give another one of that camera "
            "(v4l2-ctl --list-devices)"
        )


def _capabilities(device: Path) -> int:
    """What that node can do, as V4L2's bits."""
    answer = bytearray(104)
    try:
        opened = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(opened, _QUERYCAP, answer)
        finally:
            os.close(opened)
    except PermissionError as error:
        raise SourceLostError(
            f"{device} may not be used by this user: add it to the group video "
            "(sudo usermod -aG video NAME) and log in again"
        ) from error
    except OSError as error:
        raise SourceLostError(
            f"{device} is no camera, or does not work ({error.strerror}): "
            "give a device such as /dev/video0"
        ) from error
    whole, own = struct.unpack_from("2I", answer, 84)
    return own if whole & 0x80000000 else whole
