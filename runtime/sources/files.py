"""Pictures, folders of them, and videos."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

from runtime.errors import UserError
from runtime.pictures import find_files, read_pictures
from runtime.pipeline.frames import Capture
from runtime.sources.options import FilesOptions

log = logging.getLogger(__name__)


class FilesSource:
    """Every picture, and every frame of every video, in order. A file that cannot be read is passed
    over; folders are looked into again at each repeat."""

    live = False

    def __init__(self, options: FilesOptions, board: str):
        self._options = options
        self._bad: set[Path] = set()

    @property
    def unreadable(self) -> int:
        """How many of the files could not be read when last tried."""
        return len(self._bad)

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Raises UserError where a path does not exist, or where there is nothing that can be
        read."""
        while True:
            files = find_files(self._options.paths)
            self._bad &= set(files)
            found = False
            for path in files:
                for capture in self._of_file(path):
                    if stop.is_set():
                        return
                    found = True
                    yield capture
            if not found:
                raise UserError(f"nothing in {self._options.shown} can be read: give other files")
            if not self._options.repeat:
                return

    def _of_file(self, path: Path) -> Iterator[Capture]:
        try:
            with closing(read_pictures([path])) as pictures:
                for picture in pictures:
                    yield Capture(
                        picture.bgr,
                        time.time(),
                        picture.file,
                        picture.frame,
                        picture.frames_per_second,
                    )
        except UserError as error:
            if path not in self._bad:
                log.warning("source %s: %s; going on without it", self._options.name, error)
            self._bad.add(path)
        else:
            self._bad.discard(path)
