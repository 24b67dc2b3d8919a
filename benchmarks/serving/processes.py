"""Start a server, wait for its first right answer, weigh it, stop it with all its children.

Knows Linux's /proc. Knows no server.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 90.0
"""A server that has not answered by then has failed to start."""

_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")


class StartError(Exception):
    """A server ended, or never answered; the text is one line."""


@dataclass(frozen=True)
class Running:
    """A server that has answered rightly once."""

    pid: int
    ready_s: float
    """From the command to the first right answer."""

    def resident_mb(self) -> float:
        """Return the resident memory of the process and all below it, shared pages counted in each, in MiB."""
        return sum(_status_kb(pid, "status", "VmRSS:") for pid in family(self.pid)) / 1024

    def proportional_mb(self) -> float:
        """Return the same with each shared page counted once, in MiB."""
        return sum(_status_kb(pid, "smaps_rollup", "Pss:") for pid in family(self.pid)) / 1024

    def cpu_s(self) -> float:
        """Return the processor time that the process and all below it have used, in seconds."""
        return sum(sum(map(int, stat[11:13])) for pid in family(self.pid) if (stat := _stat(pid))) / _TICKS


def others_cpu_s(running: Running) -> float:
    """Return the processor time used so far by all but the server and our own ended children, in seconds.

    What a hypervisor gave to other machines counts too.
    """
    return _busy_s() - running.cpu_s() - sum(os.times()[:4])


def wait_for_quiet(patience_s: float, share: float = 0.1) -> None:
    """Return when nobody used more than `share` of the machine during a second, or patience has run out."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        busy_s, begun = _busy_s(), time.monotonic()
        time.sleep(1)
        if (_busy_s() - busy_s) / (time.monotonic() - begun) / (os.cpu_count() or 1) <= share:
            return


def _busy_s() -> float:
    """Return the seconds of all processors that were not idle, since the machine started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting = fields[3:5]
    return (sum(fields) - idle - waiting) / _TICKS


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    command: list[str], environment: Mapping[str, str], folder: Path, wrong: Callable[[], str]
) -> Iterator[Running]:
    """Run a server in `folder` until the block ends; `wrong` says what is wrong with its answer, or nothing.

    Raises:
        StartError: It ended before it answered, or did not answer in time.
    """
    # Whoever a server leaves behind becomes our child, so that it can be found and ended.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("wb") as out:
        begun = time.perf_counter()
        server = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=folder, stdout=out, stderr=out, start_new_session=True
        )
        try:
            _wait(server, log, begun, wrong)
            yield Running(server.pid, time.perf_counter() - begun)
        finally:
            _stop(server)


def _wait(server: subprocess.Popen[bytes], log: Path, begun: float, wrong: Callable[[], str]) -> None:
    while fault := wrong():
        if server.poll() is not None:
            raise StartError(f"ended with {server.returncode}: {_last_line(log)}; all of it is in {log}")
        if time.perf_counter() - begun > PATIENCE_S:
            raise StartError(f"no right answer within {PATIENCE_S:g} s: {fault}; its log is {log}")
        time.sleep(0.01)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    for pid in family(os.getpid())[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        child = int(stat.parent.name)
        if fields := _stat(child):
            children.setdefault(int(fields[1]), []).append(child)
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo.extend(children.get(found[-1], []))
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of a process after its name, nothing if it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _status_kb(pid: int, file: str, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"
