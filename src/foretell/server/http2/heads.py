"""Header blocks: those of requests to heads, by the rules of RFC 9113 section 8, and constant ones to bytes.

A block means something only with the decoder's table of its connection. One that left the table as it was means the
same again as long as the table stays as it is: it is remembered by its bytes, and forgotten with the next change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import hpack
from hpack.table import HeaderTable

from foretell.server.http2.frames import Broken, Code

__all__ = ["Head", "Heads", "literal"]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_NEEDED = frozenset((b":method", b":scheme", b":path"))
_KNOWN = 64
_KNOWN_BYTES = 2048


class Head:
    """What a request begins with.

    Attributes:
        method: Of HTTP.
        path: With its query.
        fields: The other fields by name, in lower case; the values of one that came often are joined by a comma.
        length: Bytes of the body, where it was said.
        taker: Takes the request: found once for each head.
    """

    __slots__ = ("fields", "length", "method", "path", "taker")

    def __init__(self, method: bytes, path: bytes, fields: dict[bytes, bytes], length: int | None) -> None:
        self.method = method
        self.path = path
        self.fields = fields
        self.length = length
        self.taker: Any = None


class Heads:
    """The header blocks of one connection.

    Attributes:
        known: Heads by the bytes of their blocks.
    """

    def __init__(self, most_bytes: int, most_fields: int, taker_of: Callable[[Head], Any]) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=most_bytes)
        self._decoder.header_table = self._table = _Table()
        self._most_fields = most_fields
        self._taker_of = taker_of
        self.known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head | None:
        """Return the head of a request; None: it is malformed.

        Raises:
            Broken: The block cannot be decoded, or is too large.
        """
        changes = self._table.changes
        fields = self._decode(block)
        head = _head_of(fields, self._most_fields)
        if head is None:
            return None
        head.taker = self._taker_of(head)
        if changes == self._table.changes and len(block) <= _KNOWN_BYTES:
            if len(self.known) >= _KNOWN:
                self.known.clear()
            self.known[block] = head
        return head

    def read_trailers(self, block: bytes) -> bool:
        """Read a block that ends a request, whose fields mean nothing here. False: it is malformed.

        Raises:
            Broken: As `read`.
        """
        return all(_is_field(name, value) for name, value in self._decode(block))

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        table = self._table
        changes, table.updates = table.changes, 0
        try:
            found: Any = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError:
            raise Broken(Code.ENHANCE_YOUR_CALM, "headers: too large") from None
        except (hpack.HPACKError, IndexError, ValueError):
            raise Broken(Code.COMPRESSION_ERROR, "headers: they cannot be decoded") from None
        if changes != table.changes:
            self.known.clear()
        return found  # type: ignore[no-any-return]


class _Table(HeaderTable):
    """A decoder's table that counts how often it was changed."""

    changes = 0
    updates = 0
    """Of its size, in one block: two make sense."""

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        self.updates += 1
        if self.updates > 2:
            raise hpack.InvalidTableSizeError("more than two updates of the table's size")
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


def _head_of(given: list[tuple[bytes, bytes]], most_fields: int) -> Head | None:
    pseudo: dict[bytes, bytes] = {}
    fields: dict[bytes, bytes] = {}
    if len(given) > most_fields:
        return None
    for name, value in given:
        if name.startswith(b":"):
            if fields or name in pseudo or name not in _PSEUDO or _BAD_VALUE.search(value):
                return None
            pseudo[name] = value
        elif not _is_field(name, value) or (name == b"te" and value != b"trailers"):
            return None
        else:
            fields[name] = fields[name] + b"," + value if name in fields else value
    if not pseudo.keys() >= _NEEDED or not pseudo[b":path"]:
        return None
    length = fields.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 19):
        return None
    return Head(pseudo[b":method"], pseudo[b":path"], fields, None if length is None else int(length))


def _is_field(name: bytes, value: bytes) -> bool:
    return bool(_NAME.fullmatch(name)) and name not in _CONNECTION and not _BAD_VALUE.search(value)


def literal(name: bytes, value: bytes) -> bytes:
    """Return a field for a block that needs no state: never entered in a table, not compressed."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    size -= 127
    encoded = bytearray(b"\x7f")
    while size >= 128:
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded) + text
