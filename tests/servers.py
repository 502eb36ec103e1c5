"""Real servers for the tests, on free loopback ports."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ADVICE = "install it with: make setup-tests"


def program(name: str) -> str:
    """The path of a program the tests need. Fails the test where it is missing."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed here; {ADVICE}")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(condition: Callable[[], object], what: str, within_s: float = 60) -> None:
    """Return when condition() holds. Fails the test when it does not in that time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {within_s:g} s for {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A program that listens on a port, and can be killed and started again there."""

    def __init__(self, command: list[str], port: int, log: Path):
        self._command = command
        self._log = log
        self._process: subprocess.Popen | None = None
        self.port = port

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_for(lambda: listens(self.port) or self._process.poll() is not None, self._command[0])
        if self._process.poll() is not None:
            pytest.fail(f"{self._command[0]} ended: {self._log.read_text()[-2000:]}")

    def reload(self) -> None:
        """Have it read its settings again, as far as it does that on SIGHUP."""
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it at once, as a crash or a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@contextmanager
def mosquitto(folder: Path, *settings: str) -> Iterator[Server]:
    """A broker that keeps its state over restarts. settings: more lines for its configuration."""
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "persistence true", f"persistence_location {folder}/"]
    lines += ["autosave_interval 1", "max_queued_messages 0"]
    if not any(line.startswith(("allow_anonymous", "password_file")) for line in settings):
        lines.append("allow_anonymous true")
    config = folder / "mosquitto.conf"
    user = ["user root"] if Path(folder).owner() == "root" else []
    config.write_text("\n".join([*lines, *user, *settings]) + "\n")
    server = Server([program("mosquitto"), "-c", str(config)], port, folder / "mosquitto.log")
    server.start()
    try:
        yield server
    finally:
        server.kill()
