"""Frames between the front and a worker: a head, a table of tensors, then their bytes. Pure.

    head     kind, tensors, slot, rows, job, nanoseconds, bytes of the table       32 bytes
    table    datatype, rank, bytes and dimensions of each tensor
    bytes    of each tensor, from the next multiple of 64 on

The bytes of the tensors stand in the frame itself, or in a slot of shared memory that the head names. Tensors have
no names here: they come in the order of the signature. Knows no socket and no process.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import DATATYPES
from foretell.engine.worker.texts import TextsBroken, list_texts

__all__ = [
    "ALIGN", "ANSWER", "BOOL", "BYTES", "DTYPES", "FAILURE", "HEAD", "HELLO", "INLINE_BYTES", "IN_SLOT", "JOB",
    "MOST_RANK", "MOST_TENSORS", "NO_SLOT", "PACKET_BYTES", "UNFINISHED",
    "FrameBroken", "Head", "Packed", "Part", "Place", "offsets", "pack", "parts_in_slot", "parts_inline",
]  # fmt: skip

Part = bytes | memoryview
"""Bytes to send, copied by nobody before the kernel does."""
Place = bytearray | bytes | memoryview | mmap.mmap
"""Bytes to read tensors from."""

JOB, ANSWER, FAILURE, HELLO = 1, 2, 3, 4
IN_SLOT, UNFINISHED = 0x40, 0x80
"""Bits of the kind: the tensors stand in the slot; another frame of the same text follows."""
NO_SLOT = 0xFFFF
INLINE_BYTES = 1 << 16
"""Tensors of more bytes in all go through shared memory, where there is some."""
PACKET_BYTES = INLINE_BYTES + (1 << 15)
"""No frame of a packet socket is longer: the tensors, and a table of any size that is allowed."""
ALIGN = 64
MOST_TENSORS, MOST_RANK = 64, 16

HEAD = struct.Struct("<BBHIQQII")
_ENTRIES = [struct.Struct(f"<BBxxxxxxQ{rank}Q") for rank in range(MOST_RANK + 1)]
DTYPES = [dtype.newbyteorder("=") for dtype in DATATYPES.values()]
_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}
BOOL, BYTES = _CODES[np.dtype(np.bool_)], _CODES[np.dtype(np.object_)]
_PADDING = bytes(ALIGN)
_LONG_BYTES = 1 << 14
"""Texts that are longer on average are not joined."""


class FrameBroken(Exception):
    """What came is not a frame, or what should go does not fit into one."""


class Head(NamedTuple):
    """The fixed part of a frame."""

    kind: int
    tensors: int
    slot: int
    """The slot of shared memory that belongs to this job, or NO_SLOT."""
    rows: int
    job: int
    ns: int
    """Nanoseconds the model ran, in an answer."""
    table_bytes: int
    reserved: int


class Packed(NamedTuple):
    """Tensors, ready to be placed."""

    table: bytes
    parts: list[Part | list[Part]]
    """The bytes of each tensor. Those of large texts are not joined, but follow one another."""
    sizes: list[int]
    """Bytes of each tensor."""
    total_bytes: int
    """Bytes of all of them, gaps included."""


def pack(arrays: Sequence[NDArray[Any]]) -> Packed:
    """Describe tensors; their bytes are not copied, unless they are not contiguous or are a few BYTES.

    Raises:
        FrameBroken: Too many tensors, too high a rank, or a dtype the protocol has no name for.
    """
    if len(arrays) > MOST_TENSORS:
        raise FrameBroken(f"{len(arrays)} tensors, at most {MOST_TENSORS} expected")
    table, at = b"", 0
    parts: list[Part | list[Part]] = []
    sizes: list[int] = []
    part: Part | list[Part]
    for array in arrays:
        code = _CODES.get(array.dtype)
        if code is None or code == BYTES:
            code, part, size = _pack_other(array)
        else:
            part, size = _bytes_of(array), array.nbytes
        shape = array.shape
        if len(shape) > MOST_RANK:
            raise FrameBroken(f"a tensor of rank {len(shape)}, at most {MOST_RANK} expected")
        table += _ENTRIES[len(shape)].pack(code, len(shape), size, *shape)
        parts.append(part)
        sizes.append(size)
        at += -at % ALIGN + size
    return Packed(table, parts, sizes, at)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.data if array.flags.c_contiguous else array.copy(order="C").data


def _pack_other(array: NDArray[Any]) -> tuple[int, Part | list[Part], int]:
    if array.dtype.kind in "OUS":
        try:
            texts = list_texts(array)
        except TextsBroken as error:
            raise FrameBroken(str(error)) from error
        size = sum(map(len, texts))
        return BYTES, texts if size > len(texts) * _LONG_BYTES else b"".join(texts), size
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise FrameBroken(f"dtype {array.dtype}: the protocol has no name for it")
    return code, _bytes_of(array.astype(array.dtype.newbyteorder("="))), array.nbytes


def parts_inline(kind: int, job: int, rows: int, packed: Packed, slot: int = NO_SLOT, ns: int = 0) -> list[Part]:
    """Return a frame that holds its tensors, in parts to be sent one after another."""
    head = HEAD.pack(kind, len(packed.parts), slot, rows, job, ns, len(packed.table), 0) + packed.table
    frame: list[Part] = [head + _PADDING[: -len(head) % ALIGN]]
    if len(packed.parts) == 1 and not isinstance(packed.parts[0], list):
        return [frame[0], packed.parts[0]]
    at = 0
    for part, size in zip(packed.parts, packed.sizes, strict=True):
        gap = -at % ALIGN
        if gap:
            frame.append(_PADDING[:gap])
        if isinstance(part, list):
            frame += part
        else:
            frame.append(part)
        at += gap + size
    return frame


def parts_in_slot(kind: int, job: int, rows: int, packed: Packed, slot: int, ns: int = 0) -> list[Part]:
    """Return a frame whose tensors stand in a slot of shared memory."""
    return [HEAD.pack(kind | IN_SLOT, len(packed.parts), slot, rows, job, ns, len(packed.table), 0) + packed.table]


def offsets(packed: Packed) -> Iterator[tuple[int, Part, int]]:
    """Yield offset, part and bytes of everything within the place that holds it."""
    at = 0
    for part, size in zip(packed.parts, packed.sizes, strict=True):
        at += -at % ALIGN
        if isinstance(part, list):
            place = at
            for piece in part:
                yield place, piece, len(piece)
                place += len(piece)
        else:
            yield at, part, size
        at += size
