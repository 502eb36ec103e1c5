"""Responses that go on until one side leaves."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

log = logging.getLogger(__name__)

PATIENCE_S = 30


class Seats:
    """How many endless responses there may be at once, and are."""

    def __init__(self, limit: int):
        self.limit = limit
        self.taken = 0

    def response(self, body: AsyncGenerator[bytes, None], media_type: str) -> Response:
        """The body as an endless response, or status 503 where no seat is free."""
        if self.taken >= self.limit:
            error = f"{self.limit} streams are open already: close one and try again"
            return JSONResponse({"error": error}, 503, {"Retry-After": "5"})
        return EndlessResponse(body, media_type, self)


class EndlessResponse(StreamingResponse):
    """Sends what a generator gives. A viewer that takes nothing for half a minute is let go, since
    a phone that has left the house says nothing."""

    def __init__(self, body: AsyncGenerator[bytes, None], media_type: str, seats: Seats):
        super().__init__(body, media_type=media_type, headers={"X-Accel-Buffering": "no"})
        self._body = body
        self._seats = seats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._seats.taken += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._seats.taken -= 1

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            with anyio.fail_after(PATIENCE_S):
                await send(message)

        async with aclosing(self._body):
            try:
                await super().stream_response(send_in_time)
            except TimeoutError:
                log.info("a viewer took nothing for %d s and was let go", PATIENCE_S)
