"""Results by HTTP POST, one a request, over a connection that is kept."""

import json
import logging
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event, Timer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from runtime import __version__
from runtime.errors import UserError
from runtime.pipeline.frames import Result, event
from runtime.sinks import SinkLostError
from runtime.sinks.options import WebhookOptions

log = logging.getLogger(__name__)

_LATER = frozenset((408, 425, 429))
_LARGEST_ANSWER = 65536
_QUIET_S = 60.0
_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class WebhookSink:
    """Posts events. What the server answers counts: 2xx is delivered; 5xx, 408, 425, 429 and no
    answer are tried again, so that it can get a result twice; all else is refused, counted and
    told once a minute, and the result dropped. Redirects are not followed, proxies not used."""

    def __init__(self, options: WebhookOptions, board: str):
        """Raises UserError where the certificates to trust cannot be read."""
        self._options = options
        self._headers = _headers(options)
        self._target = _target(options)
        self._connection = _connection(options)
        self._counts: dict[str, int | None] = {"delivered": 0, "refused": 0, "last_status": None}
        self._quiet_until = 0.0
        self._untold = 0

    def write(self, result: Result) -> None:
        """Raises SinkLostError where the server cannot take it now."""
        if not len(result.detections) and not self._options.empty:
            return
        status = self._deliver(json.dumps(event(result)).encode())
        self._counts["last_status"] = status
        if 200 <= status < 300:
            self._counts["delivered"] += 1
        elif status < 200 or status >= 500 or status in _LATER:
            raise SinkLostError(f"{self._options.shown} answers {status}: see its own log")
        else:
            self._counts["refused"] += 1
            self._tell_refused(status)

    def _deliver(self, body: bytes) -> int:
        """The status of the answer. A server may have closed a kept connection meanwhile, which
        shows only when it is used: then once more, over a new one."""
        kept = self._connection.sock is not None
        try:
            try:
                return self._post(body)
            except _CLOSED:
                if not kept:
                    raise
                return self._post(body)
        except (OSError, HTTPException) as error:
            raise SinkLostError(f"{self._options.shown}: {self._reason(error)}") from error

    def _post(self, body: bytes) -> int:
        """One request; the connection is kept after a whole answer only."""
        connection, whole = self._connection, False
        try:
            if connection.sock is None:
                connection.connect()
            with _within(self._options.timeout_s, connection.sock):
                connection.request("POST", self._target, body, self._headers)
                answer = connection.getresponse()
                with suppress(OSError, HTTPException):  # its status is all that counts
                    answer.read(_LARGEST_ANSWER)
                    whole = answer.isclosed()
            return answer.status
        finally:
            if not whole:
                connection.close()

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._options.timeout_s:g} s"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted, {error.verify_message}; ca may name another"
        if isinstance(error, _CLOSED) and not isinstance(error, ConnectionRefusedError):
            return "it closed the connection without an answer"
        if isinstance(error, HTTPException):
            return "what answers there does not speak HTTP"
        return (error.strerror or type(error).__name__).lower()

    def _tell_refused(self, status: int) -> None:
        self._untold += 1
        if time.monotonic() < self._quiet_until:
            return
        hint = "it redirects: give the address it leads to" if status < 400 else "see its own log"
        shown, count = self._options.shown, self._untold
        log.warning("%s refused %d results, now with status %d; %s", shown, count, status, hint)
        self._quiet_until, self._untold = time.monotonic() + _QUIET_S, 0

    def close(self) -> None:
        self._connection.close()

    def state(self) -> dict[str, Any]:
        return dict(self._counts)


@contextmanager
def _within(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Cut a connection after that time, also where each single byte comes in time. Raises
    TimeoutError then."""
    over = Event()

    def cut() -> None:
        over.set()
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, which may be in use

    timer = Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException) as error:
        if over.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def _headers(options: WebhookOptions) -> dict[str, str]:
    parts = urlsplit(options.url.get_secret_value())
    headers = {"content-type": "application/json", "user-agent": f"rkyolo/{__version__}"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    given = {name.lower(): value.get_secret_value() for name, value in options.headers.items()}
    return headers | given


def _target(options: WebhookOptions) -> str:
    """What stands after the host, with what may not stand in a request escaped."""
    parts = urlsplit(options.url.get_secret_value())
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=-._~?")
    return f"{path}?{query}" if query else path


def _connection(options: WebhookOptions) -> HTTPConnection:
    """A connection that is not made yet. The certificate of https is checked."""
    parts = urlsplit(options.url.get_secret_value())
    if parts.scheme == "http":
        return HTTPConnection(parts.hostname, parts.port, timeout=options.timeout_s)
    try:
        context = ssl.create_default_context(cafile=options.ca)
    except OSError as error:  # ssl.SSLError too
        reason = (error.strerror or "it holds none").lower()
        raise UserError(f"the certificates {options.ca} cannot be used: {reason}") from error
    return HTTPSConnection(parts.hostname, parts.port, timeout=options.timeout_s, context=context)
