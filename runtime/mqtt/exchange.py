"""A connection that also receives."""

import time
from typing import Any, NamedTuple

from runtime.mqtt.broker import BrokerOptions
from runtime.mqtt.connection import Connection, ConnectionLostError

_SUBSCRIBE_S = 4.0
_HEADER = 2 * 65_536 + 64  # bytes of a message besides its payload: topics, correlation data
_LARGEST_PACKET = 268_435_455


class Received(NamedTuple):
    """A message, and what its sender wants to be answered with. payload: empty where its size is
    above the bound. number: None where the broker waits for no acknowledgement. correlation: None
    where the sender gave none."""

    payload: bytes
    size: int
    number: int | None
    response_topic: str | None
    correlation: bytes | None


class Exchange(Connection):
    """A connection that subscribes, and keeps nothing at the broker beyond its end. Messages come
    with turn() into messages, from which its user takes them; each is to be acknowledged.

    window: so many unacknowledged at a time. largest_in: bytes of a payload. Those up to four times
    as large come without it, so that they can be answered; the broker is asked to drop any larger
    one. (mosquitto 2.0.11 counts what it dropped as unacknowledged: after window of them nothing of
    QoS 1 comes on that connection any more.)
    """

    def __init__(self, broker: BrokerOptions, window: int, largest_in: int):
        self.messages: list[Received] = []
        self._window = window
        self._largest_in = largest_in
        self._subscribed: Any = None
        super().__init__(broker, "")

    def _prepare(self) -> Any:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wishes = Properties(PacketTypes.CONNECT)
        wishes.SessionExpiryInterval = 0
        wishes.ReceiveMaximum = self._window
        wishes.MaximumPacketSize = min(4 * self._largest_in + _HEADER, _LARGEST_PACKET)
        self._client.manual_ack_set(True)
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        return wishes

    def subscribe(self, topic: str) -> None:
        """Receive what is published there. Raises ConnectionLostError where that is refused."""
        self._client.subscribe(topic, qos=1)
        until = time.monotonic() + _SUBSCRIBE_S
        while self._subscribed is None:
            if time.monotonic() > until:
                raise ConnectionLostError(f"{self._where}: it does not answer a subscription")
            self.turn(0.1)
        if self._subscribed.is_failure:
            refused = str(self._subscribed).lower()
            raise ConnectionLostError(
                f"{self._where}: the broker refuses a subscription to {topic}: {refused}"
            )

    def unsubscribe(self, topic: str) -> None:
        """Have no more sent; what is on its way still comes."""
        self._client.unsubscribe(topic)

    def send(
        self,
        topic: str,
        payload: bytes,
        correlation: bytes | None = None,
        response_topic: str | None = None,
    ) -> int:
        """Publish a message that is to be confirmed. Returns its number in the answers."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.PUBLISH)
        if correlation is not None:
            properties.CorrelationData = correlation
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        return self._client.publish(topic, payload, qos=1, properties=properties).mid

    def acknowledge(self, message: Received) -> None:
        """Tell the broker that a message is done with."""
        if message.number is not None:
            self._client.ack(message.number, 1)

    # called by the client, within turn()

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        properties, size = message.properties, len(message.payload)
        self.messages.append(
            Received(
                message.payload if size <= self._largest_in else b"",
                size,
                message.mid if message.qos else None,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(self, client: Any, data: Any, number: int, codes: Any, _: Any) -> None:
        self._subscribed = codes[0]
