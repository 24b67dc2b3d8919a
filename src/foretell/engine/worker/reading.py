"""Reads frames. Believes nothing in them: a model may have taken its worker over. Pure."""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.engine.worker.frames import (
    ALIGN,
    BOOL,
    BYTES,
    DTYPES,
    HEAD,
    MOST_RANK,
    MOST_TENSORS,
    FrameBroken,
    Head,
    Place,
)
from foretell.engine.worker.texts import TextsBroken, split_texts

__all__ = ["read_head", "read_tensors"]

_ENTRY = struct.Struct("<BBxxxxxxQ")
_DIMENSIONS = [struct.Struct(f"<{rank}Q") for rank in range(MOST_RANK + 1)]
_MOST_DIMENSION = 1 << 48


def read_head(frame: Place, length: int) -> Head:
    """Return the head of a frame of `length` bytes; raise FrameBroken if it is shorter."""
    if length < HEAD.size:
        raise FrameBroken(f"a frame of {length} bytes")
    return Head._make(HEAD.unpack_from(frame))


def read_tensors(
    frame: Place, length: int, head: Head, place: Place | None = None, place_bytes: int = 0
) -> list[NDArray[Any]]:
    """Return the tensors of a frame.

    Args:
        frame: Holds the frame, and perhaps more.
        length: Bytes of the frame.
        head: Of the frame.
        place: The slot that holds their bytes; None: the frame does.
        place_bytes: Bytes of the slot.

    Returns:
        Views of the frame or the slot, to be copied by who keeps them. BOOL and BYTES are arrays of their own.

    Raises:
        FrameBroken: Anything does not fit.
    """
    at = HEAD.size + head.table_bytes
    if at > length:
        raise FrameBroken(f"the table ends at byte {at} of {length}")
    table = bytes(memoryview(frame)[HEAD.size : at])
    layout = _LAYOUTS.get(table)
    if layout is None:
        layout = _remember(table)
    if len(layout.entries) != head.tensors:
        raise FrameBroken(f"a table of {len(layout.entries)} tensors, {head.tensors} expected")
    if place is None:
        place, place_bytes = frame, length
        at += -at % ALIGN
    else:
        at = 0
    if at + layout.total_bytes > place_bytes:
        raise FrameBroken(f"the tensors end at byte {at + layout.total_bytes} of {place_bytes}")
    try:
        return [
            np.ndarray(entry.shape, entry.dtype, place, at + entry.offset)
            if entry.plain
            else _own_array(entry, place, at + entry.offset)
            for entry in layout.entries
        ]
    except (ValueError, TypeError, MemoryError, TextsBroken) as error:
        raise FrameBroken(f"tensors: {error}") from error


class _Entry(NamedTuple):
    plain: bool
    """Whether any bytes will do: neither BOOL nor BYTES."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    size: int


class _Layout(NamedTuple):
    entries: list[_Entry]
    total_bytes: int


_LAYOUTS: dict[bytes, _Layout] = {}
"""Tables that were read and found right before: batches of one model have few shapes."""
_MOST_LAYOUTS = 4096


def _remember(table: bytes) -> _Layout:
    if len(_LAYOUTS) >= _MOST_LAYOUTS:
        _LAYOUTS.clear()
    layout = _read_table(table)
    if len(table) <= 512:
        _LAYOUTS[table] = layout
    return layout


def _read_table(table: bytes) -> _Layout:
    entries: list[_Entry] = []
    at = offset = 0
    while at < len(table):
        if at + _ENTRY.size > len(table) or len(entries) == MOST_TENSORS:
            raise FrameBroken(f"a table of {len(table)} bytes, cut or too long")
        code, rank, size = _ENTRY.unpack_from(table, at)
        at += _ENTRY.size
        if code >= len(DTYPES) or rank > MOST_RANK or at + 8 * rank > len(table):
            raise FrameBroken(f"a tensor of datatype {code} and rank {rank}")
        shape = _DIMENSIONS[rank].unpack_from(table, at)
        at += 8 * rank
        _check_size(code, shape, size)
        offset += -offset % ALIGN
        entries.append(_Entry(code not in (BOOL, BYTES), DTYPES[code], shape, offset, size))
        offset += size
    return _Layout(entries, offset)


def _check_size(code: int, shape: tuple[int, ...], size: int) -> None:
    count = math.prod(shape)
    fits = count <= size if code == BYTES else count * DTYPES[code].itemsize == size
    if not fits or max(shape, default=0) > _MOST_DIMENSION:
        raise FrameBroken(f"a tensor of shape {shape} and {size} bytes")


def _own_array(entry: _Entry, place: Place, at: int) -> NDArray[Any]:
    """Return a BOOL or BYTES tensor; the other side could change shared memory after it was checked."""
    content = memoryview(place)[at : at + entry.size]
    if entry.dtype.kind == "O":
        return split_texts(content, math.prod(entry.shape)).reshape(entry.shape)
    # A byte that is neither 0 nor 1 is no truth to numpy.
    truths: NDArray[np.bool_] = np.ndarray(entry.shape, np.uint8, bytes(content)) != 0
    return truths
