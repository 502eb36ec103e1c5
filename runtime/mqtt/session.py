"""What is under way on one connection to a broker."""

import logging
import socket
import sqlite3
import time

from runtime.mqtt.connection import Answer, Connection, ConnectionLostError, Message
from runtime.mqtt.outbox import Outbox

log = logging.getLogger(__name__)

_TURN_S = 0.5
_FLUSH_EVERY_S = 0.5
_BESIDES = 32  # bytes of a packet that are neither topic nor payload, at most
_NEVER = frozenset({0x90, 0x95, 0x99})  # topic name invalid, packet too large, payload invalid


class RefusedError(ConnectionLostError):
    """The broker is there, and does not take an event now."""


class Session:
    """Sends from an outbox over one connection, and takes out of it what is confirmed.

    kept: payloads the broker is to keep, by topic; more may come in while the session lasts, and
    what it refuses to keep is taken out, since some brokers end the connection for it.
    complaint: the last of these refusals. accepted: how many events the broker took.
    """

    def __init__(self, connection: Connection, outbox: Outbox, kept: dict[str, bytes]):
        self.complaint: str | None = None
        self.accepted = 0
        self._connection = connection
        self._outbox = outbox
        self._kept = kept
        self._told: dict[str, bytes] = {}
        self._under_way: dict[int, int | str] = {}  # by number: an event's id, or a kept topic
        self._reached = 0
        self._flushed_at = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether all that there is has been sent and answered."""
        return not self._under_way and self._reached >= self._outbox.last

    def send(self, window: int) -> None:
        """As much as may be unconfirmed, in order; first what the broker is to keep."""
        window = min(window, self._connection.most)
        for topic, payload in list(self._kept.items()):
            if self._told.get(topic) != payload and len(self._under_way) < window:
                number = self._connection.publish(Message(topic, payload), retain=True)
                self._under_way[number] = topic
                self._told[topic] = payload
        room, last = window - len(self._under_way), self._outbox.last
        if room <= 0 or self._reached >= last:
            return
        events = self._outbox.after(self._reached, room)
        for id, topic, payload in events:
            self._send_event(id, Message(topic, payload))
        if len(events) < room:  # there are no more, though the last may have been dropped
            self._reached = max(self._reached, last)

    def _send_event(self, id: int, message: Message) -> None:
        self._reached = id
        size, largest = (
            len(message.topic) + len(message.payload) + _BESIDES,
            self._connection.largest,
        )
        if largest is not None and size > largest:
            self._give_up(id, f"it has {size} bytes, and the broker takes {largest}")
        else:
            self._under_way[self._connection.publish(message)] = id

    def _give_up(self, id: int, reason: str) -> None:
        log.warning("MQTT: event %d is dropped: %s", id, reason)
        self._outbox.drop(id)

    def receive(self, awake: socket.socket) -> None:
        """Wait for answers, or for news on that socket. Raises RefusedError and
        ConnectionLostError."""
        answers = self._connection.turn(_TURN_S, awake)
        try:
            awake.recv(65536)
        except BlockingIOError:
            pass
        accepted, refused = self._sorted(answers)
        self._outbox.done(accepted)
        self.accepted += len(accepted)
        if time.monotonic() - self._flushed_at > _FLUSH_EVERY_S:
            self.flush()
        if refused:
            raise RefusedError(refused)

    def _sorted(self, answers: list[Answer]) -> tuple[list[int], str | None]:
        """The ids of the events that were accepted, and why others were not."""
        accepted, refusal = [], None
        for number, refused, code in answers:
            what = self._under_way.pop(number, None)
            if isinstance(what, str):
                if refused:
                    self._complain(what, refused)
            elif what is not None and not refused:
                accepted.append(what)
            elif what is not None and code in _NEVER:
                self._give_up(what, refused)
            elif what is not None:
                refusal = refused
        return accepted, refusal

    def _complain(self, topic: str, refused: str) -> None:
        self._kept.pop(topic, None)
        self.complaint = f"{topic} is not tried again: {refused}"
        log.warning("MQTT: %s", self.complaint)

    def flush(self) -> None:
        """Take what was confirmed off the disk. Where that cannot be done now, it is later."""
        self._flushed_at = time.monotonic()
        try:
            self._outbox.flush()
        except sqlite3.OperationalError as error:
            log.debug("outbox %s: %s", self._outbox.path, error)
