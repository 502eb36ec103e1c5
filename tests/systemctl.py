"""Stands in for systemctl, with one service of Type=notify: systemctl.py FOLDER VERB [UNIT].

In FOLDER, service.json has the command that starts it and the environment. There it writes pid,
enabled, journal, and log with a line a call.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_S = 120
STOP_S = 30


def main(folder: Path, verb: str, *rest: str) -> int:
    with (folder / "log").open("a") as log:
        print(verb, *rest, file=log)
    match verb:
        case "daemon-reload" | "reset-failed":
            return 0
        case "enable":
            (folder / "enabled").touch()
            return 0
        case "disable":
            (folder / "enabled").unlink(missing_ok=True)
            stop(folder)
            return 0
        case "is-active":
            return 0 if running(folder) else 3
        case "restart":
            stop(folder)
            return start(folder)
    return 1


def running(folder: Path) -> int | None:
    """The service's process. One that ended stays a zombie where nothing adopts it."""
    try:
        pid = int((folder / "pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
    return None if state == "Z" else pid


def stop(folder: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + STOP_S
        if pid := running(folder):
            os.kill(pid, number)
        while running(folder) and time.monotonic() < until:
            time.sleep(0.05)
    (folder / "pid").unlink(missing_ok=True)


def start(folder: Path) -> int:
    """0 when it says that it is ready, 1 when it ends before or takes too long."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # which our caller may ignore
        signal.signal(number, signal.SIG_DFL)
    service = json.loads((folder / "service.json").read_text())
    with (
        tempfile.TemporaryDirectory() as short,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        (folder / "journal").open("ab") as journal,
    ):
        notified.bind(f"{short}/notify")
        notified.settimeout(0.2)
        process = subprocess.Popen(
            service["command"],
            stdin=subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
            env=os.environ | service["environment"] | {"NOTIFY_SOCKET": f"{short}/notify"},
            start_new_session=True,
        )
        (folder / "pid").write_text(str(process.pid))
        until = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < until:
            try:
                if b"READY=1" in notified.recv(4096).split(b"\n"):
                    return 0
            except TimeoutError:
                pass
    stop(folder)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
