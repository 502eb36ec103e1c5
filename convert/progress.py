"""Show long work going on, on standard error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Steps:
    """One line a step, with its time. On a terminal the lines move, with a bar where the length is
    known; elsewhere each is written when its step is done. A context manager."""

    def __init__(self, quiet: bool = False):
        self._console = Console(stderr=True, quiet=quiet, highlight=False, markup=False)
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]ok[/]"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_interactive,
        )

    def __enter__(self) -> "Steps":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, text: str, length: int | None = None) -> Iterator[TaskID]:
        """Work of this many ticks, or whose length is not known."""
        started, task = monotonic(), self._progress.add_task(text, total=length)
        yield task
        self._progress.update(task, total=length or 1, completed=length or 1)
        if not self._console.is_interactive:
            self._console.print(f"{text}: {monotonic() - started:.1f} s", soft_wrap=True)

    def track(self, items: Sequence, text: str) -> Iterator:
        """Go through items, one tick each."""
        with self.step(text, len(items)) as task:
            for item in items:
                yield item
                self._progress.advance(task)
