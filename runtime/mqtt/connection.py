"""One connection to a broker, from its beginning to its end."""

import math
import select
import socket
import ssl
import time
from typing import Any, NamedTuple

from runtime.mqtt.broker import BrokerOptions, new_client

_CONNECT_S = 4.0
_ADVICE = {
    0x86: "check username and password",
    0x87: "check username and password, or the broker's access list",
    0x8E: "another client has the same id: is there a second board with a copy of this outbox?",
}


class ConnectionLostError(Exception):
    """There is no connection, or no longer: one line that says why, with no secret in it."""


class Message(NamedTuple):
    """What a broker keeps for those who come later."""

    topic: str
    payload: bytes


class Answer(NamedTuple):
    """A broker's answer to the message of that number; refused is why not, and code MQTT's for
    that."""

    number: int
    refused: str | None
    code: int


class Connection:
    """A client of MQTT 5 for one connection; used by one thread, which drives it by turns.

    A client that lives longer would send what was not confirmed again by itself, after messages
    that are newer. Making one connects, and raises ConnectionLostError or UserError.

    most: how many messages the broker takes unconfirmed. largest: the bytes of one, None for any.
    """

    def __init__(self, broker: BrokerOptions, client_id: str, will: Message | None = None):
        self.most = 65_535
        self.largest: int | None = None
        self._answers: list[Answer] = []
        self._accepted = False
        self._lost: str | None = None
        self._where = "{}:{}".format(*broker.address)
        self._client: Any = new_client(broker, client_id)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_timeout = _CONNECT_S
        self._client.max_inflight_messages_set(0)  # no bound of its own, which would queue
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)
        self._connect(broker)

    def _prepare(self) -> Any:
        """Set up the client before it connects. Returns what to ask the broker for, as paho's
        properties of a CONNECT, or None."""
        return None

    def _connect(self, broker: BrokerOptions) -> None:
        host, port = broker.address
        wishes = self._prepare()
        keepalive = min(max(1, math.ceil(broker.keepalive_s)), 65_535)
        try:
            self._client.connect(host, port, keepalive, properties=wishes)
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            raise ConnectionLostError(f"{self._where}: {_reason(error)}") from error
        until = time.monotonic() + _CONNECT_S
        try:
            while not self._accepted:
                if time.monotonic() > until:
                    raise ConnectionLostError(f"{self._where}: it does not answer as a broker does")
                self.turn(0.1)
        except BaseException:
            self.close()
            raise

    def publish(self, message: Message, retain: bool = False) -> int:
        """Send a message that is to be confirmed. Returns its number in the answers."""
        sent = self._client.publish(message.topic, message.payload, qos=1, retain=retain)
        return sent.mid

    def turn(self, wait_s: float, wake: socket.socket | None = None) -> list[Answer]:
        """Send and receive what there is, waiting for that, or for the wake socket, so long at
        most. Returns the answers that came. Raises ConnectionLostError."""
        own = self._client.socket()
        if own is not None:
            readable, writable = self._wait(own, wait_s, wake)
            if readable:
                self._client.loop_read()
            if writable and self._client.socket() is not None:
                self._client.loop_write()
            self._client.loop_misc()
        answers, self._answers = self._answers, []
        if not answers and (self._lost is not None or self._client.socket() is None):
            raise ConnectionLostError(f"{self._where}: {self._lost or 'the connection is lost'}")
        return answers

    def _wait(self, own: Any, wait_s: float, wake: socket.socket | None) -> tuple[bool, bool]:
        """Whether there is something to read, and room to write."""
        if getattr(own, "pending", int)():  # TLS has read it already
            wait_s = 0
        poll = select.poll()
        poll.register(own, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        if wake is not None:
            poll.register(wake, select.POLLIN)
        seen = dict(poll.poll(wait_s * 1000)).get(own.fileno(), 0)
        return wait_s == 0 or bool(seen & ~select.POLLOUT), bool(seen & select.POLLOUT)

    def close(self) -> None:
        """Take leave, so that the broker does not publish the will. Calling it again does
        nothing."""
        if self._client.socket() is not None:
            self._client.disconnect()
            self._client.loop_write()
        self.drop()

    def drop(self) -> None:
        """End it without a word, so that the broker does. Calling it again does nothing."""
        own = self._client.socket()
        if own is not None:
            own.close()

    # called by the client, within turn()

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._lose(code)
            return
        self.most = getattr(properties, "ReceiveMaximum", self.most)
        self.largest = getattr(properties, "MaximumPacketSize", None)
        self._accepted = True

    def _on_publish(self, client: Any, data: Any, number: int, code: Any, properties: Any) -> None:
        refused = f"the broker refuses it: {_shown(code)}" if code.is_failure else None
        self._answers.append(Answer(number, refused, code.value))

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, _: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._lose(code)
        elif self._lost is None:
            before = "" if self._accepted else " before it was accepted: does the broker want TLS?"
            self._lost = f"the connection is lost{before}"

    def _lose(self, code: Any) -> None:
        self._lost = f"the broker refuses the connection: {_shown(code)}"


def _shown(code: Any) -> str:
    advice = _ADVICE.get(code.value)
    return str(code).lower() + (f"; {advice}" if advice else "")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.').lower()}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
