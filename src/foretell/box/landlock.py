"""Landlock: which files a thread, and all it starts, may touch; no TCP; no signals to the outside.

Numbers are those of the kernel's `include/uapi/linux/landlock.h`, ABI 1 to 8. Rights that a kernel does not
know are left out of what is asked of it. Landlock does not judge chmod, chown and extended attributes; the
system call filter does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from foretell.box.kernel import NO_NEW_PRIVS, NotHere, machine, prctl, syscall

__all__ = ["abi", "restrict"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH, _ALL_THREADS = 1, 1, 1 << 3

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_REFER, _TRUNCATE = 1 << 13, 1 << 14

_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER | _TRUNCATE
_OF_A_FILE = _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that a rule on a single file may hold; the kernel refuses the others."""


def abi() -> int:
    """Return the version of Landlock in the running kernel; raise NotHere if there is none."""
    machine()
    try:
        return syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError as e:
        why = "the kernel has no Landlock" if e.errno == errno.ENOSYS else f"Landlock is switched off ({e.strerror})"
        raise NotHere(why) from e


def restrict(read: Iterable[Path], write: Iterable[Path]) -> str:
    """Deny this thread, and all it starts, every file but these; return what is in force.

    Args:
        read: Files and folders to read. One that does not exist is left out.
        write: Files and folders to read and change.

    Raises:
        NotHere: The kernel does not offer it.
    """
    version = abi()
    handled = _handled(version)
    net = 0b11 if version >= 4 else 0
    scoped = 0b11 if version >= 6 else 0
    wanted = struct.pack("=QQQ", handled, net, scoped)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    try:
        ruleset = syscall(_CREATE_RULESET, wanted, len(wanted), 0)
        try:
            for path in read:
                _allow(ruleset, path, _READ & handled)
            for path in write:
                _allow(ruleset, path, _WRITE & handled)
            prctl(NO_NEW_PRIVS, 1)
            return _apply(ruleset, version)
        finally:
            os.close(ruleset)
    except OSError as e:
        raise NotHere(f"Landlock refused ({e.strerror})") from e


def _handled(version: int) -> int:
    """Return every right on files that this version can deny."""
    bits = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    return (1 << bits) - 1


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not there, or not ours to see: nothing to allow
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, fd)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(fd)


def _apply(ruleset: int, version: int) -> str:
    """Put the rules in force: for all threads where the kernel can, else for this one."""
    others = len(os.listdir("/proc/self/task")) - 1 if os.path.isdir("/proc/self/task") else 0
    if others and version >= 8:
        try:
            syscall(_RESTRICT_SELF, ruleset, _ALL_THREADS)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
        else:
            return f"landlock abi {version}"
    syscall(_RESTRICT_SELF, ruleset, 0)
    if others:
        return f"partial: landlock abi {version}, but {others} thread(s) started earlier are outside"
    return f"landlock abi {version}"
