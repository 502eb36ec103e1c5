"""Detections as server-sent events."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable

import anyio

from runtime.pipeline.frames import Result, event
from runtime.web.view import View

_WAITING = 64
_KEEP_ALIVE_S = 15


class _Listener:
    """What waits for one client: a bounded queue that drops its oldest."""

    def __init__(self, sources: frozenset[str]):
        self.sources = sources
        self.waiting: deque[bytes] = deque(maxlen=_WAITING)
        self.dropped = 0
        self.woken = asyncio.Event()

    def put(self, text: bytes) -> bool:
        """Whether nothing had to be dropped for it."""
        full = len(self.waiting) == _WAITING
        self.waiting.append(text)
        self.dropped += full
        self.woken.set()
        return not full


class Feed:
    """Gives every result to every listening client. Used on the event loop, but for the results,
    which come from worker threads; it takes none while nobody listens."""

    def __init__(self, view: View):
        self._view = view
        self._listeners: set[_Listener] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._closed = False
        self.dropped = 0

    @property
    def listening(self) -> int:
        return len(self._listeners)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for listener in self._listeners:
            listener.woken.set()

    async def stream(self, sources: frozenset[str]) -> AsyncGenerator[bytes, None]:
        """The events of these sources, of all if there are none, from now on. Where a client is too
        slow an event "dropped" says how many it missed."""
        listener = _Listener(sources)
        self._join(listener)
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                while listener.waiting:
                    yield listener.waiting.popleft()
                    if listener.dropped:
                        missed, listener.dropped = listener.dropped, 0
                        yield f'event: dropped\ndata: {{"dropped": {missed}}}\n\n'.encode()
                listener.woken.clear()
                with anyio.move_on_after(_KEEP_ALIVE_S) as scope:
                    if not self._closed:
                        await listener.woken.wait()
                if scope.cancelled_caught:
                    yield b": still here\n\n"
        finally:
            self._leave(listener)

    def _join(self, listener: _Listener) -> None:
        self._listeners.add(listener)
        if self._unsubscribe is None:
            loop = asyncio.get_running_loop()
            self._unsubscribe = self._view.subscribe(lambda result: self._arrived(loop, result))

    def _leave(self, listener: _Listener) -> None:
        self._listeners.discard(listener)
        if not self._listeners and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _arrived(self, loop: asyncio.AbstractEventLoop, result: Result) -> None:
        # made text here, in the worker's thread: what waits for the loop must not hold whole frames
        text = f"data: {json.dumps(event(result))}\n\n".encode()
        try:
            loop.call_soon_threadsafe(self._deliver, result.frame.source, text)
        except RuntimeError:  # the loop has ended, and its clients with it
            pass

    def _deliver(self, source: str, text: bytes) -> None:
        for listener in self._listeners:
            if not listener.sources or source in listener.sources:
                self.dropped += not listener.put(text)
