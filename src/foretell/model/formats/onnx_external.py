"""The files beside an ONNX model that hold its large tensors: opened inside its folder or not at all, and taken in.

Afterwards the model is whole in memory, and ONNX Runtime opens nothing. Links are refused, symbolic and hard
ones: both can put any file of this machine into the model's weights, and so into its answers.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from foretell.errors import ArtifactInvalid, ArtifactUntrusted

if TYPE_CHECKING:
    from onnx import TensorProto

__all__ = ["MAX_MODEL_BYTES", "element_bits", "embed"]

MAX_MODEL_BYTES = (1 << 31) - 1
"""Largest protobuf message, and so the largest model."""

_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
    15: 128,
}
_OPENAT2 = 437
_BENEATH_NO_LINKS = 0x08 | 0x04 | 0x02
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def element_bits(data_type: int) -> int | None:
    """Return the bits of an element of a TensorProto.DataType (onnx.proto), or None where it has no fixed width."""
    return _BITS.get(data_type)


def embed(name: str, tensors: Iterable[TensorProto], folder: Path | None, budget_bytes: int) -> int:
    """Take the data of external tensors into the model.

    Args:
        name: Of the model's file, for messages.
        tensors: All tensors of the model, wherever they are.
        folder: The folder of the model's file; None where there is none.
        budget_bytes: How much may be taken in.

    Returns:
        How many tensors were external.

    Raises:
        ArtifactUntrusted: A location leads out of the folder, or is a link.
        ArtifactInvalid: The data is missing, too short or too large, or the description contradicts itself.
    """
    count = 0
    for tensor in tensors:
        if tensor.data_location != 1:
            continue
        if folder is None:
            raise ArtifactInvalid(
                f'"{name}": tensor "{_shown(tensor.name)}" is in another file, but no folder is known; give a path'
            )
        needed = _needed_bytes(name, tensor)
        budget_bytes -= needed
        if budget_bytes < 0:
            raise ArtifactInvalid(f'"{name}": larger than 2 GiB with its external data, which ONNX cannot hold in one')
        data = _read(name, tensor, folder, needed)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = data
        count += 1
    return count


def _needed_bytes(name: str, tensor: TensorProto) -> int:
    bits = element_bits(tensor.data_type)
    if bits is None or any(d < 0 for d in tensor.dims):
        raise ArtifactInvalid(
            f'"{name}": external tensor "{_shown(tensor.name)}" has no fixed size; export the model again'
        )
    return -(-math.prod(int(d) for d in tensor.dims) * bits // 8)


def _read(name: str, tensor: TensorProto, folder: Path, needed: int) -> bytes:
    entries = [(e.key, e.value) for e in tensor.external_data if e.key in ("location", "offset", "length")]
    values = dict(entries)
    broken = any(isinstance(value, bytes) for value in values.values())
    if broken or len(values) != len(entries) or "location" not in values:
        raise ArtifactInvalid(f'"{name}": tensor "{_shown(tensor.name)}" says twice, or not at all, where its data is')
    location = values["location"]
    offset = _number(name, tensor, "offset", values.get("offset", "0"))
    length = _number(name, tensor, "length", values.get("length", str(needed)))
    if length != needed:
        raise ArtifactInvalid(
            f'"{name}": tensor "{_shown(tensor.name)}" has {length} external bytes, its shape takes {needed}'
        )
    handle = _open(name, folder, location)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise ArtifactUntrusted(
                f'"{name}": external data "{_shown(location)}" is a hard link or no regular file; put a copy there'
            )
        if offset + needed > status.st_size:
            raise ArtifactInvalid(
                f'"{name}": tensor "{_shown(tensor.name)}" wants bytes {offset} to {offset + needed} '
                f'of "{_shown(location)}", which has {status.st_size}; copy it again'
            )
        return _read_exactly(name, handle, offset, needed)
    finally:
        os.close(handle)


def _read_exactly(name: str, handle: int, offset: int, count: int) -> bytes:
    parts: list[bytes] = []
    os.lseek(handle, offset, os.SEEK_SET)
    while count:
        part = os.read(handle, min(count, 1 << 30))
        if not part:
            raise ArtifactInvalid(f'"{name}": its external data became shorter while it was read; try again')
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _number(name: str, tensor: TensorProto, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ArtifactInvalid(
            f'"{name}": tensor "{_shown(tensor.name)}" has {key} "{_shown(text)}"; expected a number of bytes'
        )
    return int(text)


def _shown(text: str | bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text)[:80])


def _open(name: str, folder: Path, location: str) -> int:
    """Open a plain relative path inside the folder, following no link."""
    parts = PurePosixPath(location).parts
    outside = location.startswith("/") or ".." in parts or any(c in location for c in "\\:\0")
    if outside or not parts or "_ORT_MEM_ADDR_" in location:
        raise ArtifactUntrusted(
            f'"{name}": external data at "{_shown(location)}" leads out of the model\'s folder, so it is refused; '
            "expected a plain file name beside the model"
        )
    try:
        return _open_beneath(folder, parts)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise ArtifactUntrusted(
                f'"{name}": external data "{_shown(location)}" is, or lies behind, a symbolic link, so it is refused; '
                "put the file itself beside the model"
            ) from error
        raise ArtifactInvalid(
            f'"{name}": external data "{_shown(location)}" cannot be read: {error.strerror}; put it beside the model'
        ) from error


def _open_beneath(folder: Path, parts: tuple[str, ...]) -> int:
    if os.open not in os.supports_dir_fd:
        return _open_by_names(folder, parts)
    # A name to start from and no right to list it: a boxed-in process may have none.
    base = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        handle = _openat2(base, "/".join(parts)) if sys.platform == "linux" else None
        return _open_by_steps(base, parts) if handle is None else handle
    finally:
        os.close(base)


class _OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _openat2(base: int, relative: str) -> int | None:
    """Let the kernel resolve the path in one step; None where it has no openat2 or a sandbox forbids it."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(_READ, 0, _BENEATH_NO_LINKS)
    handle: int = libc.syscall(
        ctypes.c_long(_OPENAT2), base, os.fsencode(relative), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
    )
    if handle >= 0:
        return handle
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
        return None
    raise OSError(code, os.strerror(code))


def _open_by_steps(base: int, parts: tuple[str, ...]) -> int:
    """Open folder by folder; O_NOFOLLOW makes a link fail with ELOOP, or with ENOTDIR where a folder is expected."""
    opened: list[int] = []
    try:
        for part in parts[:-1]:
            if stat.S_ISLNK(os.stat(part, dir_fd=base, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            base = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
            opened.append(base)
        return os.open(parts[-1], _READ | os.O_NOFOLLOW, dir_fd=base)
    finally:
        for handle in opened:
            os.close(handle)


def _open_by_names(folder: Path, parts: tuple[str, ...]) -> int:
    """For systems that cannot open relative to a folder: a link is refused, but could be swapped in meanwhile."""
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.open(path, _READ)
