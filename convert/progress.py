"""Show long work going on, on standard error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Steps:
    """One line a step, with its time; a bar where the length is known. A context manager."""

    def __init__(self, quiet: bool = False):
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]ok[/]"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=Console(stderr=True, quiet=quiet),
        )

    def __enter__(self) -> "Steps":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Work whose length is not known."""
        task = self._progress.add_task(text, total=None)
        yield
        self._progress.update(task, total=1, completed=1)

    def track(self, items: Sequence, text: str) -> Iterator:
        """Go through items, one tick each."""
        task = self._progress.add_task(text, total=len(items))
        for item in items:
            yield item
            self._progress.advance(task)
