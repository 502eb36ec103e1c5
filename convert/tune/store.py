"""Finished trials on disk, so that a search that was stopped goes on where it was."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from convert.tune.outcome import Outcome
from convert.tune.space import Trial
from runtime.errors import UserError
from runtime.files import whole_file

_MARK = ".rkyolo-tune"
_FLOAT = "float"


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """The folder beside a bundle that a search keeps its trials in, held for this process alone.
    Raises UserError where it is something else, or another search holds it."""
    folder = out.with_name(f"{out.name}.tune")
    mark = folder / _MARK
    if folder.exists() and not mark.is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and holds no trials: give another -o, or move it away")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = mark.open("w")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another rkyolo tune works in {folder}: wait for it, or give another -o"
            ) from error
        yield folder


class Store:
    """The trials of one study: of each a file with its outcome, and a folder with its bundle. They
    appear whole. The float model's outcome is kept as that of None."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, trial: Trial | None) -> Outcome | None:
        """The outcome of a finished trial; None for one that is not, or whose file is damaged."""
        try:
            outcome = Outcome.model_validate_json(self._file(trial).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return outcome if outcome.trial == trial else None

    def keep(self, outcome: Outcome) -> None:
        """Raises UserError where it cannot be written."""
        plain = json.dumps(outcome.model_dump(mode="json"), indent=1) + "\n"
        with whole_file(self._file(outcome.trial)) as partial:
            partial.write_text(plain, "utf-8")

    def bundle(self, trial: Trial) -> Path:
        """Where a trial's bundle is, or will be."""
        return self.folder / trial.key / "bundle"

    def drop_bundle(self, trial: Trial) -> None:
        """Make room; the outcome stays."""
        shutil.rmtree(self.folder / trial.key, ignore_errors=True)

    def forget(self, trial: Trial | None) -> None:
        """So that it is run again."""
        self._file(trial).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what a killed run left half-written."""
        for left in (*self.folder.glob(".*"), *self.folder.glob("*/.*")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def _file(self, trial: Trial | None) -> Path:
        return self.folder / f"{trial.key if trial else _FLOAT}.json"
