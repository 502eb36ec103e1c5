"""A child process whose standard output is read, and that dies with this process."""

import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

_PIPE_BYTES = 1 << 20
"""What waits in the pipe; 64 KiB, which it has by itself, would need fifty reads for a frame."""
_LAST_BYTES = 4096
_GRACE_S = 1.0

_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
    signal.signal(number, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    try:
        os.execv(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"it cannot be started: {error.strerror}")
"""
"""Asks the kernel (PR_SET_PDEATHSIG) to end it with its parent, then becomes the program. Between
fork and exec of this process that would not be safe, since other threads run here."""


class Child:
    """A program in a session of its own, so that all it starts ends with it. For one thread: the
    kernel ends the program with the thread that started it."""

    def __init__(self, command: list[str]):
        """command: the program's path and its arguments; no shell reads them."""
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        self._process = subprocess.Popen(
            [*launcher, *command],
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._out, self._err = self._process.stdout.fileno(), self._process.stderr.fileno()
        self._said: bytes = b""
        self._says = True
        with suppress(OSError):  # the system's limit for users may be lower
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._err, select.POLLIN)

    def read_into(self, buffer: memoryview, within_s: float) -> int | None:
        """How many bytes of its output now stand in the buffer: 0 at its end, None where there were
        none in that time. What it says on standard error is read on the way, so that it never waits
        for that."""
        ready = {fd for fd, _ in self._poll.poll(within_s * 1000)}
        if self._err in ready:
            self._listen()
        if self._out in ready:
            return os.readv(self._out, [buffer])
        return None

    def _listen(self) -> None:
        """Take what stands in standard error."""
        more = os.read(self._err, 65536)
        if not more:
            self._says = False
            self._poll.unregister(self._err)
        self._said += more
        if len(self._said) > _LAST_BYTES:  # from a blank on: half a URL could show a password
            self._said = re.sub(rb"^\S*", b"", self._said[-_LAST_BYTES:])

    def last_line(self) -> str:
        """The last line on its standard error, without what no line has or may show."""
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self._said.decode(errors="replace"))
        lines = re.split(r"[\r\n]+", text)
        plain = ["".join(filter(str.isprintable, line)).strip() for line in lines]
        last = next((line for line in reversed(plain) if line), "")
        return re.sub(r"(\w://)\S*@", r"\1", last)[:300]

    def ending(self) -> str:
        """What became of it after the end of its output."""
        until = time.monotonic() + _GRACE_S
        while self._alive() and time.monotonic() < until:
            time.sleep(0.01)
        if self._alive():
            how = "closed its output"
        else:
            self._signal(signal.SIGKILL)  # before wait, while the group's number is still its own
            how = _ending(self._process.wait())
        while self._says and time.monotonic() < until and self._waits_to_be_heard():
            self._listen()
        last = self.last_line()
        return f"{how}: {last}" if last else how

    def _waits_to_be_heard(self) -> bool:
        return bool(select.select([self._err], [], [], 0.1)[0])

    def _alive(self) -> bool:
        """Whether it still runs; leaves its exit status in place."""
        if self._process.returncode is not None:
            return False
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is None

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def close(self) -> None:
        """End it and all of its session: kindly, and after a second by force."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            until = time.monotonic() + _GRACE_S
            while self._alive() and time.monotonic() < until:
                time.sleep(0.01)
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    return f"was ended by {signal.Signals(-status).name}"
