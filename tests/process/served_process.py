"""A server as a process of its own, seen from outside: its lines, its workers, what it holds, its counters."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "foretell.cli.main", "serve"]
_MADE_UP = [sys.executable, str(HERE / "serve_made_up.py")]


class Served:
    """One running server."""

    def __init__(self, *arguments: object, made_up: str = "", ready: bool = True) -> None:
        """Start one and wait for its ports.

        Args:
            arguments: Of `foretell serve`; ports need not be given.
            made_up: Name of a loader in `served_models`, whose model every worker runs instead of its file.
            ready: Whether to wait.
        """
        command = [*_MADE_UP, made_up] if made_up else COMMAND
        path = os.pathsep.join(p for p in (str(HERE), os.environ.get("PYTHONPATH")) if p)
        self.process = subprocess.Popen(
            [*command, "--http-port", "0", "--grpc-port", "0", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": path},
        )
        self.pid = self.process.pid
        self.lines: list[str] = []
        self.port = self.grpc_port = 0
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if ready:
            assert self._told.wait(60), self.lines
            assert self.port, self.lines

    def _read(self) -> None:
        """Read its lines as they come: a full pipe would hold it up."""
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http: http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
            if found := re.search(r"grpc: 127\.0\.0\.1:(\d+)", line):
                self.grpc_port = int(found[1])
                self._told.set()
        self._told.set()

    def ask(self, path: str, body: object = None, timeout_s: float = 60.0) -> tuple[int, dict]:
        """Return status and JSON of one request over a connection of its own."""
        content = None if body is None else orjson.dumps(body)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", content, timeout=timeout_s) as reply:
                return reply.status, orjson.loads(reply.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, orjson.loads(error.read())

    def counters(self) -> dict[str, float]:
        """Return every sample of `/metrics`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        return {key: float(value) for key, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}

    def sum_of(self, name: str, *parts: str) -> float:
        """Return the sum of a metric over the children whose labels hold all of `parts`."""
        return sum(v for k, v in self.counters().items() if k.split("{")[0] == name and all(p in k for p in parts))

    def workers(self) -> list[int]:
        """Return the processes of its models."""
        found: list[int] = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                children = map(int, (task / "children").read_text().split())
                # Before its exec a child is a copy of the server, which waits for it.
                found += [pid for pid in children if b"worker.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return sorted(found)

    def belongings(self) -> tuple[int, int, int, int]:
        """Return open descriptors, shared memories mapped, threads, and resident KiB of memory not shared."""
        at = Path(f"/proc/{self.pid}")
        (kib,) = re.findall(r"RssAnon:\s+(\d+)", (at / "status").read_text())
        maps = (at / "maps").read_text().count("memfd:foretell")
        return len(os.listdir(at / "fd")), maps, len(os.listdir(at / "task")), int(kib)

    def end(self, *numbers: int, timeout_s: float = 40.0) -> int:
        """Send it signals, SIGTERM unless others are given, and return its exit code."""
        for number in numbers or (signal.SIGTERM,):
            self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self.join()
        return code

    def join(self) -> None:
        """Read its last lines."""
        self._reader.join(10)

    def close(self) -> None:
        """Make sure that nothing is left of it."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        self.process.stderr.close()


@contextlib.contextmanager
def serving(*arguments: object, **settings: object) -> Iterator[Served]:
    """Run a server for the length of a block."""
    served = Served(*arguments, **settings)
    try:
        yield served
    finally:
        served.close()


def alive(pid: int) -> bool:
    """Whether a process runs, or stands still, but is no zombie."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(true: Callable[[], object], timeout_s: float = 30.0) -> float:
    """Wait for something; return the seconds it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + timeout_s, "it did not come"
        time.sleep(0.01)
    return time.monotonic() - began


def strike(served: Served, dice: random.Random, stopping: float) -> str:
    """Kill one of the workers, or make it stand still; return the name of the signal, or "" if there was nobody."""
    workers = served.workers()
    if not workers:
        return ""
    number = signal.SIGSTOP if dice.random() < stopping else signal.SIGKILL
    try:
        os.kill(dice.choice(workers), number)
    except ProcessLookupError:
        return ""
    return number.name
