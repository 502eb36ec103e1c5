"""rkyolo run: starts what the configuration says, keeps it running, and ends it in order."""

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import __version__
from runtime.config import Config, load_config
from runtime.doctor.board import npu_load
from runtime.engine import describe, open_pool, recipes
from runtime.errors import CheckFailedError, UserError
from runtime.memory import memory_mb, thread_count
from runtime.model import Model, explained_imports, open_model
from runtime.pipeline.frames import Result
from runtime.pipeline.pipeline import Pipeline
from runtime.pipeline.pool import Pool
from runtime.systemd import notify, watchdog_period_s

if TYPE_CHECKING:
    from runtime.web.server import WebServer

log = logging.getLogger(__name__)

HUNG = 3
"""Exit code: the NPU hangs or fails, which only a new process cures."""

_LOOK_EVERY_S = 0.2
_STATUS_EVERY_S = 2.0


@dataclass(frozen=True, eq=False)
class _Plan:
    """A configuration, its model, and a pool that runs it; web: a server on a new address."""

    config: Config
    model: Model
    pool: Pool
    web: "WebServer | None"


class Daemon:
    """Owns life: start, signals, reload, watchdog, end. The pipeline owns frames.

    SIGTERM and SIGINT end it, letting what is under way arrive; the second one ends it at once.
    SIGHUP reads the configuration and the model again, and keeps the old ones where the new are
    bad.
    """

    def __init__(self, path: Path):
        self._path = path
        self._started_at = time.time()
        self._wake = threading.Event()
        self._stop = self._hup = self._ready = False
        self._web: WebServer | None = None
        self._reload: dict[str, Any] = {"at": None, "error": None}
        self._config = load_config(path)
        self._pipeline = Pipeline(self._config.board)

    @property
    def log_level(self) -> str:
        return self._config.log.upper()

    def run(self) -> None:
        """Run until told to end, or until the last source has. Raises UserError where it cannot
        start, or where a source failed for good; CheckFailedError where a sink missed results."""
        self._start()
        self._catch_signals()
        try:
            self._loop()
        finally:
            self._end()
        self._judge()

    # start, and start again

    def _start(self) -> None:
        plan = self._prepare(self._config)
        self._apply(plan)
        # what lives until the end need not be looked at by each collection
        gc.collect()
        gc.freeze()
        self._ready = True
        notify("READY=1")
        log.info("running %s with %d sources", plan.model.path, len(plan.config.sources))

    def _prepare(self, config: Config) -> _Plan:
        """Everything that can fail, before anything that runs is touched. Raises UserError."""
        if config.board != self._pipeline.board:
            raise UserError("board is another one now: restart rkyolo for that")
        model = open_model(config.model)
        pool = self._pipeline.pool
        if pool is not None and self._can_stay(config, model):
            recipes(config, model)
        else:
            pool = open_pool(config, model)
        try:
            return _Plan(config, model, pool, self._new_web(config))
        except BaseException:
            if pool is not self._pipeline.pool:
                pool.close(0)
            raise

    def _can_stay(self, config: Config, model: Model) -> bool:
        """Whether the running pool does what is wanted: the same engine, the very same bundle."""
        same = config.engine == self._config.engine and model.manifest is not None
        return same and model.manifest == self._model.manifest

    def _new_web(self, config: Config) -> "WebServer | None":
        """A server that holds the address the configuration names, unless the present one does."""
        old = self._config.http if self._web else None
        if config.http is None or (
            old is not None and (old.host, old.port) == (config.http.host, config.http.port)
        ):
            return None
        with explained_imports("the live page needs"):
            from runtime.web.server import WebServer

        return WebServer(config.http, self)

    def _apply(self, plan: _Plan) -> None:
        config = plan.config
        self._model = plan.model
        self._exchange_web(plan)
        old, self._config = self._config, config
        if plan.pool is self._pipeline.pool:
            plan.pool.recipes = recipes(config, plan.model)
        else:
            self._pipeline.use_pool(plan.pool, old.drain_s)
        self._pipeline.use(
            {source.name: source for source in config.sources},
            dict(zip(config.sink_names, config.sinks, strict=True)),
            config.drain_s,
        )

    def _exchange_web(self, plan: _Plan) -> None:
        old, new = self._web, plan.web
        if old is not None and (new is not None or plan.config.http != self._config.http):
            old.close(2)
            self._web = None
            if new is None and plan.config.http is not None:  # another token on the same address
                from runtime.web.server import WebServer

                new = WebServer(plan.config.http, self)
        if new is not None:
            new.start()
            self._web = new
            log.info("the live page is on %s", new.url)

    def _read_again(self) -> None:
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._reload = {"at": round(time.time(), 3), "error": None}
        try:
            self._apply(self._prepare(load_config(self._path)))
        except UserError as error:
            self._reload["error"] = " ".join(str(error).split())
            log.error("the old configuration stays: %s", self._reload["error"])
        else:
            logging.getLogger().setLevel(self.log_level)
            log.info("the configuration was read again")
        notify("READY=1")

    # signals, and the loop

    def _catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_end)
        signal.signal(signal.SIGHUP, self._asked_to_reload)

    def _asked_to_end(self, number: int, _: object) -> None:
        if self._stop:
            os._exit(128 + number)
        self._stop = True
        self._wake.set()

    def _asked_to_reload(self, _: int, __: object) -> None:
        self._hup = True
        self._wake.set()

    def _loop(self) -> None:
        period = watchdog_period_s()
        next_watchdog = next_status = 0.0
        while not self._stop and not self._pipeline.finished:
            self._leave_if_hung()
            now = time.monotonic()
            if period is not None and now >= next_watchdog:
                notify("WATCHDOG=1")
                next_watchdog = now + period
            if now >= next_status:
                notify(f"STATUS={self._status()}")
                next_status = now + _STATUS_EVERY_S
            if self._hup:
                self._hup = False
                self._read_again()
            self._wake.wait(min(_LOOK_EVERY_S, period or _LOOK_EVERY_S))
            self._wake.clear()

    def _leave_if_hung(self) -> None:
        trouble = self._trouble()
        if trouble is not None:
            log.critical("%s: ending with code %d, to be started anew", trouble, HUNG)
            notify(f"STATUS={trouble}")
            logging.shutdown()
            os._exit(HUNG)  # the thread in that call cannot be ended otherwise

    def _trouble(self) -> str | None:
        pool = self._pipeline.pool
        return pool.trouble(self._config.engine.deadline_s) if pool else None

    def _status(self) -> str:
        sources = self._pipeline.state()["sources"].values()
        running = sum(source["state"] == "running" for source in sources)
        rate = sum(source["frames_per_second"] for source in sources)
        return f"{running} of {len(sources)} sources run, {rate:.1f} frames a second"

    # the end

    def _end(self) -> None:
        self._ready = False
        notify("STOPPING=1")
        log.info("ending")
        self._pipeline.close(self._config.drain_s)
        if self._web is not None:
            self._web.close(2)

    def _judge(self) -> None:
        """Tell the caller what did not go well, though everything ended."""
        failures = self._pipeline.failures()
        if failures:
            raise UserError("; ".join(f"source {name}: {why}" for name, why in failures.items()))
        missed = self._pipeline.incomplete()
        if missed and not self._stop:
            raise CheckFailedError(
                f"not all results reached {', '.join(missed)}; see the log above"
            )

    # for those who look: see runtime.web.view

    def state(self) -> dict[str, Any]:
        return {
            "board": self._config.board,
            "version": __version__,
            "started_at": round(self._started_at, 3),
            "now": round(time.time(), 3),
            "ready": self._ready,
            "reload": self._reload,
            "model": describe(self._config, self._model),
            "npu_load": npu_load(Path("/")),
            "memory_mb": memory_mb(),
            "threads": thread_count(),
        } | self._pipeline.state()

    def latest(self, source: str) -> Result | None:
        return self._pipeline.latest(source)

    def subscribe(self, callback: Callable[[Result], None]) -> Callable[[], None]:
        return self._pipeline.subscribe(callback)

    def healthy(self) -> bool:
        return self._trouble() is None

    def ready(self) -> bool:
        return self._ready


def check(path: Path) -> str:
    """Read a configuration and its model, and say in a line what they are; touches no hardware.
    Raises UserError for whatever would keep it from running."""
    config = load_config(path)
    model = open_model(config.model)
    recipes(config, model)
    sources = ", ".join(source.name for source in config.sources)
    sinks = ", ".join(config.sink_names) or "none"
    return f"{path} is good: model {model.path}, sources {sources}; sinks {sinks}"
