"""Joins a Ray cluster: a new one on this machine, one that runs, or one behind a Ray client's server.

Knows no chunk and no model.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from foretell import machine
from foretell.errors import ConfigError, ForetellError, MachineError, RuntimeMissing

__all__ = ["NEW", "check", "joined", "last_line"]

NEW = "ray"
"""Stands for a new cluster on this machine."""
_LEAST_STORE_BYTES = 1 << 28
_STORE_BYTES_EACH = 1 << 26
"""A chunk in Ray's object store and its answer."""


_ADDRESS = re.compile(r"auto|(ray://)?[^/:\s]+:\d+|ray://\[[0-9A-Fa-f:]+\]:\d+")


def check(address: str) -> None:
    """Check that a cluster may have this address, and that Ray is installed.

    Raises:
        ConfigError: It may not.
        RuntimeMissing: Ray is not installed.
    """
    if address != NEW and not _ADDRESS.fullmatch(address):
        raise ConfigError(
            f'--on "{address}": expected "ray", "auto", HOST:PORT, or ray://HOST:PORT such as ray://head:10001'
        )
    _ray()


@contextmanager
def joined(address: str, workers: int | None) -> Iterator[int]:
    """Join a cluster, and leave it in the end; a new one is ended.

    Args:
        address: `NEW`; "auto", or HOST:PORT of a cluster that runs; "ray://HOST:PORT" of a Ray client's server.
        workers: To have there; None: one for each processor.

    Yields:
        How many workers to have.

    Raises:
        ConfigError: There is no such cluster.
        MachineError: A new one does not start.
        RuntimeMissing: Ray is not installed.
    """
    ray = _ray()
    if ray.is_initialized():  # by the program that calls: its cluster is ours, and stays
        yield workers or _processors(ray, address)
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**_options(address, workers))
    except Exception as e:  # Ray's own errors have no class in common
        ray.shutdown()
        raise _not_joined(address, e) from e
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts its own there, which tells nobody how to go on
    try:
        yield workers or _processors(ray, address)
    finally:
        ray.shutdown()


def _not_joined(address: str, error: Exception) -> ForetellError:
    if address == NEW:
        return MachineError(
            f"--on ray: no cluster can be started on this machine ({last_line(error)}); is it busy, or short of memory?"
        )
    return ConfigError(
        f'--on "{address}": no Ray cluster can be joined there ({last_line(error)}); '
        'expected "ray" for a new one on this machine, or an address such as ray://head:10001; '
        "one that wants a token gets that of RAY_AUTH_TOKEN, with RAY_AUTH_MODE=token"
    )


def last_line(error: Exception) -> str:
    """Return what an error says in its end: Ray puts a trace before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


def _options(address: str, workers: int | None) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != NEW:
        return {"address": address, **quiet}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of every start
    count = workers or machine.cores()
    store = max(_LEAST_STORE_BYTES, _STORE_BYTES_EACH * (count + 4))
    return {
        "address": "local",
        "num_cpus": count,
        "num_gpus": 0,
        "include_dashboard": False,
        "object_store_memory": store,
        **quiet,
    }


def _processors(ray: Any, address: str) -> int:
    count = int(ray.cluster_resources().get("CPU", 0))
    if count < 1:
        raise ConfigError(f'--on "{address}": the cluster has no processor; add a machine, or name --threads')
    return count


def _ray() -> Any:
    try:
        import ray
    except ImportError as e:
        raise RuntimeMissing("--on: Ray is not installed; pip install 'foretell[ray]'") from e
    return ray
