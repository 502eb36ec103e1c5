"""What waits in an outbox goes to a broker, in order."""

import logging
import socket
import sqlite3
import threading
import time
from typing import Any

from runtime.errors import UserError
from runtime.mqtt.broker import BrokerOptions
from runtime.mqtt.connection import Connection, ConnectionLostError, Message
from runtime.mqtt.outbox import Outbox
from runtime.mqtt.session import RefusedError, Session
from runtime.pipeline.backoff import Backoff

log = logging.getLogger(__name__)

_LONGEST_BACKOFF_S = 3.0
_STEADY_S = 5.0  # a connection that held so long was a good one
_CLOSE_S = 3.0


class Publisher:
    """A thread that is connecting, connected, waiting to connect again, or stopped.

    It sends events in the order of their ids, up to window of them unconfirmed, and takes them out
    of the outbox when they are confirmed. Each connection begins with the oldest that is not. Where
    the broker refuses an event the connection ends, and after the wait events go one by one until
    one is accepted, so that none overtakes another; one it will never take is dropped, and counted
    by the outbox.

    state_topic: there the broker keeps "online", and "offline" from when this process is gone.
    """

    def __init__(self, broker: BrokerOptions, outbox: Outbox, state_topic: str, window: int):
        self._broker = broker
        self._outbox = outbox
        self._window = window
        self._online = Message(state_topic, b"online")
        self._offline = Message(state_topic, b"offline")
        self._client_id = f"rkyolo-{outbox.name}"
        self._kept = {state_topic: self._online.payload}
        self._state, self._detail = "connecting", None
        self._complaint: str | None = None
        self._sent = 0
        self._careful = False
        self._closing = threading.Event()
        self._give_up_at = float("inf")
        self._awake, self._wake = socket.socketpair()
        self._awake.setblocking(False)
        self._wake.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt publisher", daemon=True)
        self._thread.start()

    # for others

    def wake(self) -> None:
        """There is something new in the outbox."""
        try:
            self._wake.send(b"\0")
        except OSError:  # it has been told often enough, or is closed
            pass

    def keep(self, message: Message) -> None:
        """Have the broker keep a message, from now and from each connection on."""
        self._kept[message.topic] = message.payload
        self.wake()

    def close(self) -> None:
        """Send what is left, as far as that goes in a few seconds, and say goodbye. Calling it
        again does nothing."""
        self._give_up_at = min(self._give_up_at, time.monotonic() + _CLOSE_S)
        self._closing.set()
        self.wake()
        self._thread.join(_CLOSE_S + 1)
        if not self._thread.is_alive():
            self._awake.close()
            self._wake.close()

    def state(self) -> dict[str, Any]:
        return {
            "broker": self._state,
            "outbox": self._outbox.waiting,
            "dropped": self._outbox.dropped,
            "sent": self._sent,
            "client_id": self._client_id,
            "detail": self._detail or self._complaint,
        }

    # its own thread

    def _run(self) -> None:
        backoff = Backoff(_LONGEST_BACKOFF_S)
        while not self._finished():
            self._show("connecting", self._detail)
            began = time.monotonic()
            self._show("waiting", self._until_lost())
            if time.monotonic() - began > _STEADY_S:
                backoff.reset()
            if self._closing.is_set():
                break
            self._closing.wait(backoff.next_s())
        self._show("stopped", self._detail)

    def _until_lost(self) -> str | None:
        """Connect, and do what there is to do. Returns why that ended, None where it was done."""
        try:
            self._connected()
        except (ConnectionLostError, UserError) as error:
            return str(error)
        except sqlite3.Error as error:
            return f"outbox {self._outbox.path}: {error}"
        except Exception as error:
            log.exception("the MQTT publisher has an error of its own")
            return f"an error of its own, see the log: {type(error).__name__}"
        return None

    def _finished(self) -> bool:
        return self._closing.is_set() and (self._out_of_time() or not self._outbox.waiting)

    def _out_of_time(self) -> bool:
        return time.monotonic() >= self._give_up_at

    def _show(self, state: str, detail: str | None) -> None:
        """Keep the state for those who look; log a change, not each try."""
        if state == "waiting" and detail not in (None, self._detail):
            log.warning("MQTT: %s", detail)
        elif state == "connected":
            log.info("MQTT: connected to %s:%d", *self._broker.address)
        self._state, self._detail = state, detail

    def _connected(self) -> None:
        """From a connection's beginning to its end; returns when there is no more to do."""
        connection = Connection(self._broker, self._client_id, self._offline)
        session = Session(connection, self._outbox, self._kept)
        self._show("connected", self._detail if self._careful else None)
        try:
            while not (self._closing.is_set() and session.idle):
                if self._out_of_time():
                    return
                self._turn(session)
            self._say_goodbye(connection)
            connection.close()
        finally:
            connection.drop()  # without goodbye the broker publishes the will
            if not self._out_of_time():
                session.flush()

    def _turn(self, session: Session) -> None:
        before = session.accepted
        session.send(1 if self._careful else self._window)
        try:
            session.receive(self._awake)
        except RefusedError:
            self._careful = True
            raise
        finally:
            self._sent += session.accepted - before
            self._complaint = session.complaint or self._complaint
        if self._careful and session.accepted > before:
            self._careful, self._detail = False, None

    def _say_goodbye(self, connection: Connection) -> None:
        """The will is for those who leave without a word; who says goodbye says it himself."""
        number = connection.publish(self._offline, retain=True)
        while not self._out_of_time():
            if any(answer.number == number for answer in connection.turn(0.1)):
                break
