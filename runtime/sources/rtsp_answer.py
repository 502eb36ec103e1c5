"""What an RTSP server says about a URL. OpenCV only tells that it could not be opened."""

import hashlib
import socket
import time
from base64 import b64encode
from http.client import HTTPException, parse_headers
from io import BytesIO
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

_LARGEST = 16384
_NO_PICTURE = (
    "gave no picture in time: check the address and the network, "
    "or give a slow camera a longer connect_timeout_s"
)
_ANSWERS = {
    200: "has no video that can be decoded here: choose H.264 or H.265 in its settings",
    401: "asks for a user and a password: give username and password",
    403: "does not let this user see the stream: check its rights there",
    404: "has no stream of that path: check what follows the address in the URL",
    453: "has no bandwidth left: close other viewers",
    503: "is too busy: close other viewers",
}


def why_not(url: str, within_s: float) -> str:
    """Why a URL does not play: what its server does, and what to do then; nothing of the URL."""
    if within_s < 0.1:
        return _NO_PICTURE
    parts, until = urlsplit(url), time.monotonic() + within_s
    try:
        return _said(parts, until)
    except ConnectionRefusedError:
        return "refuses the connection: check the port, and that RTSP is switched on there"
    except socket.gaierror:
        return "cannot be found: check the name in the URL, and the name server"
    except TimeoutError:
        return _NO_PICTURE
    except (HTTPException, ValueError):
        return "does not speak RTSP: check the port"
    except OSError as error:
        return f"cannot be reached: {error.strerror or 'the connection broke'}; check the network"


def _said(parts: SplitResult, until: float) -> str:
    if parts.scheme == "rtsps":
        _connect(parts, until).close()
        return "gives no video over TLS: check the port, the user and the password"
    status, challenges = _describe(parts, until)
    if status == 401 and parts.username:
        status, _ = _describe(parts, until, _authorization(parts, challenges))
        if status == 401:
            return "does not accept the user or the password: check both"
    return _ANSWERS.get(status, f"answers {status}: look that up in its manual")


def _connect(parts: SplitResult, until: float) -> socket.socket:
    left = max(0.05, until - time.monotonic())
    return socket.create_connection((parts.hostname, parts.port or 554), left)


def _describe(parts: SplitResult, until: float, authorization: str = "") -> tuple[int, list[str]]:
    """The status with which the server describes the stream, and how it asks who wants to know."""
    lines = [f"DESCRIBE {_plain(parts)} RTSP/1.0", "CSeq: 1", "Accept: application/sdp"]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    with _connect(parts, until) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = BytesIO(_head(connection, until))
    status = answer.readline().split()
    if len(status) < 2 or not status[0].startswith(b"RTSP/"):
        raise ValueError("no RTSP")
    return int(status[1]), parse_headers(answer).get_all("WWW-Authenticate", [])


def _head(connection: socket.socket, until: float) -> bytes:
    """All up to the empty line. Raises TimeoutError, and ValueError where there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(0.05, until - time.monotonic()))
        more = connection.recv(4096)
        head += more
        if not more or len(head) > _LARGEST:
            raise ValueError("no RTSP")
        if time.monotonic() > until:
            raise TimeoutError
    return head


def _plain(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _authorization(parts: SplitResult, challenges: list[str]) -> str:
    """The answer to the first challenge that FFmpeg could answer too (RFC 2617); "" if none."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    for challenge in challenges:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        fields = parse_keqv_list(parse_http_list(rest))
        if kind.lower() == "digest" and fields.get("algorithm", "MD5").upper() == "MD5":
            return _digest(_plain(parts), user, password, fields)
    return ""


def _digest(url: str, user: str, password: str, fields: dict[str, str]) -> str:
    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    who, what = _md5(f"{user}:{realm}:{password}"), _md5(f"DESCRIBE:{url}")
    answer = {"username": user, "realm": realm, "nonce": nonce, "uri": url}
    answer["response"] = _md5(f"{who}:{nonce}:{what}")
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in answer.items())


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
