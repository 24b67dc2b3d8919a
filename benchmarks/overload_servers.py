"""The servers of the overload benchmark: how each is started on one core, asked, and watched. Knows no load."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rivals.venvs import python_of

HERE = Path(__file__).parent
_MOSEC = HERE / "rivals" / "mosec_overload.py"
_READY_S = 60.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Line:
    """One line of the table: a server with its settings, and what its clients send."""

    name: str
    server: str
    options: tuple[str, ...] = ()
    headers: str = ""
    is_judged: bool = False
    """Whether it must reach what Foretell promises: it knows how long its callers wait."""

    @property
    def path(self) -> str:
        """Return where requests go."""
        return "/v2/models/slow/infer" if self.server == "foretell" else "/inference"

    def command(self, model: Path, port: int) -> list[str]:
        """Return how the server is started."""
        if self.server == "foretell":
            foretell = str(Path(sys.executable).with_name("foretell"))
            program = [foretell, "serve", str(model), "--no-grpc", "--http-port", str(port)]
        else:
            python = python_of("mosec-overload", "mosec==0.9.8", "onnxruntime>=1.27", "numpy>=2")
            program = [str(python), str(_MOSEC), str(model), "--address", "127.0.0.1", "--port", str(port)]
        return [*program, *self.options]


LINES = (
    Line("Foretell, clients send their deadline", "foretell", headers="x-request-timeout-ms: 200\r\n", is_judged=True),
    Line("Foretell, clients send no deadline", "foretell", is_judged=True),
    Line("Foretell --default-timeout 0.2, clients send none", "foretell", ("--default-timeout", "0.2"), is_judged=True),
    Line("mosec 0.9.8", "mosec"),
    Line("mosec 0.9.8 --timeout 200", "mosec", ("--timeout", "200")),
)


class Running:
    """A started server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port
        self._peak = 0
        self._watching = threading.Event()

    def resident_bytes(self) -> int:
        """Return the memory all its processes hold; pages they share count once for each."""
        return sum(_resident(pid) for pid in _tree(self.process.pid))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look at its memory five times a second."""
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            yield
        finally:
            self._watching.set()
            watcher.join()

    def _watch(self) -> None:
        while not self._watching.wait(0.2):
            self._peak = max(self._peak, self.resident_bytes())

    @property
    def peak_bytes(self) -> int:
        """The most seen while it was watched."""
        return max(self._peak, self.resident_bytes())


@contextlib.contextmanager
def running(line: Line, model: Path, core: int, probe: bytes) -> Iterator[Running]:
    """Start a server with all its processes on one core, wait until it answers `probe`, and end it.

    Raises:
        RuntimeError: It ended, or did not answer in a minute; the end of its log is in the text.
    """
    port = _free_port()
    log = model.with_name("overload.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *line.command(model, port)],
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(process, f"http://127.0.0.1:{port}{line.path}", probe, log)
        yield Running(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, probe: bytes, log: Path) -> None:
    ends = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < ends:
        request = urllib.request.Request(url, probe, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"{url}: no answer: {log.read_text(errors='replace')[-500:]}")


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
