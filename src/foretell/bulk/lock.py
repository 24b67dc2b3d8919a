"""A lock on a file, held until the block or the process ends. The file says who holds it, and goes with the lock.

By `flock` where there is one, else by `msvcrt` (Windows).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Taken", "Unlockable", "locked"]

_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_LOCKED_BYTE = 1 << 30
"""Windows keeps others from reading what is locked, so it is not where the holder's name is."""


class Taken(Exception):
    """Another holds the lock. Never leaves this package."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder
        """What it wrote of itself."""


class Unlockable(Exception):
    """This place has no locks, or may not be written. Never leaves this package."""


@contextmanager
def locked(path: str, holder: str) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be and removed when it is let go.

    Args:
        path: The file; its folder is there.
        holder: One line that tells others who holds it.

    Raises:
        Taken: Another does, in this process or elsewhere.
        Unlockable: No lock can be had here.
    """
    handle = _take(path)
    try:
        with suppress(OSError):  # on a full disk the lock is as good without a name in it
            os.ftruncate(handle, 0)
            os.pwrite(handle, holder.encode(), 0) if hasattr(os, "pwrite") else os.write(handle, holder.encode())
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; it stays, and is free
            os.unlink(path)
        os.close(handle)


def _take(path: str) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as e:
            raise Unlockable(e.strerror or str(e)) from e
        try:
            _lock(handle)
            # Who held it before may have removed it since it was opened: then this lock is on no name.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException as e:
            os.close(handle)
            if not isinstance(e, OSError):
                raise
            if e.errno in _BUSY:
                raise Taken(_holder(path)) from e
            raise Unlockable(e.strerror or str(e)) from e
        os.close(handle)


def _holder(path: str) -> str:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(200).decode("utf-8", "replace").strip("\0")
    return ""


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
