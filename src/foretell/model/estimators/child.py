"""The process that holds an estimator: boxed in first, then told what to open, then asked.

    python -m foretell.model.estimators.child SCRATCH

Speaks in frames over its standard input and output. It is boxed in before numpy or anything else is imported, so
that every thread of it is inside, and before it is given a single byte of an artifact.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO, Any

from foretell.box import enter

__all__ = ["main"]

_MOST_MODULES = 4096


def main(scratch: str) -> None:
    """Box this process in and serve until the other side closes."""
    requests, replies = _channels()
    PathFinder.find_spec("_foretell_lists_the_folders_before_it_is_boxed_in")
    in_force = enter([*_own_modules(), *_own_maps()], [Path(scratch)])
    _serve(requests, replies, in_force)


def _channels() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the pipes for frames; what an estimator prints goes nowhere."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return requests, replies


def _own_modules() -> list[Path]:
    """Return the Python files and packages of the folder at hand: custom steps live there, and other things too."""
    found: list[Path] = []
    here = Path.cwd()
    try:
        for entry in os.scandir(here):
            package = entry.is_dir() and os.path.exists(os.path.join(entry.path, "__init__.py"))
            if package or entry.name.endswith((".py", ".so", ".pyd")):
                found.append(Path(entry.path))
    except OSError:
        return []
    return found[:_MOST_MODULES]


def _own_maps() -> list[Path]:
    """Return the list of this process's own libraries, which threadpoolctl reads to set their threads."""
    path = Path("/proc/self/maps")
    if not path.exists():
        return []
    os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # kept open: else the kernel may forget the file that was allowed
    return [path]


def _serve(requests: IO[bytes], replies: IO[bytes], in_force: dict[str, str]) -> None:
    from foretell.errors import ForetellError
    from foretell.model.estimators.session import Session
    from foretell.model.runtimes.frames import FrameBroken, receive, send

    session = Session(in_force)
    while True:
        try:
            header, payloads = receive(requests)
        except FrameBroken:
            return
        answer: dict[str, Any]
        try:
            answer, contents = session.answer(header, payloads)
        except ForetellError as error:
            answer, contents = {"error": str(error), "code": error.code}, []
        except MemoryError:
            answer, contents = {"error": "not enough memory", "code": "machine_error"}, []
        except Exception as error:  # noqa: BLE001 - code of the artifact may raise anything
            answer, contents = {"error": f"{type(error).__name__}: {error}", "code": "load_error"}, []
        try:
            send(replies, answer, contents)
        except FrameBroken:
            return


if __name__ == "__main__":
    main(sys.argv[1])
