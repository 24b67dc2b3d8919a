"""BYTES tensors as bytes: a length before each element, as in the Open Inference Protocol. Pure.

Three bits of the length are ours: whether the element was `bytes`, `Base64` or `str`, or missing (None).
What was a view of bytes arrives as `bytes`.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.request import Base64, Parts

__all__ = ["MOST_ELEMENT_BYTES", "TextsBroken", "join_texts", "list_texts", "split_texts"]

_LENGTH = struct.Struct("<I")
_RAW = 1 << 31
_MISSING = 1 << 30
_BASE64 = 1 << 29
MOST_ELEMENT_BYTES = _BASE64 - 1
"""Bytes of the longest element: 512 MiB less one."""


class TextsBroken(Exception):
    """The bytes are not elements with their lengths, or an element cannot be written so."""


def list_texts(array: NDArray[Any]) -> list[bytes | memoryview]:
    """Return what is in an array of `str`, bytes, `Base64`, `Parts` or None, in C order, each after its length.

    Bytes are not copied.

    Raises:
        TextsBroken: An element is something else, or too long.
    """
    parts: list[bytes | memoryview] = []
    content: bytes | memoryview
    for value in array.ravel().tolist():
        if isinstance(value, str):
            # A lone surrogate is a legal str, so it has to get through.
            content, flag = value.encode("utf-8", "surrogatepass"), 0
        elif isinstance(value, bytes):
            content, flag = value, _RAW
        elif isinstance(value, (bytearray, memoryview)):
            content, flag = memoryview(value), _RAW
        elif isinstance(value, Base64):
            content, flag = value.content, _BASE64
        elif isinstance(value, Parts):
            parts += (_LENGTH.pack(_checked(len(value)) | _RAW), *value.parts)
            continue
        elif value is None:
            content, flag = b"", _MISSING
        else:
            raise TextsBroken(f"an element of type {type(value).__name__}, expected str or bytes")
        parts += (_LENGTH.pack(_checked(len(content)) | flag), content)
    return parts


def _checked(length: int) -> int:
    if length > MOST_ELEMENT_BYTES:
        raise TextsBroken(f"an element of {length} bytes, at most {MOST_ELEMENT_BYTES} expected")
    return length


def join_texts(array: NDArray[Any]) -> bytes:
    """Return what `list_texts` does in one piece."""
    return b"".join(list_texts(array))


def split_texts(content: bytes | memoryview, count: int) -> NDArray[np.object_]:
    """Return the `count` elements that `join_texts` wrote, shape (count,); nothing is read twice.

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
            values.append(_element(bytes(content[start:at]), word))
    except (struct.error, UnicodeDecodeError) as error:
        raise TextsBroken(f"elements: {error}") from error
    if at != len(content):
        raise TextsBroken(f"{len(content) - at} bytes after the last element")
    array = np.empty(count, np.object_)
    array[:] = values
    return array


def _element(content: bytes, word: int) -> str | bytes | Base64 | None:
    if word & _MISSING:
        if word != _MISSING:
            raise TextsBroken("a missing element with bytes")
        return None
    if word & _BASE64:
        return Base64(content)
    return content if word & _RAW else content.decode("utf-8", "surrogatepass")
