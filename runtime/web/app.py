"""The routes of the live page and the API."""

from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.metrics import metrics_text
from runtime.web.assets import PUBLIC, asset
from runtime.web.endless import Seats
from runtime.web.events import Feed
from runtime.web.stream import BOUNDARY, Pictures
from runtime.web.view import View

STREAMS = 32
"""So many picture and event streams may be open at once, all viewers together."""


class Site:
    """What the routes answer from."""

    def __init__(self, view: View, rate: float):
        self._view = view
        self._pictures = Pictures(view, rate)
        self._feed = Feed(view)
        self._seats = Seats(STREAMS)

    def close(self) -> None:
        """End all streams; called on the event loop."""
        self._pictures.close()
        self._feed.close()

    def app(self) -> Starlette:
        routes = [Route(address, _file(*file)) for address, file in PUBLIC.items()] + [
            Route("/api/state", self._show_state),
            Route("/api/detections", self._detections),
            Route("/stream/{source}", self._stream),
            Route("/snapshot/{source}.jpg", self._snapshot),
            Route("/metrics", self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _plain_error})

    def _state(self) -> dict[str, Any]:
        """The daemon's state, and the web side's own numbers under "web"."""
        web = {
            "streams": self._seats.taken,
            "streams_limit": self._seats.limit,
            "listening": self._feed.listening,
            "events_dropped": self._feed.dropped,
        }
        return self._view.state() | {"web": web}

    def _known(self, source: str) -> str:
        if source not in self._view.state()["sources"]:
            raise HTTPException(404, "there is no source of that name: /api/state lists them")
        return source

    def _show_state(self, request: Request) -> Response:
        return JSONResponse(self._state())

    def _metrics(self, request: Request) -> Response:
        return Response(metrics_text(self._state()), media_type=CONTENT_TYPE_LATEST)

    def _healthz(self, request: Request) -> Response:
        return _verdict(self._view.healthy())

    def _readyz(self, request: Request) -> Response:
        return _verdict(self._view.ready())

    async def _snapshot(self, request: Request) -> Response:
        picture = await self._pictures.newest(self._known(request.path_params["source"]))
        if picture is None:
            raise HTTPException(503, "there is no picture of this source yet", {"Retry-After": "2"})
        return Response(picture.jpeg, media_type="image/jpeg")

    async def _stream(self, request: Request) -> Response:
        source = self._known(request.path_params["source"])
        media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        if request.method == "HEAD":
            return Response(media_type=media_type)
        return self._seats.response(self._pictures.mjpeg(source), media_type)

    async def _detections(self, request: Request) -> Response:
        sources = frozenset(map(self._known, request.query_params.getlist("source")))
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return self._seats.response(self._feed.stream(sources), "text/event-stream")


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(asset(name), media_type=media_type)

    return answer


def _verdict(ok: bool) -> Response:
    return JSONResponse({"ok": ok}, 200 if ok else 503)


async def _plain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
