"""Annotated pictures of the newest results: encoded once, and only while somebody looks."""

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anyio
import cv2

from runtime.detections import Detections
from runtime.draw import draw
from runtime.pipeline.frames import Result
from runtime.web.view import View

BOUNDARY = "frame"
_LONGEST_SIDE = 1280
_QUALITY = 80
_REPEAT_S = 10.0  # a picture that does not change, so that proxies keep the connection


@dataclass(frozen=True)
class Encoded:
    """A picture as JPEG. key: which result it shows; begun_at: monotonic seconds. The result itself
    is not kept, it holds the whole frame."""

    key: tuple[int, float]
    jpeg: bytes
    begun_at: float


class Pictures:
    """The newest annotated picture of each source, for all viewers together at most so many a
    second. Used on the event loop; drawing and encoding is done in threads of its own."""

    def __init__(self, view: View, rate: float):
        self._view = view
        self._interval_s = 1 / rate
        self._newest: dict[str, Encoded] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._pool = ThreadPoolExecutor(2, "web-pictures")
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all streams."""
        self._closing.set()
        self._pool.shutdown(wait=False)

    async def newest(self, source: str) -> Encoded | None:
        """The newest picture of a source; None where there is none yet. Once closed it draws none:
        it gives the last one."""
        async with self._locks.setdefault(source, asyncio.Lock()):
            result, last = self._view.latest(source), self._newest.get(source)
            if result is None:
                self._newest.pop(source, None)
                return None
            is_due = last is None or (last.key != _key(result) and self._pause_s(last) <= 0)
            if is_due and not self._closing.is_set():
                begun_at = time.monotonic()
                loop = asyncio.get_running_loop()
                jpeg = await loop.run_in_executor(self._pool, annotated_jpeg, result)
                last = self._newest[source] = Encoded(_key(result), jpeg, begun_at)
            return last

    def _pause_s(self, last: Encoded) -> float:
        """How long until the next picture may be made."""
        return last.begun_at + self._interval_s - time.monotonic()

    async def mjpeg(self, source: str) -> AsyncGenerator[bytes, None]:
        """A source's pictures as the parts of a multipart body. A viewer that is slow to take one
        gets the newest next."""
        yield f"--{BOUNDARY}\r\n".encode()
        key, sent_at = None, 0.0
        while not self._closing.is_set():
            picture = await self.newest(source)
            if picture and (picture.key != key or time.monotonic() > sent_at + _REPEAT_S):
                yield _part(picture.jpeg)
                key, sent_at = picture.key, time.monotonic()
            pause_s = self._pause_s(picture) if picture else 0
            with anyio.move_on_after(pause_s if pause_s > 0 else self._interval_s / 2):
                await self._closing.wait()


def _key(result: Result) -> tuple[int, float]:
    return result.frame.index, result.frame.capture.captured_at


def _part(jpeg: bytes) -> bytes:
    """One part, and the boundary after it: browsers show a part when they see its end."""
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + f"\r\n--{BOUNDARY}\r\n".encode()


def annotated_jpeg(result: Result) -> bytes:
    """A result's picture as JPEG with its detections drawn, its longer side at most 1280. It is
    made smaller before the drawing, which keeps labels legible."""
    bgr, found = result.frame.capture.bgr, result.detections
    height, width = bgr.shape[:2]
    gain = _LONGEST_SIDE / max(width, height)
    if gain < 1:
        size_wh = max(1, round(width * gain)), max(1, round(height * gain))
        bgr = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)
        found = Detections(found.xyxy * gain, found.score, found.class_id)
    canvas = draw(bgr, found, result.names)
    return cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
