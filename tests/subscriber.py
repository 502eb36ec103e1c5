"""A client that listens to a broker for a test, and stays over the broker's restarts."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from servers import Server, wait_for

from runtime.mqtt.broker import BrokerOptions, new_client


class Subscriber:
    """All messages of a topic filter, as they came.

    With QoS 1 the broker keeps the session over its own orderly restarts. What a killed broker had
    confirmed and not yet handed on is lost all the same, and no client can tell. With QoS 0 nothing
    is kept, but a broker that is killed has written to a connected listener what it confirmed, and
    all of that arrives: there is nothing unread on the broker's side that would reset the
    connection.
    """

    def __init__(self, broker: BrokerOptions, topic: str, qos: int):
        self.messages: list[MQTTMessage] = []
        self.subscriptions = 0  # one a connection
        self._topic = topic
        self._qos = qos
        self._client: Any = new_client(broker, "listener")
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda client, data, message: self.messages.append(message)
        self._client.reconnect_delay_set(0.05, 0.1)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect(*broker.address, clean_start=False, properties=session)
        self._client.loop_start()
        wait_for(lambda: self.subscriptions, "the subscription")

    def _on_connect(self, client: Client, *_: Any) -> None:
        client.subscribe(self._topic, qos=self._qos)

    def _on_subscribe(self, *_: Any) -> None:
        self.subscriptions += 1

    def payloads(self, end: str = "") -> list[bytes]:
        """Of the topics that end so, in the order in which they came."""
        return [m.payload for m in list(self.messages) if m.topic.endswith(end)]

    def events(self) -> list[dict[str, Any]]:
        """What came as detections."""
        return [json.loads(payload) for payload in self.payloads("/detections")]

    def last(self, topic: str) -> bytes | None:
        """The newest payload under a topic."""
        found = [m.payload for m in list(self.messages) if m.topic == topic]
        return found[-1] if found else None

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def subscriber(broker: BrokerOptions, topic: str = "#", qos: int = 1) -> Iterator[Subscriber]:
    listening = Subscriber(broker, topic, qos)
    try:
        yield listening
    finally:
        listening.close()


def first_arrivals(events: list[dict[str, Any]]) -> list[int]:
    """The ids in the order in which each came for the first time."""
    return list(dict.fromkeys(event["id"] for event in events))


def cut_off(server: Server, listener: Subscriber, process: subprocess.Popen) -> None:
    """Kill the broker while the process sends, and let it go on alone for a moment. It finds the
    broker again when the listener is there, or nobody could tell what became of what it sends."""
    before = listener.subscriptions
    server.kill()
    time.sleep(random.uniform(0, 0.3))
    process.send_signal(signal.SIGSTOP)
    server.start()
    wait_for(lambda: listener.subscriptions > before, "the listener")
    process.send_signal(signal.SIGCONT)
