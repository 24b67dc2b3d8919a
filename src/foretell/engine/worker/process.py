"""One child process of the front: started, watched, ended, reaped. Knows nothing of frames and models."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from foretell.errors import MachineError

__all__ = ["Process", "death_reason", "oom_kills", "resident_bytes"]

_POLL_S = 0.05
_REAP_S = 5.0


class Process:
    """A process that is reaped as soon as it ends, and says so once.

    Start it from the thread of the event loop: the kernel ends it together with the thread that started it.
    """

    def __init__(self, command: Sequence[str], fds: Sequence[int], environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            command: Program and arguments.
            fds: Descriptors it inherits, under the same numbers.
            environment: All of it.

        Raises:
            MachineError: It cannot be started.
        """
        self._pidfd: int | None = None
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                env=dict(environment),
                start_new_session=True,  # a Ctrl-C at the terminal is for the front alone
            )
        except OSError as error:
            raise MachineError(f"worker: no process can be started: {error.strerror}") from error
        self.pid = self._popen.pid
        self._on_exit: Callable[[int], None] | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, on_exit: Callable[[int], None]) -> None:
        """Call `on_exit` with the exit code, or minus the signal, from the loop."""
        self._loop, self._on_exit = loop, on_exit
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, or no descriptor left: ask again and again
                self._pidfd = os.pidfd_open(self.pid)
        if self._pidfd is None:
            loop.call_later(_POLL_S, self._poll)
        else:
            loop.add_reader(self._pidfd, self._poll)

    def kill(self) -> None:
        """End it at once. Idempotent."""
        if self._popen.returncode is None:
            self._popen.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        """End and reap one that nobody watches any more, such as when the loop closed right after a kill."""
        popen = getattr(self, "_popen", None)
        if popen is None or popen.returncode is not None:
            return
        popen.kill()
        with suppress(subprocess.TimeoutExpired):
            popen.wait(_REAP_S)
        if self._pidfd is not None:
            os.close(self._pidfd)

    def _poll(self) -> None:
        code = self._popen.poll()
        if code is None:
            if self._pidfd is None:
                self._loop.call_later(_POLL_S, self._poll)
            return
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._on_exit is not None:
            on_exit, self._on_exit = self._on_exit, None
            on_exit(code)


def death_reason(code: int, *, oom_killed: bool = False) -> str:
    """Say why a process ended, from its exit code or minus its signal. Pure.

    Args:
        code: As `subprocess` gives it.
        oom_killed: Whether the kernel killed something for memory while it ran.
    """
    if code < 0:
        if code == -signal.SIGKILL and oom_killed:
            return "out of memory: killed by the kernel"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with exit code {code}"


def resident_bytes(pid: int) -> int | None:
    """Return the memory a process holds in bytes, pages it shares included; None where this cannot be known."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def oom_kills() -> int:
    """Return how many processes of this cgroup the kernel has killed for memory; 0 where this cannot be known."""
    with suppress(OSError, ValueError):
        for line in Path("/sys/fs/cgroup/memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
