"""The process that runs a model.

    python -m foretell.engine.worker.child '{"socket": 5, "path": "ames/", ...}'

Without `trust` it is boxed in before numpy is imported and before a byte of the model is read: every thread of it,
and whatever parses the file, is inside. With `trust` a model may need a process of its own, which only a process
outside the box can start; so the box closes right after loading. Knows the box and its limits, no frames.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from itertools import islice
from pathlib import Path
from typing import Any

from foretell.box import enter
from foretell.box.kernel import NotHere, machine, prctl

__all__ = ["main"]

_PDEATHSIG = 1
_MOST_FILES = 1024


def main(spec: dict[str, Any]) -> None:
    """Set up, load, and serve until the front closes its end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever ends a whole group of processes means the front, which needs this one until it has drained.
        signal.signal(number, signal.SIG_IGN)
    _end_with(spec["front"])
    limit = _limit_memory(spec["memory_bytes"])
    read, write = _files_of(Path(spec["path"])), [Path(p) for p in spec["scratch"]]
    PathFinder.find_spec("_foretell_lists_the_folders_before_it_is_boxed_in")
    early = not spec["trust"]
    sandbox = enter(read, write) if early else {}
    sock = socket.socket(fileno=spec["socket"])
    sock.setblocking(True)

    from foretell.engine.worker import serving
    from foretell.engine.worker.pictures import Sight
    from foretell.engine.worker.wire import PacketWire, StreamWire

    wire = PacketWire(sock) if sock.type == socket.SOCK_SEQPACKET else StreamWire(sock)
    try:
        model = serving.loader_named(spec["loader"])(spec["path"], trust=spec["trust"], threads=spec["threads"])
        if not early:
            serving.open_estimators(model)
            sandbox = enter(read, write)
        sandbox["limits"] += limit
        sight = Sight.of(model)
        facts = serving.facts_of(model, serving.warm(model), sandbox, sight)
        slots = _slots(spec["memory"])
    except Exception as error:  # noqa: BLE001 - whatever a model's file sets off leaves as one line
        serving.give_up(wire, error)
        return
    serving.greet(wire, facts)
    serving.serve(wire, model, slots, sight)


def _files_of(path: Path) -> list[Path]:
    """Return what belongs to a model: its file or folder, and the files beside an ONNX file, which may hold weights."""
    if path.suffix != ".onnx" or not path.is_file():
        return [path]
    beside = (e for e in os.scandir(path.parent) if not e.name.startswith(".") and e.is_file(follow_symlinks=False))
    return [path, *(Path(entry.path) for entry in islice(beside, _MOST_FILES))]


def _end_with(front: int) -> None:
    """Ask the kernel to end this process with the front; leave at once if the front has gone already."""
    with suppress(NotHere, OSError):  # elsewhere the closed socket ends it, between two batches
        machine()
        prctl(_PDEATHSIG, signal.SIGKILL.value)
    if os.getppid() != front:
        sys.exit(0)


def _limit_memory(memory_bytes: int | None) -> str:
    """Limit what may be allocated; return it in words. Mapped files and mere reservations do not count."""
    if memory_bytes is None:
        return ""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    except (ImportError, OSError, ValueError) as error:
        return f", memory not limited ({error})"
    return f", {memory_bytes} bytes of data"


def _slots(fd: int | None) -> Any:
    if fd is None:
        return None
    from foretell.engine.worker.slots import Slots

    slots = Slots(fd)
    os.close(fd)
    return slots


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
