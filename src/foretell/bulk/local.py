"""Files on a disk of this machine: a name appears with its whole content, synced, or not at all.

Knows file systems and their errors; nothing of what files hold. Windows has no sync of folders: there a name may be
lost with the power, never its content.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from foretell.bulk.lock import Taken, Unlockable, locked
from foretell.errors import ConfigError, InternalError, MachineError

__all__ = ["LocalStorage"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BINARY = getattr(os, "O_BINARY", 0)
_TAIL_BYTES = 1 << 16
_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part", re.DOTALL)


class LocalStorage:
    """The file systems of this machine."""

    def __init__(self) -> None:
        self._left: dict[Path, dict[str, list[Path]]] = {}
        """By folder and name: what killed processes left aside. A folder is looked through once: it may be large."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            ConfigError: There is no such file.
            MachineError: It may not be read.
        """
        with _reading(path):
            return cast("BinaryIO", open(path, "rb"))

    def size_bytes(self, path: str) -> int:
        """Return the length of a file in bytes; raises as `open`."""
        with _reading(path):
            return os.stat(path).st_size

    def stamp(self, path: str) -> str:
        """Return the modification time in ns; raises as `open`."""
        with _reading(path):
            return str(os.stat(path).st_mtime_ns)

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder of this name."""
        return os.path.exists(path)

    def files_in(self, folder: str) -> list[str]:
        """Return the paths of all files in a folder and below, sorted name by name; raises as `open`."""
        with _reading(folder):
            found = [os.path.join(at, name) for at, _, names in os.walk(folder, onerror=_raise) for name in names]
        return sorted((p for p in found if os.path.isfile(p)), key=lambda p: p.split(os.sep))

    @contextmanager
    def creating(self, path: str) -> Iterator[BinaryIO]:
        """Write a file aside, as `.NAME.XXXXXXXX.part`; synced and renamed when the block ends well.

        What a killed process left of the same name is removed first: one process at a time writes a name.

        Raises:
            ConfigError: The name is that of a folder.
            MachineError: The disk is full, or it may not be written.
        """
        final = Path(os.path.realpath(path))
        with _writing(path):
            _make_folders(final.parent)
            if final.is_dir():
                raise ConfigError(f'"{path}": this is a folder, expected a file; add a name')
            for left in self._left_in(final.parent).pop(final.name, ()):
                left.unlink(missing_ok=True)
            part = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
            file = part.open("xb")
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()
                os.replace(part, final)
                _sync_folder(final.parent)
            finally:
                with suppress(OSError):  # a full disk fails again for what is left in the buffer
                    file.close()
                part.unlink(missing_ok=True)

    def _left_in(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._left:
            found: dict[str, list[Path]] = {}
            for name in os.listdir(folder):
                if part := _PART.fullmatch(name):
                    found.setdefault(part[1], []).append(folder / name)
            self._left[folder] = found
        return self._left[folder]

    def add_line(self, path: str, line: str) -> None:
        """Add one line, synced; what a kill or a full disk left of a line before it is cut off.

        Raises:
            MachineError: The disk is full, or it may not be written.
        """
        if "\n" in line:
            raise InternalError(f'"{path}": a line with a newline in it. This is a bug.')
        data = line.encode() + b"\n"
        with _writing(path):
            is_new = not os.path.exists(path)
            if is_new:
                _make_folders(Path(path).absolute().parent)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, 0o666)
            try:
                end = _end_of_lines(handle)
                try:
                    written = os.write(handle, data)
                    if written < len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, end)
                    raise
            finally:
                os.close(handle)
            if is_new:
                _sync_folder(Path(path).absolute().parent)

    def lines(self, path: str) -> list[str]:
        """Return the whole lines of a journal, none if there is no such file; raises as `open`."""
        if not os.path.exists(path):
            return []
        with self.open(path) as file, _reading(path):
            return [line.decode("utf-8", "replace") for line in file.read().split(b"\n")[:-1]]

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; it need not exist.

        Raises:
            MachineError: It may not be removed.
        """
        with _writing(path):
            if os.path.isdir(path) and not os.path.islink(path):
                try:
                    shutil.rmtree(path)
                except OSError as e:
                    if e.errno != errno.ENOTEMPTY:  # another process has just made a file there: it is not ours
                        raise
            else:
                Path(path).unlink(missing_ok=True)

    @contextmanager
    def holding(self, path: str) -> Iterator[None]:
        """Hold a name by the lock of a file, which the system lets go when the process ends, however it ends.

        Raises:
            ConfigError: Another process holds it; it is named.
            MachineError: The file system knows no locks, or it may not be written.
        """
        with _writing(path):
            _make_folders(Path(path).absolute().parent)
        try:
            with locked(path, f"process {os.getpid()} on {socket.gethostname()}"):
                yield
        except Taken as e:
            raise ConfigError(
                f'"{path}": {e.holder or "another process"} is at work here; wait until it is done, or end it'
            ) from e
        except Unlockable as e:
            raise MachineError(f'"{path}": cannot be locked ({e}); write to a disk of this machine') from e


def _end_of_lines(handle: int) -> int:
    """Return the length of a file of lines, in bytes; a last line cut short is cut off."""
    size = at = os.fstat(handle).st_size
    while at:
        begin = max(0, at - _TAIL_BYTES)
        os.lseek(handle, begin, os.SEEK_SET)
        found = os.read(handle, at - begin).rfind(b"\n")
        if found >= 0:
            at = begin + found + 1
            break
        at = begin
    if at < size:
        os.ftruncate(handle, at)
    return at


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folder
            raise
    finally:
        os.close(handle)


def _raise(fault: OSError) -> None:
    raise fault


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as e:
        raise ConfigError(f'"{path}": there is no such file or folder; check the path') from e
    except OSError as e:
        raise MachineError(f'"{path}": cannot be read ({e.strerror or e}); check its permissions') from e


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as e:
        raise MachineError(f'"{path}": cannot be written ({e.strerror or e}); {_advice(path, e)}') from e


def _advice(path: str, fault: OSError) -> str:
    if fault.errno not in _FULL:
        return "check its permissions"
    again = "free some space, then run the same command again"
    if fault.errno == errno.EFBIG:
        return f"no file may be so large here; raise the limit, or {again}"
    folder = Path(path).absolute().parent
    with suppress(OSError):
        free = shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.exists())).free
        return f"{free / 1e6:,.1f} MB are free there; {again}"
    return again
