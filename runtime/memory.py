"""What this process takes."""

import os
from pathlib import Path


def memory_mb() -> float:
    """Resident memory in megabytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def thread_count() -> int:
    """Threads, those of libraries too."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())
