"""A program that writes raw frames to its standard output, such as a hardware decoder."""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from threading import Event

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.pipeline.frames import Capture
from runtime.sources import SourceLostError
from runtime.sources.child import Child
from runtime.sources.options import CommandOptions

_LONGEST_WAIT_S = 0.25


class CommandSource:
    """Frames of one size, one after the other, that a program writes; it is started anew each time.

    bgr24: height x width x 3 bytes. nv12: height x width bytes of luma (BT.601), then half as many
    of chroma.
    """

    live = True

    def __init__(self, options: CommandOptions, board: str):
        self._options = options
        rows = options.height if options.pixel_format == "bgr24" else options.height * 3 // 2
        channels = (3,) if options.pixel_format == "bgr24" else ()
        self._shape = (rows, options.width, *channels)

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Raises SourceLostError where the program ends or writes no whole frame within
        read_timeout_s, and UserError where there is no such program."""
        with closing(self._started()) as child:
            while not stop.is_set():
                frame = self._frame(child, stop)
                if frame is None:
                    return
                yield Capture(self._bgr(frame), time.time())

    def _started(self) -> Child:
        program, *arguments = self._options.command
        path = shutil.which(program)
        if path is None:
            raise UserError(
                f"{program} is not installed, or may not be run: install it, or give its path"
            )
        try:
            return Child([path, *arguments])
        except OSError as error:
            raise SourceLostError(f"{program} cannot be started: {error.strerror}") from error

    def _frame(self, child: Child, stop: Event) -> np.ndarray | None:
        """The next whole frame as the program writes it; None where stop was set before."""
        frame = np.empty(self._shape, np.uint8)
        rest = memoryview(frame).cast("B")
        until = time.monotonic() + self._options.read_timeout_s
        while rest:
            if stop.is_set():
                return None
            left = until - time.monotonic()
            if left <= 0:
                raise SourceLostError(self._silent(child, len(rest) < frame.nbytes))
            count = child.read_into(rest, min(left, _LONGEST_WAIT_S))
            if count == 0:
                raise SourceLostError(f"{self._options.shown} {child.ending()}")
            rest = rest[count or 0 :]
        return frame

    def _silent(self, child: Child, begun: bool) -> str:
        most, last = self._options.read_timeout_s, child.last_line()
        what = "wrote no whole frame" if begun else "wrote nothing"
        advice = "check its arguments, width and height" if begun else "check its arguments"
        return f"{self._options.shown} {what} for {most:g} s: {advice}{last and f' ({last})'}"

    def _bgr(self, frame: np.ndarray) -> np.ndarray:
        if self._options.pixel_format == "nv12":
            return cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12)
        return frame
