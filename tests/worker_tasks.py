"""What tests have workers do; a module that workers can import."""

import os
import signal
import time
from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def slow_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die_once(mark: Path) -> str:
    """The first call of all kills its process."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die(what: str) -> str:
    """Kills its process if told to."""
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return what


def refuse(number: int) -> int:
    from runtime.errors import UserError

    raise UserError(f"no {number}, please")
