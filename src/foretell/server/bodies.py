"""A body as it comes, chunk after chunk, without ever holding the event loop up for it.

Fresh memory costs more than the copy into it, so a large body is not gathered into one piece on the loop: it stays in
parts, which whoever needs it whole has joined in a thread.
"""

from __future__ import annotations

__all__ = ["JOINED_BYTES", "Body"]

_PART_BYTES = 1 << 16
JOINED_BYTES = 1 << 20
"""Larger bodies are joined in a thread."""


class Body:
    """A body that is being received.

    Attributes:
        size: Bytes of it so far.
    """

    __slots__ = ("_parts", "_tail", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._tail = bytearray()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Take a chunk. Small ones are gathered: each would cost many times its size."""
        self.size += len(chunk)
        tail = self._tail
        if not tail and len(chunk) >= _PART_BYTES:
            self._parts.append(chunk)
            return
        tail += chunk
        if len(tail) >= _PART_BYTES:
            self._parts.append(bytes(tail))
            tail.clear()

    def parts(self) -> list[bytes]:
        """Return it in parts, in order; a body of less than 64 KiB is one."""
        return [*self._parts, bytes(self._tail)] if self._tail or not self._parts else self._parts
