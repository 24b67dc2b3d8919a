"""Runs a command and tells what it took: seconds, processor time and peak memory, its children's too."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.processes import family

_LOOK_S = 0.1


@dataclass(frozen=True)
class Taken:
    """What one run of a command took."""

    wall_s: float
    cpu_s: float
    """Of the command and all children that it waited for, user and system; 0 where that is not all."""
    peak_mb: float
    """Highest resident memory, in MiB: of the process as the kernel remembers it; with children, of all at one look."""


def run(command: Sequence[object], *, is_cluster: bool = False) -> Taken:
    """Run a command to its end; a cluster's processes are nobody's children, and their processor time is not known.

    Raises:
        SystemExit: It failed; its standard error is printed.
    """
    before = os.times()
    began = time.perf_counter()
    peak_kb = 0
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while True:
            try:
                _, said = process.communicate(timeout=_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                peak_kb = max(peak_kb, _resident_kb(process.pid))
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    wall_s = time.perf_counter() - began
    after = os.times()
    if process.returncode:
        sys.stderr.write(said.decode(errors="replace")[-2000:])
        raise SystemExit(f"{command[0]} {command[1]}: exit status {process.returncode}")
    cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
    return Taken(wall_s, 0.0 if is_cluster else cpu_s, peak_kb / 1024)


def middle(turns: Sequence[Taken], of: Callable[[Taken], float]) -> float:
    return statistics.median(of(turn) for turn in turns)


def _resident_kb(pid: int) -> int:
    """Return what a process holds at most, or with children what all hold now; shared pages count in each."""
    pids = list(family(pid))
    if len(pids) == 1:
        return _status_kb(pid, "VmHWM:")
    return sum(_status_kb(one, "VmRSS:") for one in pids)


def _status_kb(pid: int, key: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    except (OSError, IndexError):
        pass  # it has just ended
    return 0
