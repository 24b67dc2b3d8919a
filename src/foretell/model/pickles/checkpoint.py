"""The tensors of a PyTorch checkpoint, read without PyTorch and without running its pickle.

A checkpoint is a pickle that says which tensor is which part of which storage, and the storages' raw bytes: behind it
in one file (PyTorch before 1.6), or beside it in an uncompressed zip (`torch/serialization.py`). Only dense tensors
of plain numbers are taken; everything else in the file is stepped over. Weights alone are no model: what is computed
with them is in code.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.pickles.inert import Call, GlobalRef, Table, UnreadablePickle
from foretell.model.pickles.opcodes import read_pickle, read_pickle_at

__all__ = ["read_checkpoint"]

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_MAX_DEPTH = 8
_Storages = dict[str, tuple[str, int]]


def read_checkpoint(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict by name, those of dicts in dicts as `outer.inner`.

    Args:
        content: A file that `torch.save` wrote, of either form.

    Returns:
        Read-only arrays that share the memory of `content` where they are contiguous.

    Raises:
        UnreadablePickle: It is no such file, it is damaged, or a tensor reaches outside its storage.
    """
    if content.startswith(b"PK\x03\x04"):
        root, raw = _from_zip(content)
    else:
        root, raw = _from_one_file(content)
    return {name: _tensor(name, call, raw) for name, call in _tensors(root, "", 0)}


def _from_one_file(content: bytes) -> tuple[Any, dict[str, bytes | memoryview]]:
    magic, at = read_pickle_at(content, 0)
    if magic != _MAGIC:
        raise UnreadablePickle("not a file of torch.save: it does not begin as one")
    _, at = read_pickle_at(content, at)
    system, at = read_pickle_at(content, at)
    if not (isinstance(system, Table) and system.get("little_endian") is True):
        raise UnreadablePickle("saved on a big-endian machine: not read")
    root, at = read_pickle_at(content, at)
    keys, at = read_pickle_at(content, at)
    storages = _storages(root)
    raw: dict[str, bytes | memoryview] = {}
    for key in keys if isinstance(keys, list) else ():
        dtype, count = storages.get(key, ("", -1))
        end = at + 8 + count * (np.dtype(dtype).itemsize if dtype else 0)
        if int.from_bytes(content[at : at + 8], "little") != count or end > len(content):
            raise UnreadablePickle(f"storage {key!r} is not where it should be, at byte {at}")
        raw[key] = memoryview(content)[at + 8 : end]
        at = end
    return root, raw


def _from_zip(content: bytes) -> tuple[Any, dict[str, bytes | memoryview]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {e.filename.partition("/")[2]: e for e in archive.infolist()}
            packed = [name for name, e in entries.items() if e.compress_type != zipfile.ZIP_STORED]
            if "data.pkl" not in entries or packed:
                raise UnreadablePickle("a zip, but none of torch.save: no data.pkl, or compressed")
            if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
                raise UnreadablePickle("saved on a big-endian machine: not read")
            root = read_pickle(archive.read(entries["data.pkl"])).root
            raw: dict[str, bytes | memoryview] = {}
            for key in _storages(root):
                if f"data/{key}" not in entries:
                    raise UnreadablePickle(f"storage {key!r} is missing")
                raw[key] = archive.read(entries[f"data/{key}"])
            return root, raw
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnreadablePickle(f"not a whole zip: {error}") from error


def _tensors(node: Any, name: str, depth: int) -> Iterator[tuple[str, Call]]:
    """Yield the calls that would rebuild tensors, each with its name."""
    if depth > _MAX_DEPTH:
        return
    called = str(node.function) if isinstance(node, Call) else ""
    if called == "torch._utils._rebuild_tensor_v2":
        yield name, node
    elif called == "torch._utils._rebuild_parameter" and isinstance(node.arguments, tuple) and node.arguments:
        yield from _tensors(node.arguments[0], name, depth + 1)
    else:
        pairs = node.pairs if isinstance(node, Table) else node.items if called == "collections.OrderedDict" else ()
        for key, value in pairs or ():
            if isinstance(key, str):
                yield from _tensors(value, f"{name}.{key}" if name else key, depth + 1)


def _storages(root: Any) -> _Storages:
    """Return dtype and number of elements of every storage by its key."""
    found: _Storages = {}
    for name, call in _tensors(root, "", 0):
        key, dtype, count = _storage(name, call)
        if found.setdefault(key, (dtype, count)) != (dtype, count):
            raise UnreadablePickle(f'tensor "{name}": storage {key!r} is of two kinds')
    return found


def _storage(name: str, call: Call) -> tuple[str, str, int]:
    """Return key, dtype and number of elements of a tensor's storage."""
    held = call.arguments[0] if isinstance(call.arguments, tuple) and len(call.arguments) >= 4 else None
    where = held.arguments[0] if isinstance(held, Call) and held.arguments else ()
    if isinstance(where, tuple) and len(where) >= 5 and isinstance(where[1], GlobalRef):
        _, kind, key, _, count = where[:5]
        if kind.name in _DTYPES and isinstance(key, str) and _is_size(count):
            return key, _DTYPES[kind.name], count
    raise UnreadablePickle(f'tensor "{name}": of a kind that is not read; expected plain dense numbers')


def _tensor(name: str, call: Call, raw: dict[str, bytes | memoryview]) -> NDArray[Any]:
    key, dtype, count = _storage(name, call)
    _, offset, shape, strides, *_ = call.arguments
    whole = np.frombuffer(raw[key], dtype) if raw.get(key) else np.empty(0, dtype)
    right = all(isinstance(v, tuple) and all(map(_is_size, v)) for v in (shape, strides)) and _is_size(offset)
    if not right or len(shape) != len(strides) or len(shape) > 16 or len(whole) != count:
        raise UnreadablePickle(f'tensor "{name}": shape, strides or storage are garbled')
    elements = math.prod(shape)
    last = offset + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
    if elements and (last >= count or elements > count):
        raise UnreadablePickle(f'tensor "{name}": reaches outside its storage')
    steps = [s * whole.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(whole[offset:], shape, steps, writeable=False)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40
