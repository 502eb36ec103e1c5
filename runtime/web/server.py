"""The web server: a socket, and a thread in which it answers."""

import asyncio
import errno
import logging
import socket
import threading

import uvicorn

from runtime.config import HttpOptions
from runtime.errors import UserError
from runtime.web.app import Site
from runtime.web.auth import Guard
from runtime.web.endless import PATIENCE_S
from runtime.web.view import View

log = logging.getLogger(__name__)

_CONNECTIONS = 128
_START_S = 10
# of the event loop, until a connection that was accepted in the last one is known to uvicorn, which
# would wait for its end without having asked for it
_TURNS_TO_CONNECT = 5

_ADVICE = {
    errno.EADDRINUSE: "another program has this port: stop it, or set http.port to another one",
    errno.EACCES: "ports below 1024 are the system's: set http.port to a higher one",
    errno.EADDRNOTAVAIL: "this host has no such address: set http.host to one of its own",
}


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it answers."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.answers = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for _ in range(_TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # clients that took nothing
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0.01)  # the loop closes them


class WebServer:
    """The live page and the API over a view of the daemon.

    Made, it has its address and connections wait; start() begins to answer, in a thread of its own
    that takes no signals. Raises UserError where the address cannot be had.
    """

    def __init__(self, options: HttpOptions, view: View):
        self._socket = _bound(options.host, options.port)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._site = Site(view, options.stream_rate)
        config = uvicorn.Config(
            Guard(self._site.app(), options, self.address[1]),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # Guard logs what fails, in words of our own
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
        )
        self._server = _Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Begin to answer; returns when it does."""
        self._thread.start()
        if not self._server.answers.wait(_START_S):
            raise RuntimeError("the web server did not start")

    @property
    def url(self) -> str:
        """The page's address."""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def close(self, within_s: float = 5) -> None:
        """End all streams and stop answering. Calling it again does nothing."""
        if not self._thread.ident:
            self._socket.close()
        elif self._thread.is_alive() and self._loop is not None:
            self._server.config.timeout_graceful_shutdown = max(within_s - 1, 0.2)
            self._server.should_exit = True
            try:
                self._loop.call_soon_threadsafe(self._site.close)
            except RuntimeError:  # it ended by itself meanwhile
                pass
            self._thread.join(within_s)
            if self._thread.is_alive():
                log.warning("the web server did not end within %g s", within_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            log.exception("the web server ended")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(f"http.host {host} is no address of this host: {error}") from error
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # of each connection: the kernel ends it when a client that has left confirms nothing
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PATIENCE_S * 1000)
        made.bind(address)
        made.listen(_CONNECTIONS)
    except OSError as error:
        made.close()
        reason = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise UserError(f"cannot answer on {host} port {port}: {reason}") from error
    return made
