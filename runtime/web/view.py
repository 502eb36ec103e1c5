"""What the web side sees of the daemon."""

from collections.abc import Callable
from typing import Any, Protocol

from runtime.pipeline.frames import Result


class View(Protocol):
    """The daemon, to look at. Everything here may be called from any thread, and returns at
    once."""

    def state(self) -> dict[str, Any]:
        """Plain data for JSON, with no secret in it: board, version, model, sources, sinks,
        contexts, reload and the process's own numbers. What is not known is None; memory_mb is in
        millions of bytes, npu_load in percent."""

    def latest(self, source: str) -> Result | None:
        """The newest result of a source; None before the first, and for a source there is not."""

    def subscribe(self, callback: Callable[[Result], None]) -> Callable[[], None]:
        """Have every result from now on given to a function, from worker threads; it returns at
        once. Gives the function that ends this."""

    def healthy(self) -> bool:
        """Whether the process does its work; else it is best started again."""

    def ready(self) -> bool:
        """Whether results can come: the model is loaded and the sources were started."""
