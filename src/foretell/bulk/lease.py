"""A lease: an object that says who holds a name, made only where there is none, and renewed while it is held.

1. there is none   it is made; of two that try at once the store lets one
2. there is one    its holder is at work: told at once. It ran here and is dead, or the lease was not renewed for
                   `_STALE_S` and is not while this process watches: the lease is taken over

A process that sleeps for longer than that and wakes may not know that it was replaced. What it writes then is the same
bytes under the same names; its next line of the journal is refused. Knows fsspec, and no journal.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from foretell.bulk.remote_faults import exists_already, remote
from foretell.errors import ConfigError, ForetellError

__all__ = ["leased"]

_RENEW_S = 10.0
_STALE_S = 45.0
_SURELY_S = 900.0
"""Clocks of machines do not differ by so much: stores refuse those that do."""
_SETTLE_S = 1.0
"""Two that take over at once both write; after this time both see which of them was last."""

_held: set[str] = set()
"""Tokens of the leases that this process holds."""


@contextmanager
def leased(fs: Any, name: str, shown: str) -> Iterator[None]:
    """Hold a name until the block ends.

    Args:
        fs: An `fsspec.AbstractFileSystem`.
        name: Of the object, in words of `fs`.
        shown: What messages call it.

    Raises:
        ConfigError: Another process holds it.
        MachineError: It may not be written, or the connection is lost.
    """
    token = secrets.token_hex(8)
    with remote(shown, "written"):
        _take(fs, name, shown, token)
    _held.add(token)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(fs, name, token, done), name="foretell-lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        _held.discard(token)
        with suppress(ForetellError), remote(shown, "removed"):  # it is stale soon
            if _read(fs, name).get("token") == token:
                fs.rm_file(name)


def _take(fs: Any, name: str, shown: str, token: str) -> None:
    with suppress(FileNotFoundError, NotImplementedError):
        fs.makedirs(fs._parent(name), exist_ok=True)
    while True:
        found = _read(fs, name)  # also for stores that know no condition, and would overwrite it
        if not found:
            if _make(fs, name, token):
                return
            continue
        if not _is_dead(found) and not _is_stale(fs, name, found):
            raise ConfigError(
                f'"{shown}": process {found.get("pid")} on {found.get("host")} is at work here; wait until it is done, '
                f"or end it. If it was killed, run the same command again after {_STALE_S:.0f} s"
            )
        if _read(fs, name) == found:
            fs.pipe_file(name, _content(token))
            time.sleep(_SETTLE_S)
            if _read(fs, name).get("token") == token:
                return


def _make(fs: Any, name: str, token: str) -> bool:
    try:
        fs.pipe_file(name, _content(token), mode="create")
    except Exception as e:
        if not exists_already(e):
            raise
        return bool(_read(fs, name).get("token") == token)
    return True


def _renew(fs: Any, name: str, token: str, done: threading.Event) -> None:
    while not done.wait(_RENEW_S):
        with suppress(ForetellError), remote(name, "written"):  # the next time may be better
            if _read(fs, name).get("token") not in (token, None):
                return
            fs.pipe_file(name, _content(token))


def _content(token: str) -> bytes:
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": token, "renewed": time.time_ns()}
    return json.dumps(mine).encode()


def _read(fs: Any, name: str) -> dict[str, Any]:
    """Return what a lease says, nothing where there is none."""
    try:
        found = json.loads(fs.cat_file(name))
    except FileNotFoundError:
        return {}
    except ValueError:
        return {"token": ""}
    return found if isinstance(found, dict) else {"token": ""}


def _is_dead(found: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and does no more."""
    if found.get("host") != socket.gethostname() or not isinstance(found.get("pid"), int):
        return False
    if found["pid"] == os.getpid():
        return found.get("token") not in _held
    if os.name == "nt":
        return False
    try:
        os.kill(found["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _is_stale(fs: Any, name: str, found: dict[str, Any]) -> bool:
    """Whether a lease is no longer renewed. Clocks differ, so one that seems to be is watched."""
    renewed = found.get("renewed")
    age_s = time.time() - renewed / 1e9 if isinstance(renewed, int) else _SURELY_S
    if _STALE_S <= age_s < _SURELY_S:
        time.sleep(2 * _RENEW_S)
        return _read(fs, name) == found
    return age_s >= _SURELY_S
