"""Answers as protobuf bytes by hand: the raw outputs of a batch, written once and cut for each of its requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

__all__ = ["Cuts", "varint"]

_RAW_OUTPUT = b"\x32"
"""Tag of a tensor in a ModelInferResponse."""

Describe = Callable[[tuple[int, ...], tuple[tuple[int, ...], ...]], bytes]


class Cuts:
    """The outputs of one batch as bytes, written once and cut for each of its requests."""

    __slots__ = ("_describe", "_frames", "_head", "_raws", "_shapes")

    def __init__(self, head: bytes, describe: Describe, outputs: list[NDArray[Any]]) -> None:
        """Write the outputs.

        Args:
            head: What every response begins with.
            describe: Returns the fields of a response that tell of tensors, by their indices and shapes.
            outputs: Each of shape (rows, *rest), little-endian or of single bytes.
        """
        self._head = head
        self._describe = describe
        self._shapes = [output.shape for output in outputs]
        self._raws = [output.tobytes() for output in outputs]
        self._frames: dict[Any, tuple[bytes, list[tuple[int, bytes, int]]]] = {}

    def message(self, rows: tuple[int, int] | None, outputs: tuple[int, ...], id: bytes) -> bytes:
        """Return the ModelInferResponse of one request.

        Args:
            rows: Its first in the batch, and how many; None: all there is, whatever axis 0 means.
            outputs: Indices of those it asked for.
            id: Of the request.
        """
        first, count = rows or (0, -1)
        frame = self._frames.get((count, outputs))
        if frame is None:
            frame = self._frames[count, outputs] = self._frame(count, outputs)
        described, tensors = frame
        parts = [self._head, b"\x1a", varint(len(id)), id] if id else [self._head]
        parts.append(described)
        for at, tag, size in tensors:
            start = first * size
            parts += (tag, self._raws[at][start : start + count * size] if count >= 0 else self._raws[at])
        return b"".join(parts)

    def _frame(self, count: int, outputs: tuple[int, ...]) -> tuple[bytes, list[tuple[int, bytes, int]]]:
        """Return what all answers of so many rows share: the tensors told of, and for each its tag and bytes a row."""
        shapes, tensors = [], []
        for at in outputs:
            shape, raw = self._shapes[at], self._raws[at]
            size = len(raw) // shape[0] if count >= 0 else 0
            shapes.append(shape if count < 0 else (count, *shape[1:]))
            tensors.append((at, _RAW_OUTPUT + varint(len(raw) if count < 0 else count * size), size))
        return self._describe(outputs, tuple(shapes)), tensors


def varint(number: int) -> bytes:
    """Return an unsigned number as protobuf writes it."""
    if number < 128:
        return bytes((number,))
    encoded = bytearray()
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
