"""The outbox's SQLite file: ours or not, whole or damaged, and held by one process."""

import logging
import os
import sqlite3
import time
from pathlib import Path

from runtime.errors import UserError

log = logging.getLogger(__name__)

_OURS = 0x726B6F62  # the application id in the file's head, "rkob"
_OURS_AT = slice(68, 72)
_TABLES = (
    "CREATE TABLE IF NOT EXISTS events"
    " (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)


class Transaction:
    """All of a block or nothing."""

    def __init__(self, file: sqlite3.Connection):
        self._file = file

    def __enter__(self) -> None:
        self._file.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.execute("COMMIT")
        finally:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")


def open_outbox_file(path: Path) -> sqlite3.Connection:
    """The file with its tables, held by this process until it is closed; a damaged one is moved
    aside, and a new one begun.

    Raises UserError where the file is somebody else's, OSError and sqlite3.OperationalError where
    it cannot be used now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(path)
    try:
        return _opened(path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        move_aside(path, error)
        return _opened(path)


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the error is the file's own, which no waiting mends."""
    return any(words in str(error) for words in ("is malformed", "is not a database"))


def move_aside(path: Path, error: sqlite3.DatabaseError) -> None:
    """Make room for a new file; the damaged one stays beside it for whoever wants to look."""
    aside = f"{path.name}.damaged-{time.time_ns() // 1_000_000}"
    for end in ("-wal", "-shm", ""):
        part = path.with_name(path.name + end)
        if part.exists():
            part.replace(path.with_name(aside + end))
    log.warning("outbox %s is damaged (%s): it is now %s, a new one is begun", path, error, aside)


def _opened(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    try:
        _prepare(file)
    except BaseException:
        file.close()
        raise
    return file


def _prepare(file: sqlite3.Connection) -> None:
    # one owner, so that no two processes send the same events
    file.execute("PRAGMA locking_mode = EXCLUSIVE")
    file.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if file.execute("PRAGMA application_id").fetchone() != (_OURS,):
        file.execute(f"PRAGMA application_id = {_OURS}")  # before WAL, so that the head has it
    # a commit outlives the process at no cost, and a power cut from the next checkpoint on
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = NORMAL")
    file.execute("PRAGMA journal_size_limit = 4194304")
    (check,) = file.execute("PRAGMA quick_check(1)").fetchone()
    if check != "ok":
        raise sqlite3.DatabaseError(f"the file is malformed: {' '.join(check.split())}")
    with Transaction(file):
        for table in _TABLES:
            file.execute(table)


def _refuse_foreign(path: Path) -> None:
    """Raise UserError where a file is not empty and not ours. One of zeros is what a power cut can
    make of ours: it is emptied."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        head = stream.read(100)
    if not any(head):
        os.truncate(path, 0)
    elif int.from_bytes(head[_OURS_AT], "big") != _OURS:
        raise UserError(f"{path} is no outbox, and stays as it is: give another file as outbox")
