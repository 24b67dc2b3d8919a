"""Heads of requests that were parsed and let pass before: parsing is most of what a small request costs.

A client sends the same head again and again, byte for byte or but for its length, its id and its place in a trace.
Where the rest is the same, so is all that was decided by it. Knows no socket, and reads no head itself.
"""

from __future__ import annotations

import re

from foretell.server.call import Head

__all__ = ["Heads", "Key", "is_plain_id"]

Key = tuple[bytes, ...]
"""What is the same in alike heads: the text between what is a request's own, and the names of that."""

_MOST = 1024
_MOST_BODY_BYTES = 1 << 16
"""A larger body is counted while it comes."""
_LENGTH, _ID = b"content-length", b"x-request-id"


class Heads:
    """The heads of one server.

    Attributes:
        same: By their bytes.
    """

    def __init__(self, wanted: frozenset[bytes]) -> None:
        """Start with none.

        Args:
            wanted: Names of the headers that mean something here, in lower case.
        """
        own = [_LENGTH, _ID, *(name for name in (b"traceparent", b"tracestate") if name not in wanted)]
        self._own = re.compile(rb"\r\n(" + b"|".join(own) + rb"):[ \t]*([!-~]*)[ \t]*(?=\r\n)", re.IGNORECASE)
        self._alike: dict[Key, Head] = {}
        self.same: dict[bytes, Head] = {}

    def key(self, head: bytes) -> Key | None:
        """Return the key of a head, or None where it does not say its length, or says it twice."""
        parts = self._own.split(head)
        lengths = [name for name in parts[1::3] if name.lower() == _LENGTH]
        return (*parts[0::3], *parts[1::3]) if len(lengths) == 1 else None

    def add(self, key: Key, head: Head) -> None:
        """Remember a head."""
        if len(self._alike) >= _MOST:
            self._alike.clear()
        self._alike[key] = head

    def find(self, text: bytes, body_bytes: int) -> tuple[Head, bytes] | None:
        """Return what a head that is not among the `same` is like, and the id it brings, if any.

        Args:
            text: The head, with the empty line at its end.
            body_bytes: What came after it.
        """
        if not self._alike or body_bytes > _MOST_BODY_BYTES:
            return None
        parts = self._own.split(text)
        head = self._alike.get((*parts[0::3], *parts[1::3]))
        if head is None:
            return None
        request_id = b""
        for name, value in zip(parts[1::3], parts[2::3], strict=True):
            kind = name.lower()
            if kind == _LENGTH and not (value.isdigit() and len(value) < 10 and int(value) == body_bytes):
                return None
            if kind == _ID:
                if not is_plain_id(value):
                    return None
                request_id = value
        if len(parts) == 4:  # nothing but its length is its own
            if len(self.same) >= _MOST:
                self.same.clear()
            self.same[text] = head._replace(body_bytes=body_bytes)
        return head, request_id


def is_plain_id(value: bytes) -> bool:
    """Whether an id of a request can be told to anybody: in a header, in JSON, in a log."""
    return 0 < len(value) <= 128 and not any(c < 0x21 or c > 0x7E or c in b'"\\' for c in value)
