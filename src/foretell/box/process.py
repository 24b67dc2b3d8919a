"""The whole box: files, network, processes and limits of the calling process, and a report of what is in force.

Knows what Python and its numeric libraries need to go on working inside. Knows nothing of models.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from foretell.box import landlock, seccomp
from foretell.box.kernel import NotHere, prctl
from foretell.errors import ConfigError

__all__ = ["enter"]

_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache",
    "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system", "/sys/kernel/mm/transparent_hugepage", "/sys/fs/cgroup", "/dev/urandom", "/dev/random",
)  # fmt: skip
_MAX_FILES = 1024
_PDEATHSIG, _SET_DUMPABLE = 1, 4


def enter(read: Sequence[Path], write: Sequence[Path] = (), memory_bytes: int | None = None) -> dict[str, str]:
    """Box the calling process in, for good, and say what is in force.

    Afterwards the process reads `read`, `write`, Python's own folders and what the numeric libraries look up
    about the machine; it changes files only in `write`. New sockets, processes and programs are refused with
    EPERM, other files with EACCES. Open files and sockets, and threads, go on working. Call it first in a
    process of its own: threads that run already cannot always be boxed in, and the report says so.

    Args:
        read: Files and folders.
        write: Files and folders.
        memory_bytes: Limit of the address space, None for no limit. Libraries reserve more than they use.

    Returns:
        What is in force for `filesystem`, `network`, `processes` and `limits`; "none: why" where the
        system offers nothing, "partial: why" where it leaves a gap.

    Raises:
        ConfigError: A path does not exist.

    Note:
        The process is killed when the thread that started it ends: start it from one that waits for it.
        No file can be made executable, or change owner or time. joblib would start processes and named
        semaphores; inside it works on one thread, if JOBLIB_MULTIPROCESSING=0 was set before its import.
        `enter` sets it, which is too late for a joblib that is already there. OpenMP and BLAS keep their threads.
    """
    for path in (*read, *write):
        if not os.path.exists(path):
            raise ConfigError(f'box: path "{path}" does not exist')
    os.environ["JOBLIB_MULTIPROCESSING"] = "0"
    limits = _limits(memory_bytes)
    try:
        files = landlock.restrict([*read, *_own()], [*write, Path("/dev/null")])
        abi = landlock.abi()
    except NotHere as e:
        files, abi = f"none: {e}", 0
    try:
        seccomp.deny()
    except NotHere as e:
        tcp = "partial: landlock, TCP only" if abi >= 4 else f"none: {e}"
        started = "partial: landlock, programs only" if abi else f"none: {e}"
        return {"filesystem": files, "network": tcp, "processes": started, "limits": limits}
    network = "seccomp+landlock" if abi >= 4 else "seccomp"
    return {"filesystem": files, "network": network, "processes": "seccomp", "limits": limits}


def _own() -> Iterator[Path]:
    """Yield what the interpreter and its libraries read while they run."""
    yield from map(Path, _SYSTEM)
    paths = sysconfig.get_paths()
    yield from (Path(paths[k]) for k in ("stdlib", "platstdlib", "purelib", "platlib"))
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        yield from (Path(prefix) / name for name in ("lib", "lib64"))
    # A folder from which modules come is read too, but a home directory, or the folder a user happens to
    # work in, is on sys.path only by accident and holds much more than modules.
    home, here = Path(os.path.expanduser("~")).resolve(), Path(os.path.curdir).resolve()
    for entry in sys.path:
        folder = Path(entry).resolve()
        if entry and folder != here and not home.is_relative_to(folder):
            yield folder


def _limits(memory_bytes: int | None) -> str:
    """Set the limits of the process; return them in words."""
    try:
        import resource
    except ImportError:
        return f"none: {sys.platform} has no rlimits"
    said = ["no core file"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    said.append(f"{most} open files")
    if memory_bytes is not None:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            said.append(f"{memory_bytes} bytes of memory")
        except (OSError, ValueError) as e:
            said.append(f"memory not limited ({e})")
    if sys.platform == "linux":
        prctl(_PDEATHSIG, signal.SIGKILL.value)
        prctl(_SET_DUMPABLE, 0)
        said.append("ends with its parent")
    return ", ".join(said)
