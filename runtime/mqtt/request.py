"""The client of boards that share pictures: it asks until each picture has one answer."""

import logging
import math
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.mqtt.agreed import LARGEST_MB, REQUESTS
from runtime.mqtt.broker import BrokerOptions
from runtime.mqtt.connection import Answer as Confirmed
from runtime.mqtt.connection import ConnectionLostError
from runtime.mqtt.exchange import Exchange, Received
from runtime.mqtt.picture import picture_size
from runtime.mqtt.reply import Answer, Tally, read_answer
from runtime.pipeline.backoff import Backoff

log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
"""How long a broker that went away may stay away."""

_HELD = 1000
"""Answers that wait for the one to an earlier picture, at most."""

_LOOK_EVERY_S = 0.25
_LARGEST_ANSWER = 2**24
_LARGEST_FILE = 250_000_000  # MQTT itself has no room for more
_HEADER = 1024  # bytes of a request besides its picture, at most
_NOT_AUTHORIZED, _QUOTA, _NOBODY = 0x87, 0x97, 0x10


def request(
    broker: BrokerOptions,
    pictures: Iterable[bytes | Path],
    topic: str = REQUESTS,
    timeout_s: float = 10.0,
    window: int = 16,
    attempts: int = 6,
    tally: Tally | None = None,
) -> Iterator[Answer]:
    """Have boards look at pictures; gives one answer a picture, in the order of the pictures.

    pictures: encoded ones, or files; asked for one by one, while there is room. window: pictures
    under way at a time, about four a board. A picture that has no answer timeout_s after the broker
    took it is sent again, up to attempts times in all; then its answer is an error. A broker whose
    connection is lost is tried again for a minute, and all that was under way is sent again. A
    board that loses its power is sent pictures until the broker notices, so the last attempt, after
    timeout_s * (attempts - 1), should be later than that: one and a half of its keepalive_s.

    tally: filled on the way. Raises UserError where the broker cannot be reached or used, and where
    no board is subscribed to the topic from the beginning.
    """
    requests = _Requests(broker, topic, timeout_s, window, attempts, tally or Tally())
    coming, more = iter(pictures), True
    try:
        requests.connect()
        while more or not requests.empty:
            if more and requests.has_room:
                picture = next(coming, None)
                more = picture is not None
                if more:
                    requests.add(picture)
            requests.turn(0 if more and requests.has_room else _LOOK_EVERY_S)
            yield from requests.ready()
    finally:
        requests.close()


@dataclass(eq=False)
class _Open:
    """A picture under way. due: when it is sent again, if the broker has it."""

    index: int
    name: str
    payload: bytes
    sends: int = 0
    due: float = math.inf
    nobody: bool = False


class _Requests:
    """The pictures under way, the connection they go over, and the answers that wait their turn."""

    def __init__(
        self,
        broker: BrokerOptions,
        topic: str,
        timeout_s: float,
        window: int,
        attempts: int,
        tally: Tally,
    ):
        self._broker, self._topic = broker, topic
        self._timeout_s, self._window, self._attempts = timeout_s, window, attempts
        self._tally = tally
        self._answers_to = f"rkyolo/answers/{secrets.token_hex(8)}"
        self._nonce = secrets.token_bytes(8)
        self._exchange: Exchange | None = None
        self._open: dict[int, _Open] = {}
        self._sent: dict[int, _Open] = {}  # by the message's number, until the broker confirms it
        self._answered: dict[int, Answer] = {}
        self._somebody = False  # has been subscribed to the topic
        self._first = self._next = 0  # the first that was not given yet, and the next to come

    # the connection

    def connect(self) -> None:
        """Raises UserError."""
        try:
            self._exchange = self._new_exchange()
        except ConnectionLostError as error:
            raise UserError(str(error)) from error

    def _new_exchange(self) -> Exchange:
        exchange = Exchange(self._broker, 4 * self._window, _LARGEST_ANSWER)
        try:
            exchange.subscribe(self._answers_to)
        except BaseException:
            exchange.close()
            raise
        return exchange

    def close(self) -> None:
        if self._exchange is not None:
            self._exchange.close()

    def _connect_again(self, reason: str) -> None:
        """Send all that is under way over a new connection. Raises UserError."""
        log.warning("%s: trying again", reason)
        until, backoff = time.monotonic() + _PATIENCE_S, Backoff(3.0)
        self._exchange.drop()
        while True:
            time.sleep(backoff.next_s())
            try:
                self._exchange = self._new_exchange()
                break
            except ConnectionLostError as error:
                if time.monotonic() > until:
                    raise UserError(f"{error}: given up after {_PATIENCE_S:.0f} s") from error
        log.warning("connected again")
        self._sent.clear()
        for request in list(self._open.values()):
            self._send_again(request)

    # in

    @property
    def empty(self) -> bool:
        return self._first == self._next

    @property
    def has_room(self) -> bool:
        most = min(self._window, self._exchange.most)
        return len(self._open) < most and len(self._answered) < _HELD

    def add(self, picture: bytes | Path) -> None:
        """Send a picture; one that cannot be read has its answer at once."""
        index, self._next = self._next, self._next + 1
        self._tally.pictures += 1
        name = f"picture {index}" if isinstance(picture, bytes) else str(picture)
        try:
            payload = picture if isinstance(picture, bytes) else _read(picture)
            most = self._exchange.largest
            if most is not None and len(payload) + _HEADER > most:
                raise ValueError(
                    f"it has {len(payload)} bytes, and the broker takes at most {most}"
                )
        except ValueError as error:
            self._settle(index, Answer(name, error=str(error)))
            return
        self._open[index] = _Open(index, name, payload)
        self._send(self._open[index])

    def _send(self, request: _Open) -> None:
        request.sends += 1
        request.due = math.inf  # until the broker has it: that takes its time on a slow line
        correlation = self._nonce + request.index.to_bytes(8, "big")
        number = self._exchange.send(self._topic, request.payload, correlation, self._answers_to)
        self._sent[number] = request

    def _send_again(self, request: _Open) -> None:
        if request.sends < self._attempts:
            self._tally.resends += 1
            self._send(request)
        else:
            del self._open[request.index]
            self._settle(request.index, Answer(request.name, error=self._why_unanswered(request)))

    def _why_unanswered(self, request: _Open) -> str:
        if request.nobody:
            return f"no board is subscribed to {self._topic}"
        why = f"no answer after {self._attempts} tries"
        if len(request.payload) > LARGEST_MB * 1e6:
            why += f": it has {len(request.payload)} bytes, a board takes {LARGEST_MB:g} MB"
            why += " unless its largest_mb says more"
        return why

    # out

    def turn(self, wait_s: float) -> None:
        """Send and receive what there is, waiting for that so long at most."""
        try:
            for confirmed in self._exchange.turn(wait_s):
                self._on_confirmed(confirmed)
            messages, self._exchange.messages = self._exchange.messages, []
            for message in messages:
                self._on_answer(message)
                self._exchange.acknowledge(message)
        except ConnectionLostError as error:
            self._connect_again(str(error))
        now = time.monotonic()
        for request in [each for each in self._open.values() if each.due <= now]:
            self._send_again(request)

    def ready(self) -> Iterator[Answer]:
        """The answers whose turn it is."""
        while self._first in self._answered:
            self._first += 1
            yield self._answered.pop(self._first - 1)

    def _on_confirmed(self, confirmed: Confirmed) -> None:
        """The broker has a picture, or does not want it."""
        request = self._sent.pop(confirmed.number, None)
        if request is None or self._open.get(request.index) is not request:
            return
        request.due = time.monotonic() + self._timeout_s
        request.nobody = confirmed.code == _NOBODY
        self._somebody = self._somebody or not (request.nobody or confirmed.refused)
        if request.nobody and not self._somebody:
            raise UserError(
                f"no board is subscribed to {self._topic}: start rkyolo run there with a source of"
                " type mqtt, or name another --topic"
            )
        if confirmed.code == _NOT_AUTHORIZED:
            raise UserError(f"the broker does not let this user publish to {self._topic}")
        if confirmed.refused and confirmed.code != _QUOTA:
            del self._open[request.index]
            self._settle(request.index, Answer(request.name, error=confirmed.refused))

    def _on_answer(self, message: Received) -> None:
        correlation = message.correlation or b""
        index = int.from_bytes(correlation[8:], "big")
        if correlation[:8] != self._nonce or len(correlation) != 16 or index >= self._next:
            return  # none of ours
        request = self._open.pop(index, None)
        if request is None:
            self._tally.duplicates += 1
            return
        self._somebody = True
        self._tally.answers += 1
        answer = read_answer(request.name, message.payload)
        if answer.board is not None:
            self._tally.boards[answer.board] += 1
        self._settle(index, answer)

    def _settle(self, index: int, answer: Answer) -> None:
        self._tally.failed += answer.error is not None
        self._answered[index] = answer


def _read(path: Path) -> bytes:
    """A file as a board takes it; of another format as PNG. Raises ValueError."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError(f"it has more than {_LARGEST_FILE} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read it: {(error.strerror or str(error)).lower()}") from error
    if picture_size(data) is not None:
        return data
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return cv2.imencode(".png", bgr)[1].tobytes()
    except cv2.error as error:  # also what imdecode could not read
        raise ValueError("it cannot be read as a picture: it is damaged") from error
