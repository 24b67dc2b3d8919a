"""A child process, boxed in, that holds an estimator; asked over a pair of pipes.

The child opens what may run code. What comes back from it is data to be checked, never trusted. Knows frames and
processes, and nothing of estimators.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from foretell.errors import (
    ArtifactInvalid,
    ArtifactUntrusted,
    ForetellError,
    InvalidInput,
    LoadError,
    MachineError,
    RuntimeMissing,
)
from foretell.model.runtimes.frames import FrameBroken, receive, send

__all__ = ["Boxed"]

_MODULE = "foretell.model.estimators.child"
_PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS", "SYSTEMROOT", "SYSTEMDRIVE", "VIRTUAL_ENV",
)  # fmt: skip
_ERRORS: dict[str, type[ForetellError]] = {
    c.code: c for c in (ArtifactInvalid, ArtifactUntrusted, InvalidInput, RuntimeMissing, LoadError, MachineError)
}
_MOST_TEXT = 400
_CLOSE_S = 2.0


class Boxed:
    """One child process. Safe to ask from several threads: they take turns."""

    def __init__(self, subject: str) -> None:
        """Start it.

        Args:
            subject: What it holds, for messages: the name of a file.

        Raises:
            MachineError: No process can be started, or no scratch folder made.
        """
        self.subject = subject
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._trouble: OSError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._scratch = tempfile.mkdtemp(prefix="foretell-")
        except OSError as error:
            raise MachineError(f"no scratch folder for a child process: {error.strerror}") from error
        # The kernel ends the child with the thread that started it, so a thread of its own does.
        self._keeper = threading.Thread(target=self._keep, name="foretell-boxed", daemon=True)
        self._keeper.start()
        self._finalizer = weakref.finalize(self, _end, self._ended)
        self._ready.wait()
        if self._process is None:
            raise MachineError(f"no child process can be started: {self._trouble}")

    def ask(
        self, header: dict[str, Any], payloads: list[bytes] | None = None, *, doing: str, timeout_s: float = 900.0
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Send one command and wait for its answer.

        Args:
            header: The command.
            payloads: Raw bytes that go with it.
            doing: What the child does then, for the message if it dies: "opening it".
            timeout_s: After that it is ended.

        Raises:
            LoadError: Or a subclass of it: what the child refused, or that it died.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LoadError(f'"{self.subject}": its process is closed')
        with self._turn:
            watchdog = threading.Timer(timeout_s, process.kill)
            watchdog.daemon = True
            watchdog.start()
            try:
                send(process.stdin, header, payloads or [])
                answer, contents = receive(process.stdout)
            except FrameBroken as error:
                raise LoadError(f'"{self.subject}": {self._death(doing)}') from error
            finally:
                watchdog.cancel()
        if "error" in answer:
            raise _error(answer, self.subject)
        return answer, contents

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End the process and remove its scratch folder. Idempotent."""
        self._finalizer()
        self._keeper.join()
        self._process = None

    def _death(self, doing: str) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return f"the child process broke its protocol while {doing}, and was ended"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"the child process {how} while {doing}"

    def _keep(self) -> None:
        scratch, ended, ready = self._scratch, self._ended, self._ready
        process = None
        try:
            process = self._process = _start(scratch)
        except OSError as error:
            self._trouble = error
        del self  # else this thread would keep it alive for ever
        ready.set()
        if process is not None:
            ended.wait()
            _stop(process)
        shutil.rmtree(scratch, ignore_errors=True)


def _end(ended: threading.Event) -> None:
    ended.set()


def _start(scratch: str) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    here = os.getcwd()
    paths = [p for p in sys.path if p and os.path.exists(p)]
    environment |= {
        # The modules of custom steps must be found; those of the folder at hand come last.
        "PYTHONPATH": os.pathsep.join([*paths, here]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "JOBLIB_MULTIPROCESSING": "0",
        **dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP", "JOBLIB_TEMP_FOLDER", "MPLCONFIGDIR"), scratch),
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", _MODULE, scratch],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=here,
        start_new_session=True,
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):  # it is gone already
            process.stdin.close()
    try:
        process.wait(_CLOSE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _error(answer: dict[str, Any], subject: str) -> ForetellError:
    kind = _ERRORS.get(str(answer.get("code")), LoadError)
    text = " ".join(str(answer["error"]).split())
    printable = "".join(c if c.isprintable() else "?" for c in text)[:_MOST_TEXT]
    return kind(f'"{Path(subject).name}": {printable}')
