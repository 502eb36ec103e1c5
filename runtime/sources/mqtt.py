"""Pictures that any client publishes, shared by the boards of a group, and the answers to them."""

import json
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

from runtime.mqtt.connection import ConnectionLostError
from runtime.mqtt.exchange import Exchange, Received
from runtime.mqtt.picture import decode
from runtime.pipeline.frames import Capture, Result, event
from runtime.sources import SourceLostError
from runtime.sources.options import MqttSourceOptions

log = logging.getLogger(__name__)

_LINGER_S = 0.9
"""After the stop, for answers to the pictures the pipeline has."""

_LOOK_EVERY_S = 0.25
_REFRESH_S = 60.0
"""An idle connection gives way to a new one, since a broker may have stopped sending on it (see
Exchange) and there is no telling that from having nothing to send."""

_LONGEST_TOPIC = 256
_MOST_LEVELS = 32


class MqttSource:
    """One member of a shared subscription. It takes up to window pictures at a time, and a picture
    is acknowledged when the broker has its answer.

    An answer goes to the request's response topic with its correlation data: JSON with "board", and
    either what a sink would write of the frame, or "error". A request without a topic to answer to
    only goes to the sinks. Whoever may publish requests chooses where this board publishes answers,
    within answer_prefix; what the broker's access list denies, mosquitto 2.0.11 answers by closing
    the connection.
    """

    live = False

    def __init__(self, options: MqttSourceOptions, board: str):
        self._options = options
        self._board = board

    def captures(self, stop: Event) -> Iterator[Capture | None]:
        """As Source says. A broker that refuses is lost too, since that is mended there."""
        session = self._connected()
        try:
            yield None
            while not stop.is_set():
                received = session.next(_LOOK_EVERY_S)
                capture = received and self._capture(session, *received, stop)
                if capture:
                    yield capture
                elif received is None and session.idle_s > _REFRESH_S:
                    old, session = session, self._connected()
                    old.close(0)
        finally:
            session.close(_LINGER_S if stop.is_set() else 0)

    def _connected(self) -> "_Session":
        try:
            return _Session(self._options)
        except ConnectionLostError as error:
            raise SourceLostError(str(error)) from error

    def _capture(
        self, session: "_Session", message: Received, received_at: float, stop: Event
    ) -> Capture | None:
        """The picture in a message; None, and an answer that says why, where there is none."""
        mine = {"board": self._board}

        def answer(result: Result | None) -> None:
            if result is not None:
                session.answer(message, mine | event(result))
            elif stop.is_set():  # another board may still do it
                session.forget(message)
            else:
                session.answer(message, mine | {"error": "this board failed at it, see its log"})

        try:
            if message.size > len(message.payload):
                most = self._options.largest_mb
                raise ValueError(f"a picture of {message.size} bytes: at most {most:g} MB")
            bgr = decode(message.payload, self._options.largest_megapixels)
        except ValueError as error:
            session.answer(message, mine | {"error": str(error)})
            return None
        return Capture(bgr, received_at, answer=answer)


class _Session:
    """One connection, and the thread that drives it: requests come in, answers go out.

    Made, it is connected and subscribed. Raises ConnectionLostError and UserError.
    """

    def __init__(self, options: MqttSourceOptions):
        self._window = options.window
        self._topic = f"$share/{options.group}/{options.topic}"
        self._requests: queue.Queue[tuple[Received, float]] = queue.Queue()
        self._answers: queue.SimpleQueue[tuple[Received, bytes | None]] = queue.SimpleQueue()
        self._prefix = options.answer_prefix
        self._taken: set[int] = set()  # what is in the pipeline, or its answer not confirmed
        self._unconfirmed: dict[int, Received] = {}
        self._flooded = self._refused = False
        self._lost: str | None = None
        self._give_up_at = float("inf")
        self._busy_at = time.monotonic()
        self._exchange = Exchange(options.broker, options.window, int(options.largest_mb * 1e6))
        try:
            self._exchange.subscribe(self._topic)
        except BaseException:
            self._exchange.close()
            raise
        self._awake, self._wake = socket.socketpair()
        self._awake.setblocking(False)
        self._wake.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt source", daemon=True)
        self._thread.start()

    # for the source's thread

    def next(self, wait_s: float) -> tuple[Received, float] | None:
        """A request, and when it came in unix seconds; None where none came in that time. Raises
        SourceLostError."""
        if self._lost is not None:
            raise SourceLostError(self._lost)
        try:
            message, received_at = self._requests.get(timeout=wait_s)
        except queue.Empty:
            return None
        self._taken.add(id(message))
        self._busy_at = time.monotonic()
        return message, received_at

    @property
    def idle_s(self) -> float:
        """Seconds since the last request, 0 while one is under way."""
        return 0.0 if self._taken else time.monotonic() - self._busy_at

    def close(self, within_s: float) -> None:
        """Take no more requests, wait so long for the answers to those that were taken, and end."""
        self._give_up_at = time.monotonic() + within_s
        self._ring()
        self._thread.join(within_s + 2)
        self._awake.close()
        self._wake.close()

    # for any thread, at any time

    def answer(self, message: Received, plain: dict[str, Any]) -> None:
        """Answer a request, and acknowledge it when the broker has the answer. Does nothing when
        the connection it came on is over."""
        self._answers.put((message, json.dumps(plain).encode()))
        self._ring()

    def forget(self, message: Received) -> None:
        """Neither answer nor acknowledge a request."""
        self._answers.put((message, None))
        self._ring()

    def _ring(self) -> None:
        try:
            self._wake.send(b"\0")
        except OSError:  # it rings already, or is closed
            pass

    # its own thread

    def _run(self) -> None:
        try:
            while self._give_up_at == float("inf"):
                self._turn(self._take)
            self._exchange.unsubscribe(self._topic)
            while self._taken and time.monotonic() < self._give_up_at:
                self._turn(lambda message: None)
            self._exchange.close()
        except ConnectionLostError as error:
            self._lost = str(error)
        except Exception as error:
            log.exception("the MQTT source has an error of its own")
            self._lost = f"an error of its own, see the log: {type(error).__name__}"
        finally:
            self._exchange.drop()

    def _turn(self, take: Callable[[Received], None]) -> None:
        self._send()
        confirmed = self._exchange.turn(_LOOK_EVERY_S, self._awake)
        try:
            while self._awake.recv(4096):
                pass
        except BlockingIOError:
            pass
        for answer in confirmed:
            if answer.refused and not self._refused:
                self._refused = True
                log.warning("an answer did not reach who asked (said once): %s", answer.refused)
            self._done(self._unconfirmed.pop(answer.number))
        messages, self._exchange.messages = self._exchange.messages, []
        for message in messages:
            take(message)

    def _take(self, message: Received) -> None:
        """Queue a request. Of QoS 1 the broker sends no more than the window; of QoS 0 it sends
        all, and what is too much is dropped."""
        if message.number is not None or self._requests.qsize() < self._window:
            self._requests.put((message, time.time()))
        elif not self._flooded:
            self._flooded = True
            log.warning(
                "pictures come faster than they can be taken, and are dropped: publish QoS 1"
            )

    def _send(self) -> None:
        """Send the answers there are, as many as the broker takes at a time."""
        while len(self._unconfirmed) < self._exchange.most:
            try:
                message, payload = self._answers.get_nowait()
            except queue.Empty:
                return
            if payload is None:
                self._taken.discard(id(message))
            elif not _may_answer_to(message.response_topic, self._prefix):
                self._done(message)
            else:
                payload = self._fitting(payload, message)
                number = self._exchange.send(message.response_topic, payload, message.correlation)
                self._unconfirmed[number] = message

    def _fitting(self, payload: bytes, message: Received) -> bytes:
        """The answer; another where it is so large that the broker would end the connection."""
        header = len(message.response_topic.encode()) + len(message.correlation or b"") + 64
        if self._exchange.largest is None or len(payload) + header <= self._exchange.largest:
            return payload
        plain = {"board": json.loads(payload)["board"]}
        return json.dumps(plain | {"error": "the answer is larger than the broker takes"}).encode()

    def _done(self, message: Received) -> None:
        self._exchange.acknowledge(message)
        self._taken.discard(id(message))


def _may_answer_to(topic: str | None, prefix: str) -> bool:
    """Whether a topic may be answered to: allowed, and none a broker ends the connection for."""
    return (
        topic is not None
        and 0 < len(topic) <= _LONGEST_TOPIC
        and topic.startswith(prefix)
        and not topic.startswith("$")
        and not any(c in "+#" or not c.isprintable() for c in topic)
        and topic.count("/") < _MOST_LEVELS
    )
