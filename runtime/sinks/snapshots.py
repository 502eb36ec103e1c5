"""Annotated pictures of frames in which something was found."""

import logging
from pathlib import Path
from typing import Any

from runtime.draw import draw
from runtime.encode import LARGEST_JPEG, write_picture
from runtime.pipeline.frames import Capture, Result
from runtime.sinks.options import SnapshotOptions
from runtime.sinks.shelf import Shelf

log = logging.getLogger(__name__)


class SnapshotSink:
    """JPEG files SOURCE-TIME-CLASS.jpg, of the class found with the highest score among the wanted
    ones. The interval between two is by the time of capture, in videos by the time in the video."""

    def __init__(self, options: SnapshotOptions, board: str):
        self._options = options
        self._shelf = Shelf(options.folder, ".jpg", options.keep)
        self._last: dict[str, tuple[Path | None, float]] = {}
        self._unknown: tuple[str, ...] | None = None
        self._counts = {"saved": 0, "too_large": 0}

    def write(self, result: Result) -> None:
        """Save the frame if it is wanted, and its time has come. Raises UserError where the file
        cannot be written."""
        self._see_classes(result.names)
        frame, name = result.frame, self._wanted(result)
        if name is None or not self._due(frame.source, frame.capture):
            return
        if max(frame.capture.bgr.shape[:2]) > LARGEST_JPEG:  # it never can be: not to be retried
            self._counts["too_large"] += 1
            return
        target = self._shelf.target(frame.source, frame.capture.captured_at, name, digits=3)
        canvas = draw(frame.capture.bgr, result.detections, result.names)
        write_picture(target, canvas, self._options.quality)
        self._last[frame.source] = _moment(frame.capture)
        self._counts["saved"] += 1
        self._shelf.add(frame.source, target)

    def _see_classes(self, names: tuple[str, ...]) -> None:
        """Tell of wanted classes that the model does not know, once."""
        if self._unknown is None:
            self._unknown = tuple(sorted(set(self._options.classes or ()) - set(names)))
            if self._unknown:
                log.warning("snapshots: the model has no class %s", ", ".join(self._unknown))

    def _wanted(self, result: Result) -> str | None:
        """The name of the class to save it for."""
        found, classes = result.detections, self._options.classes
        for score, class_id in zip(found.score, found.class_id, strict=True):
            name = result.names[int(class_id)]
            enough = round(float(score), 5) >= self._options.score  # as events show it
            if enough and (classes is None or name in classes):
                return name
        return None

    def _due(self, source: str, capture: Capture) -> bool:
        if source not in self._last:
            return True
        (last_video, last_s), (video, now_s) = self._last[source], _moment(capture)
        # time that goes back: a clock that was set, or a video that begins again
        return video != last_video or not 0 <= now_s - last_s < self._options.interval_s

    def close(self) -> None:
        """There is nothing to finish."""

    def state(self) -> dict[str, Any]:
        plain: dict[str, Any] = dict(self._counts)
        return plain | ({"unknown_classes": list(self._unknown)} if self._unknown else {})


def _moment(capture: Capture) -> tuple[Path | None, float]:
    """The video, if it is of one, and the seconds in it, or else those of the clock."""
    if capture.file is not None and capture.frames_per_second:
        return capture.file, capture.frame / capture.frames_per_second
    return None, capture.captured_at
