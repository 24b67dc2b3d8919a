"""Calls into the kernel that Python's library does not offer: `syscall` and `prctl`, through ctypes.

Knows the machines whose system call numbers Foretell has written down, and nothing of what the calls are for.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

__all__ = ["NO_NEW_PRIVS", "NotHere", "machine", "prctl", "syscall"]

NO_NEW_PRIVS = 38


class NotHere(Exception):
    """The kernel or the machine does not offer this; the text says why, for the report."""


def machine() -> str:
    """Return `x86_64` or `aarch64`; raise NotHere on any other system or machine."""
    name = platform.machine()
    if sys.platform != "linux":
        raise NotHere(f"{platform.system() or sys.platform} has no Landlock and no seccomp")
    if name not in ("x86_64", "aarch64") or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise NotHere(f"not written for a {name} of {8 * ctypes.sizeof(ctypes.c_void_p)} bits")
    return name


def syscall(number: int, *args: object) -> int:
    """Call the kernel; arguments are ints, pointers or ctypes objects. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = int(libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, value: object = 0, extra: object = 0) -> int:
    """Change a property of this process, or raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    wide = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (value, extra, 0, 0)]
    result = int(libc.prctl(ctypes.c_int(option), *wide))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
