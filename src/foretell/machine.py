"""What this machine lets the process use. Knows the operating system, nothing of models."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["cores", "return_memory"]


def cores() -> int:
    """Return the processors this process may keep busy: its affinity, cut by the cgroup's CPU quota. At least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota(Path("/sys/fs/cgroup/cpu.max"))))


def return_memory() -> None:
    """Give memory back that was freed but is kept for later: loading takes more than what is loaded."""
    import ctypes

    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _quota(path: Path) -> int:
    """Read a cgroup v2 `cpu.max` ("max 100000" or "150000 100000") as whole processors, rounded up."""
    try:
        quota, period = path.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return 1 << 20
