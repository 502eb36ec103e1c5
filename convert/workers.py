"""Dask workers: a cluster of processes here, or the machines of a scheduler that is given."""

import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from runtime.errors import UserError
from runtime.model import explained_imports

_LOOK_S = 1.0
"""How often it is looked whether workers came or went, or whether to go on."""
_CONNECT_S, _NO_WORKERS_S = 15, 60


@dataclass(frozen=True)
class Done:
    """One item that is done: its place, what came of it, and the address of its worker. lost: why
    no worker lived long enough to do it, or nothing."""

    place: int
    result: Any = None
    worker: str = ""
    lost: str = ""


@contextmanager
def open_workers(scheduler: str | None, processes: int, folder: Path) -> Iterator["Workers"]:
    """Workers of the Dask scheduler at an address, or for None as many processes of this machine,
    which listen on loopback only and are ended behind the block. folder is for their own files: it
    is emptied before, and removed behind it.
    Raises UserError where Dask is not installed or the scheduler does not answer."""
    with explained_imports("Dask workers need"):
        import distributed
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is told by Done
    with ExitStack() as stack:
        if scheduler is None:
            client = _local(processes, folder, stack)
        else:
            client = _connected(scheduler, stack)
        yield Workers(client, distributed)


def _local(processes: int, folder: Path, stack: ExitStack) -> Any:
    from distributed import Client, LocalCluster

    temporary = folder / "tmp"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    temporary.mkdir(parents=True)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    cluster = LocalCluster(
        n_workers=processes,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # there is no way to have none
        memory_limit=0,  # the toolkit's own process takes most, which Dask does not see
        local_directory=str(folder),
        silence_logs=logging.CRITICAL,
        env={"TMPDIR": str(temporary)},
    )
    stack.callback(cluster.close)
    stack.push(partial(_end_at_once, cluster))
    client = stack.enter_context(Client(cluster))
    client.register_plugin(_unsignalled())
    return client


def _end_at_once(cluster: Any, kind: type | None, *_: object) -> None:
    """Behind an error or Ctrl-C, without waiting for what runs: a trial may take minutes."""
    for nanny in list(cluster.workers.values()) if kind else ():
        nanny.auto_restart = False
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


def _unsignalled() -> Any:
    """A plugin that leaves Ctrl-C, which goes to all processes of a terminal, to this one."""
    from distributed import WorkerPlugin

    class Unsignalled(WorkerPlugin):
        name = "unsignalled"

        def setup(self, worker: Any) -> None:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Unsignalled()


def _connected(scheduler: str, stack: ExitStack) -> Any:
    from distributed import Client, TimeoutError

    try:
        client = stack.enter_context(Client(scheduler, timeout=_CONNECT_S))
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--scheduler {scheduler} does not answer: give the address that dask scheduler prints,"
            " like tcp://host:8786"
        ) from error
    return client


class Workers:
    """Runs functions on whoever there is, one item a worker at a time."""

    def __init__(self, client: Any, distributed: Any):
        self._client = client
        self._distributed = distributed

    def count(self) -> int:
        """How many workers there are now."""
        return len(self._client.nthreads())

    def wait_for_one(self) -> None:
        """Raises UserError where none comes."""
        try:
            self._client.wait_for_workers(1, timeout=_NO_WORKERS_S)
        except (TimeoutError, self._distributed.TimeoutError) as error:
            raise UserError(_NOBODY) from error

    def each(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        go_on: Callable[[], bool] = lambda: True,
        began: Callable[[int], None] = lambda place: None,
    ) -> Iterator[Done]:
        """function(item) of all items, in the order they are done. An item whose worker dies goes
        to another one, a few times.

        go_on: asked before an item is begun; once it says no, no more are, and those that run are
        waited for. began is told each one's place. An exception of function is raised here.
        Raises UserError where the scheduler, or every worker, is gone.
        """
        waiting, running = deque(enumerate(items)), {}
        try:
            while waiting or running:
                with self._scheduler_there():
                    self._begin(function, waiting, running, go_on, began)
                    ended = self._finished(running) if running else []
                if not running:
                    return
                for future in ended:
                    yield self._done(running.pop(future), future)
        finally:
            with suppress(Exception):  # of a scheduler that is gone
                self._client.cancel(list(running))

    def _begin(
        self,
        function: Callable[[Any], Any],
        waiting: deque,
        running: dict[Any, int],
        go_on: Callable[[], bool],
        began: Callable[[int], None],
    ) -> None:
        """As many as there are workers without work."""
        free = max(self.count(), 1) - len(running)
        while waiting and free > 0 and go_on():
            place, item = waiting.popleft()
            future = self._client.submit(_placed, function, item, pure=False)
            running[future] = place
            began(place)
            free -= 1

    def _finished(self, running: dict[Any, int]) -> list[Any]:
        """Those that have ended; at least one, or none after some time."""
        alone_since = None
        while True:
            with suppress(self._distributed.TimeoutError):
                self._distributed.wait(
                    list(running), timeout=_LOOK_S, return_when="FIRST_COMPLETED"
                )
            ended = [future for future in running if future.done()]
            if ended or self.count() > len(running):
                return ended
            alone_since = None if self.count() else alone_since or monotonic()
            if alone_since and monotonic() - alone_since > _NO_WORKERS_S:
                raise UserError(_NOBODY)

    @contextmanager
    def _scheduler_there(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._distributed.CancelledError) as error:
            raise UserError(_GONE) from error

    def _done(self, place: int, future: Any) -> Done:
        if future.status == "cancelled":
            raise UserError(_GONE)
        error = future.exception() if future.status == "error" else None
        if isinstance(error, self._distributed.KilledWorker):
            return Done(place, lost="its worker died again and again: too little memory?")
        if error is not None:
            raise error
        address, result = future.result()
        return Done(place, result, address)


_GONE = "the Dask scheduler is gone, and what ran with it: run this again"
_NOBODY = "no Dask worker is there: start some with dask worker SCHEDULER --nthreads 1"


def _placed(function: Callable[[Any], Any], item: Any) -> tuple[str, Any]:
    """What a function gives, and where it ran."""
    from distributed import get_worker

    return get_worker().address, function(item)
