"""Who may ask: the token, and what keeps strangers and their pages away."""

import base64
import hashlib
import hmac
import logging
import re
import time
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import parse_qs, urlsplit

import anyio
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.config import HttpOptions
from runtime.web.assets import asset

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every response, where it has no such header of its own."""

_SESSION_S = 30 * 86_400
_LARGEST_LOGIN = 4096
_LOGIN_S = 10
_WRONG = "That is not the token."


class Failures:
    """Wrong tokens of each address: after some of them it is not asked again for a while."""

    LIMIT, PERIOD_S, ADDRESSES = 10, 60.0, 1024

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, int]] = {}

    def wait_s(self, address: str) -> float:
        """How long this address has to wait; 0 where it may try."""
        since, count = self._counts.get(address, (0.0, 0))
        left = since + self.PERIOD_S - time.monotonic()
        return max(left, 0) if count >= self.LIMIT else 0

    def add(self, address: str) -> None:
        since, count = self._counts.pop(address, (0.0, 0))
        if since + self.PERIOD_S < time.monotonic():
            since, count = time.monotonic(), 0
        if len(self._counts) >= self.ADDRESSES:
            del self._counts[next(iter(self._counts))]
        self._counts[address] = since, count + 1
        log.warning("%s gave a wrong token (%d of %d)", address, count + 1, self.LIMIT)


class Guard:
    """An ASGI application around another one, which answers only those who may ask.

    With a token every request needs it: as Authorization: Bearer, or as the cookie that POST /login
    gives for it. All else is status 401, for browsers with a form to log in. Without a token, which
    is on loopback only, the request has to name this host as localhost or by a loopback address:
    other names are another site's that points here.
    """

    def __init__(self, app: ASGIApp, options: HttpOptions, port: int):
        self._app = app
        self._token = options.token.get_secret_value().encode() if options.token else None
        self._cookie = f"rkyolo_{port}"  # cookies are a host's, not a port's
        self._failures = Failures()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope, receive)
        try:
            answer = await self._answer(request) or self._app
            await answer(scope, receive, send_guarded)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)

    async def _answer(self, request: Request) -> Response | None:
        """The refusal or the login; None where the application may answer."""
        if _is_foreign(request):
            return _refused(403, "a page of another site asked for this")
        if self._token is None:
            if _names_loopback(request.headers.get("host", "")):
                return None
            return _refused(403, "open it as localhost or 127.0.0.1: other names need a token")
        if self._has_session(request, self._token):
            return None if request.url.path != "/login" else RedirectResponse("/", 303)
        return await self._without_session(request, self._token)

    async def _without_session(self, request: Request, token: bytes) -> Response | None:
        is_login = request.method == "POST" and request.url.path == "/login"
        offered = await _posted_token(request) if is_login else _bearer(request)
        if offered is None:
            return _unauthorized(request)
        address = _address(request)
        wait_s = self._failures.wait_s(address)
        if wait_s > 0:
            error = f"too many wrong tokens: try again in {wait_s:.0f} s"
            return _refused(429, error, {"Retry-After": f"{wait_s:.0f}"})
        if not hmac.compare_digest(offered, token):
            self._failures.add(address)
            return _unauthorized(request, _WRONG)
        return self._logged_in(request, token) if is_login else None

    def _logged_in(self, request: Request, token: bytes) -> Response:
        """To the page, with the cookie. It outlives a restart and ends with the token."""
        expires = int(time.time()) + _SESSION_S
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self._cookie,
            f"{expires}-{_seal(token, expires)}",
            max_age=_SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    def _has_session(self, request: Request, token: bytes) -> bool:
        match = re.fullmatch(r"(\d{1,12})-([0-9a-f]{64})", request.cookies.get(self._cookie, ""))
        if match is None or int(match[1]) < time.time():
            return False
        return hmac.compare_digest(match[2], _seal(token, int(match[1])))


def _seal(token: bytes, expires: int) -> str:
    return hmac.new(token, f"rkyolo session {expires}".encode(), hashlib.sha256).hexdigest()


def _bearer(request: Request) -> bytes | None:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip().encode("latin-1") if kind.lower() == "bearer" else None


async def _posted_token(request: Request) -> bytes | None:
    """The token of the login form; None where there is none in it."""
    body = b""
    with anyio.move_on_after(_LOGIN_S):
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_LOGIN:
                return None
    try:
        fields = parse_qs(body.decode("latin-1"), errors="replace", max_num_fields=4)
    except ValueError:  # more fields than that
        return None
    return fields["token"][0].strip().encode() if "token" in fields else None


def _address(request: Request) -> str:
    """Who asks; of IPv6 the network, since one host has many addresses of it."""
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return "an unknown address"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _is_foreign(request: Request) -> bool:
    """Whether a page of another site makes the browser ask. Following a link from there is fine."""
    origin = request.headers.get("origin")
    if request.method not in ("GET", "HEAD") and origin is not None:
        return urlsplit(origin).netloc != request.headers.get("host")
    site, mode = (request.headers.get(f"sec-fetch-{name}") for name in ("site", "mode"))
    return site in ("cross-site", "same-site") and mode != "navigate"


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _refused(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": error}, status, headers)


def _unauthorized(request: Request, hint: str = "") -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="rkyolo"'}
    if "text/html" not in request.headers.get("accept", ""):
        return _refused(401, hint or "give the token as Authorization: Bearer", headers)
    page = asset("login.html").decode()
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    headers["Content-Security-Policy"] = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )
    headers["Referrer-Policy"] = "same-origin"  # with none a form's Origin is null
    return HTMLResponse(page.replace("<!-- hint -->", hint), 401, headers)
