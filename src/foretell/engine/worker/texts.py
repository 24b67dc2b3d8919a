"""BYTES tensors as bytes: a length before each element, as in the Open Inference Protocol. Pure.

Two bits of the length are ours: whether the element was `bytes` or `str`, and whether it was missing (None).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ELEMENT_BYTES", "TextsBroken", "join_texts", "split_texts"]

_LENGTH = struct.Struct("<I")
_RAW = 1 << 31
_MISSING = 1 << 30
MOST_ELEMENT_BYTES = _MISSING - 1
"""Bytes of the longest element: 1 GiB less one."""


class TextsBroken(Exception):
    """The bytes are not elements with their lengths, or an element cannot be written so."""


def join_texts(array: NDArray[Any]) -> bytes:
    """Return the elements of an array of `str`, `bytes` or None, in C order, each with its length.

    Raises:
        TextsBroken: An element is something else, or too long.
    """
    parts: list[bytes] = []
    for value in array.ravel().tolist():
        if isinstance(value, str):
            # A lone surrogate is a legal str, so it has to get through.
            content, flag = value.encode("utf-8", "surrogatepass"), 0
        elif isinstance(value, bytes):
            content, flag = value, _RAW
        elif value is None:
            content, flag = b"", _MISSING
        else:
            raise TextsBroken(f"an element of type {type(value).__name__}, expected str or bytes")
        if len(content) > MOST_ELEMENT_BYTES:
            raise TextsBroken(f"an element of {len(content)} bytes, at most {MOST_ELEMENT_BYTES} expected")
        parts += (_LENGTH.pack(len(content) | flag), content)
    return b"".join(parts)


def split_texts(content: bytes, count: int) -> NDArray[np.object_]:
    """Return the `count` elements that `join_texts` wrote, shape (count,).

    Raises:
        TextsBroken: There are more or fewer elements, or one is not UTF-8.
    """
    if count * _LENGTH.size > len(content):
        raise TextsBroken(f"{count} elements in {len(content)} bytes")
    values: list[Any] = []
    at = 0
    try:
        for _ in range(count):
            (word,) = _LENGTH.unpack_from(content, at)
            start, at = at + _LENGTH.size, at + _LENGTH.size + (word & MOST_ELEMENT_BYTES)
            if at > len(content):
                raise TextsBroken(f"an element ends at byte {at} of {len(content)}")
            values.append(_element(content[start:at], word))
    except (struct.error, UnicodeDecodeError) as error:
        raise TextsBroken(f"elements: {error}") from error
    if at != len(content):
        raise TextsBroken(f"{len(content) - at} bytes after the last element")
    array = np.empty(count, np.object_)
    array[:] = values
    return array


def _element(content: bytes, word: int) -> str | bytes | None:
    if word & _MISSING:
        if word != _MISSING:
            raise TextsBroken("a missing element with bytes")
        return None
    return content if word & _RAW else content.decode("utf-8", "surrogatepass")
