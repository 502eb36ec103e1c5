"""Annotated videos, one after the other for each source."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from runtime.draw import draw
from runtime.encode import VIDEO_SIDES, new_video
from runtime.errors import UserError
from runtime.pipeline.frames import Capture, Result
from runtime.sinks import SinkLostError
from runtime.sinks.options import VideoOptions
from runtime.sinks.shelf import Shelf

log = logging.getLogger(__name__)

_LONGEST_STILL_S = 5.0
_CLOCK_SET_S = 1.0
_MORE_TO_BEGIN = 1.1
_SLOWEST = 0.1  # frames a second; OpenCV does not write much slower videos


class VideoSink:
    """MP4 files SOURCE-TIME.mp4, and SOURCE-TIME-STEM.mp4 of the video STEM. A new one is begun
    after so many minutes, for each video, and when the size changes.

    A video of a live source runs as its clock did: frames are shown until the next one came, but
    for no longer than 5 s, and left out where they come too fast. Videos are shown frame by frame
    at their own rate, the pictures of a folder at the sink's.

    A file appears when it is complete. Before the disk is full, all are finished with what they
    have, and the sink waits for room.
    """

    def __init__(self, options: VideoOptions, board: str):
        self._options = options
        self._shelf = Shelf(options.folder, ".mp4", options.keep)
        self._recordings: dict[str, _Recording] = {}
        self._counts = {"files": 0, "wrong_size": 0}

    def write(self, result: Result) -> None:
        """Raises SinkLostError where the disk is nearly full; UserError where a video could not be
        finished, which then is lost."""
        source, capture = result.frame.source, result.frame.capture
        sides = capture.bgr.shape[:2]
        if min(sides) < VIDEO_SIDES[0] or max(sides) > VIDEO_SIDES[1]:
            self._counts["wrong_size"] += 1  # it never can be: not to be retried
            return
        self._leave_room()
        if source in self._recordings and not self._recordings[source].goes_on_with(capture):
            self._finish(source)
        if source not in self._recordings:
            self._begin(source, capture)
        canvas = draw(capture.bgr, result.detections, result.names)
        self._recordings[source].add(canvas, capture)

    def _leave_room(self) -> None:
        needed, free = self._options.free_mb, self._shelf.free_mb()
        if free >= (needed if self._recordings else needed * _MORE_TO_BEGIN):
            return
        self.close()
        raise SinkLostError(
            f"only {free:.0f} MB are free for {self._options.folder} and free_mb is {needed:g}: "
            "make room there"
        )

    def _begin(self, source: str, capture: Capture) -> None:
        video_of = capture.file if capture.frames_per_second else None
        word = video_of.stem if video_of else ""
        target = self._shelf.target(source, capture.captured_at, word)
        rate = capture.frames_per_second if video_of else self._options.frames_per_second
        seconds = self._options.minutes * 60
        self._recordings[source] = _Recording(target, capture, max(rate, _SLOWEST), seconds)

    def _finish(self, source: str) -> None:
        recording = self._recordings.pop(source)
        recording.finish()
        self._counts["files"] += 1
        self._shelf.add(source, recording.target)

    def close(self) -> None:
        """Finish all videos. Raises UserError where that fails for some, when it tried for all."""
        problems = []
        for source in list(self._recordings):
            try:
                self._finish(source)
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError("; ".join(problems))

    def state(self) -> dict[str, Any]:
        return dict(self._counts)


class _Recording:
    """One video that is being written."""

    def __init__(self, target: Path, first: Capture, rate: float, seconds: float):
        """Raises UserError where it cannot be begun."""
        height, width = first.bgr.shape[:2]
        self.target = target
        self._rate = rate
        self._seconds = seconds
        self._first = self._last = first
        self._begun_s = first.captured_at  # moves where a long still was cut short
        self._shown: np.ndarray | None = None
        self._open = ExitStack()
        self._video = self._open.enter_context(new_video(target, (width, height), rate))

    def goes_on_with(self, capture: Capture) -> bool:
        """Whether a frame belongs into this video."""
        if capture.bgr.shape != self._first.bgr.shape or not self._video.partial.exists():
            return False
        if capture.file is None:
            passed = capture.captured_at - self._first.captured_at
            back = self._last.captured_at - capture.captured_at
            return passed < self._seconds and back < _CLOCK_SET_S
        if capture.frames_per_second or self._first.frames_per_second:
            same = capture.file == self._first.file and capture.frame > self._last.frame
            return same and self._video.frames < self._seconds * self._rate
        return self._video.frames < self._seconds * self._rate

    def add(self, canvas: np.ndarray, capture: Capture) -> None:
        """Add an annotated frame at its time."""
        if capture.file is None and not self._shown_until(capture.captured_at):
            return
        self._video.append(canvas)
        self._shown, self._last = canvas, capture

    def _shown_until(self, now_s: float) -> bool:
        """Show the last frame until that time; False where it is too early for another one."""
        ahead = round((now_s - self._begun_s) * self._rate) - self._video.frames
        longest = max(0, round(_LONGEST_STILL_S * self._rate) - 1)
        if ahead > longest:
            self._begun_s += (ahead - longest) / self._rate
            ahead = longest
        for _ in range(ahead):
            self._video.append(self._shown)
        return ahead >= 0

    def finish(self) -> None:
        """Raises UserError where not all of it gets there."""
        self._open.close()
