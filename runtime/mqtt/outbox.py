"""The outbox: events that wait on disk until a broker has them."""

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from runtime.mqtt.outbox_file import Transaction, is_damage, move_aside, open_outbox_file

log = logging.getLogger(__name__)

_POWER_CUT_TAKES = 100_000  # ids, far more than SQLite leaves to be forced to disk later
_T = TypeVar("_T")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Event(NamedTuple):
    id: int
    topic: str
    payload: bytes


class Outbox:
    """A bounded queue in an SQLite file, for all threads of one process.

    An event outlives the process as soon as add() has returned. Ids rise by one and none is given
    twice, also when the outbox was empty and after a restart. A new file's begin with the time in
    ms since 1970, so above those of a file before it; after a power cut, which may take the last
    events although they were sent, they go on from there.

    Opening raises what open_outbox_file does, the methods sqlite3.OperationalError where the file
    cannot be used now; then nothing has changed.
    """

    def __init__(self, path: Path, limit: int, limit_bytes: int):
        self.path = path
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._done: set[int] = set()
        self._full = False
        self._last = 0
        self._open()

    def _open(self) -> None:
        self._file = open_outbox_file(self.path)
        try:
            with Transaction(self._file):
                self._last = self._continue_ids()
                self.name = self._fact("name") or uuid.uuid4().hex[:12]
                self._set_facts(name=self.name, boot=_boot_id(), last=str(self._last))
        except BaseException:
            self._file.close()
            raise
        total = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM events"
        self._count, self._bytes = self._file.execute(total).fetchone()
        self._dropped = int(self._fact("dropped") or 0)

    def _continue_ids(self) -> int:
        """The last id given, in this file or perhaps in what was lost of it."""
        row = self._file.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        last = max(row[0] if row else 0, int(self._fact("last") or 0), self._last)
        if self._fact("boot") in (_boot_id(), "closed"):
            return last
        return max(last + _POWER_CUT_TAKES, int(time.time() * 1000))

    def _fact(self, key: str) -> str | None:
        row = self._file.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _set_facts(self, **facts: str) -> None:
        self._file.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    def add(self, topic: str, event: Mapping[str, Any]) -> int:
        """Keep an event, as JSON with its id in front; the oldest may have to go for it. Returns
        its id when it is committed. Raises ValueError where it is no JSON."""
        return self._held(lambda: self._add(topic, event))

    def _held(self, action: Callable[[], _T]) -> _T:
        """Do it with the file for oneself; once more with a new file where this one is damaged."""
        with self._lock:
            try:
                return action()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._begin_anew(error)
                return action()

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        self._file.close()
        move_aside(self.path, error)
        self._done.clear()
        self._open()

    def _add(self, topic: str, event: Mapping[str, Any]) -> int:
        new = self._last + 1
        plain = {"id": new, **event}
        payload = json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()
        with Transaction(self._file):
            count, size = self._remove(self._done)
            self._file.execute("INSERT INTO events VALUES (?, ?, ?)", (new, topic, payload))
            count, size, dropped = self._bound(count + 1, size + len(payload))
        self._last, self._count, self._bytes = new, count, size
        self._dropped += dropped
        self._done.clear()
        if dropped and not self._full:
            self._full = True
            log.warning("outbox %s is full: the oldest events are dropped", self.path)
        return new

    def _remove(self, ids: Iterable[int]) -> tuple[int, int]:
        """Delete these. Returns how many events remain, and their bytes."""
        count, size = self._count, self._bytes
        for id in ids:
            query = "SELECT length(payload) FROM events WHERE id = ?"
            row = self._file.execute(query, (id,)).fetchone()
            if row is not None:
                self._file.execute("DELETE FROM events WHERE id = ?", (id,))
                count, size = count - 1, size - row[0]
        return count, size

    def _bound(self, count: int, size: int) -> tuple[int, int, int]:
        """Delete the oldest while there are too many, but never the newest. Returns how many
        remain, their bytes, and how many went."""
        dropped = 0
        while count > 1 and (count > self._limit or size > self._limit_bytes):
            query = "SELECT id, length(payload) FROM events ORDER BY id LIMIT 1"
            id, length = self._file.execute(query).fetchone()
            self._file.execute("DELETE FROM events WHERE id = ?", (id,))
            count, size, dropped = count - 1, size - length, dropped + 1
        if dropped:
            self._set_facts(dropped=str(self._dropped + dropped))
        return count, size, dropped

    def after(self, id: int, most: int) -> list[Event]:
        """The oldest events with a higher id, in order, without those that are done with."""
        query = "SELECT id, topic, payload FROM events WHERE id > ? ORDER BY id LIMIT ?"

        def read() -> list[Event]:
            rows = self._file.execute(query, (id, most + len(self._done))).fetchall()
            return [Event(*row) for row in rows if row[0] not in self._done][:most]

        return self._held(read)

    def done(self, ids: Iterable[int]) -> None:
        """These need not wait any longer. They leave the disk with the next add or flush: a commit
        for each would double what is written to it."""
        with self._lock:
            self._done.update(ids)

    def drop(self, id: int) -> None:
        """Give an event up, and count it as dropped."""
        self._held(lambda: self._drop(id))

    def _drop(self, id: int) -> None:
        with Transaction(self._file):
            self._set_facts(dropped=str(self._dropped + 1))
            count, size = self._remove([id])
        self._count, self._bytes = count, size
        self._dropped += 1

    def flush(self) -> None:
        """Take from the disk what is done with; an empty outbox gives its room back."""
        self._held(self._flush)

    def _flush(self) -> None:
        if not self._done:
            return
        with Transaction(self._file):
            count, size = self._remove(self._done)
        self._count, self._bytes = count, size
        self._done.clear()
        if count == 0:
            self._full = False
            self._file.executescript("PRAGMA incremental_vacuum")  # execute does a single page

    @property
    def last(self) -> int:
        """The id of the newest event there ever was."""
        return self._last

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return max(self._count - len(self._done), 0)

    @property
    def dropped(self) -> int:
        """How many events were dropped since the file was begun."""
        return self._dropped

    def close(self) -> None:
        """Calling it again does nothing."""
        with self._lock:
            try:
                self._flush()
                self._set_facts(boot="closed")
            except sqlite3.Error as error:  # closed already, or no room: it stays as it is
                log.debug("outbox %s: %s", self.path, error)
            self._file.close()


def _boot_id() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:  # not Linux: each start counts as one after a power cut
        return uuid.uuid4().hex
