"""Start a worker: a process, a socket and shared memory between it and the front, and its hello."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

from foretell.engine.instance import Hello
from foretell.engine.worker import slots as shared
from foretell.engine.worker.hello import hello_of
from foretell.engine.worker.instance import ProcessInstance
from foretell.engine.worker.link import PacketLink, StreamLink
from foretell.engine.worker.process import Process
from foretell.engine.worker.slots import Slots
from foretell.errors import ConfigError, LoadError, MachineError

__all__ = ["LOADER", "Transport", "best_transport", "start_process_instance"]

LOADER = "foretell.model.load:load_steady"
Transport = Literal["packets", "stream"]
_SOCKET_BYTES = 1 << 20
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "FORETELL_DEVICE")
"""Of the front's environment; everything else may hold secrets."""


def best_transport() -> Transport:
    """Return the quickest transport this system has.

    Raises:
        ConfigError: It has none.
    """
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        raise ConfigError("isolation process: this system cannot hand a socket to a process; use --isolation none")
    return "packets" if sys.platform == "linux" and shared.offered() else "stream"


async def start_process_instance(
    path: Path,
    *,
    trust: bool = False,
    threads: int = 1,
    memory_bytes: int | None = None,
    timeout_s: float = 900.0,
    transport: Transport | None = None,
    loader: str = LOADER,
) -> tuple[ProcessInstance, Hello]:
    """Load a model in a process of its own, boxed in and warmed up.

    Args:
        path: A bundle, an artifact, or a folder that holds one.
        trust: Whether a file that may run code may be opened.
        threads: That a call of the model may use.
        memory_bytes: Most memory it may hold. What it allocates beyond fails with OutOfMemory; if it gets beyond
            in another way it is ended.
        timeout_s: After that long without a hello it is ended.
        transport: How frames travel; None: the quickest way.
        loader: "module:function", called as function(path, trust=..., threads=...).

    Raises:
        LoadError: The model cannot be opened or warmed up, or its process ended.
        MachineError: No process, no memory.
    """
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    scratch = tempfile.mkdtemp(prefix="foretell-") if trust else None
    spec = {
        "path": _absolute(path), "trust": trust, "threads": threads, "memory_bytes": memory_bytes,
        "loader": loader, "front": os.getpid(), "scratch": [scratch] if scratch else [],
    }  # fmt: skip
    try:
        instance = _spawn(loop, spec, transport or best_transport(), _environment(threads, scratch))
        if scratch is not None:
            instance.when_ended(lambda: shutil.rmtree(scratch, ignore_errors=True))
    except BaseException:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    try:
        facts = await asyncio.wait_for(instance.hello(), timeout_s)
        hello = hello_of(facts, time.monotonic() - began, instance.resident_bytes())
    except BaseException as error:
        instance.kill()
        await instance.ended()
        if isinstance(error, TimeoutError):
            raise LoadError(f'"{Path(path).name}": not loaded after {timeout_s:g} s') from error
        raise
    instance.serve(hello.signature, hello.pictures)
    return instance, hello


def _spawn(
    loop: asyncio.AbstractEventLoop, spec: dict[str, Any], transport: Transport, environment: dict[str, str]
) -> ProcessInstance:
    kind = socket.SOCK_SEQPACKET if transport == "packets" else socket.SOCK_STREAM
    try:
        front, back = socket.socketpair(socket.AF_UNIX, kind)
        memory = Slots.create() if transport == "packets" else None
    except OSError as error:
        raise MachineError(f"worker: no socket or shared memory for it: {error.strerror}") from error
    for end in (front, back):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    front.setblocking(False)
    fds = [back.fileno(), *([] if memory is None else [memory])]
    spec = spec | {"socket": back.fileno(), "memory": memory}
    try:
        command = [sys.executable, "-P", "-s", "-m", "foretell.engine.worker.child", json.dumps(spec)]
        slots = None if memory is None else Slots(memory)
        process = Process(command, fds, environment)
    except BaseException:
        front.close()
        raise
    finally:
        back.close()
        if memory is not None:
            os.close(memory)
    link = PacketLink if transport == "packets" else StreamLink
    return ProcessInstance(loop, process, partial(link, loop, front), slots, spec["memory_bytes"])


def _absolute(path: Path) -> str:
    return os.path.abspath(path)


def _environment(threads: int, scratch: str | None) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {
        "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path if p and os.path.exists(p)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "JOBLIB_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # numpy starts these when it is imported, and no model multiplies matrices in numpy.
        "OPENBLAS_NUM_THREADS": "1",
    }
    if scratch is not None:
        environment |= dict.fromkeys(("TMPDIR", "HOME"), scratch)
    return environment
