"""Tell systemd how the service is, where it started it."""

import os
import socket


def notify(*lines: str) -> None:
    """Send lines such as READY=1 or STATUS=... to the service manager (sd_notify's protocol); does
    nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1)
            sender.sendto("\n".join(lines).encode(), address)
    except OSError:
        pass  # a manager that does not listen is no reason to stop


def watchdog_period_s() -> float | None:
    """How often to send WATCHDOG=1, which is twice in the time it asks for; None for never."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        for_us = int(os.environ.get("WATCHDOG_PID", "") or os.getpid()) == os.getpid()
    except ValueError:
        return None
    return microseconds / 2e6 if for_us and microseconds > 0 else None
