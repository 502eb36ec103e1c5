"""Start rkyolo run for a test, as a user does, and look at it over HTTP."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import free_port, wait_for

RKYOLO = (sys.executable, "-c", "from runtime.cli import main; main()")
RUN = (*RKYOLO, "run")
ROOT = Path(__file__).resolve().parent.parent


class Daemon:
    """A running daemon. config: what its file said; a change to it takes effect with reload()."""

    def __init__(
        self,
        config: dict[str, Any],
        folder: Path,
        wrapper: Sequence[str] = (),
        rkyolo: Sequence[str] = RKYOLO,
        **environment: str,
    ):
        self.config = config
        self.path = folder / "rkyolo.yaml"
        self.log_path = folder / "daemon.log"
        self.write()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, *rkyolo, "run", str(self.path)],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            )

    def write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.config, sort_keys=False))

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def port(self) -> int:
        return self.config["http"]["port"]

    def get(self, route: str, **headers: str) -> tuple[int, bytes]:
        """(status, body) of a route."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{route}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def state(self) -> dict[str, Any]:
        status, body = self.get("/api/state")
        assert status == 200, body
        return json.loads(body)

    def source(self, name: str) -> dict[str, Any]:
        return self.state()["sources"][name]

    def sink(self, name: str) -> dict[str, Any]:
        return self.state()["sinks"][name]

    def wait_until_ready(self, within_s: float = 60) -> None:
        def up() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"the daemon ended with {self.process.returncode}:\n{self.log}")
            try:
                return self.get("/readyz")[0] == 200
            except OSError:
                return False

        wait_for(up, f"the daemon; its log: {self.log}", within_s)

    def reload(self) -> None:
        self.write()
        self.process.send_signal(signal.SIGHUP)

    def end(self, number: int = signal.SIGTERM, within_s: float = 60) -> int:
        """Send a signal, and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


@contextmanager
def daemon(
    config: dict[str, Any], folder: Path, within_s: float = 60, **options: Any
) -> Iterator[Daemon]:
    """A daemon that is ready, and is killed at the end where it still runs. A configuration without
    http gets it on a free port. options: wrapper, a command in front, which becomes the daemon;
    rkyolo, another one than this Python's; environment variables."""
    config = {"http": {"port": free_port()}, "board": "testboard"} | config
    running = Daemon(config, folder, **options)
    try:
        running.wait_until_ready(within_s)
        yield running
    finally:
        running.process.kill()
        running.process.wait(10)
        running.process.stdout.close()
