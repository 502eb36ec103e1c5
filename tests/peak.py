"""The most memory that this program has taken."""

from pathlib import Path


def peak_bytes() -> int:
    """Since it was started, or since forget_peak(). getrusage would count what its parent held at
    the fork, too."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def forget_peak() -> None:
    """Have it count from now on; see proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")
