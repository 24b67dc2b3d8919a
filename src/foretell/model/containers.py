"""The outer structure of files: keys of JSON and UBJSON, fields of protobuf, members of zip, compressed streams.

Each reader walks the whole structure with every length checked against what is there, and constructs
nothing of it. Knows no model format and opens no file.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

__all__ = ["COMPRESSIONS", "Damaged", "Inflated", "json_keys", "protobuf_fields", "ubj_keys", "zip_members"]

_DEPTH = 64
_UBJ_WIDTHS = {
    b"i": 1,
    b"U": 1,
    b"C": 1,
    b"I": 2,
    b"l": 4,
    b"L": 8,
    b"d": 4,
    b"D": 8,
    b"Z": 0,
    b"N": 0,
    b"T": 0,
    b"F": 0,
}
_UBJ_INTEGERS = {b"i": (1, True), b"U": (1, False), b"I": (2, True), b"l": (4, True), b"L": (8, True)}
_JSON_TOKENS = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?|[{}\[\]"]', re.DOTALL)

COMPRESSIONS = {
    "zlib": (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),
    "gzip": (b"\x1f\x8b",),
    "bzip2": (b"BZh",),
    "xz": (b"\xfd7zXZ",),
    "lzma": (b"\x5d\x00",),
    "lz4": (b"\x04\x22\x4d\x18",),
}
"""How a compressed stream begins, by its name."""


class Damaged(Exception):
    """The structure ends too early or breaks its own rules; says where."""


def json_keys(content: bytes) -> list[str]:
    """Return the keys of the outermost JSON object, in order, and check that its brackets and strings close.

    Raises:
        Damaged: It is not one whole object, or is nested deeper than 64.
    """
    keys: list[str] = []
    closing: list[bytes] = []
    end = 0
    for token in _JSON_TOKENS.finditer(content):
        mark = token.group()[:1]
        if end:
            raise Damaged(f"goes on after its end at byte {end}")
        if mark in b"{[":
            closing.append(b"}" if mark == b"{" else b"]")
            if len(closing) > _DEPTH:
                raise Damaged(f"nested deeper than {_DEPTH} at byte {token.start()}")
        elif mark in b"}]":
            if not closing or closing.pop() != mark:
                raise Damaged(f"unexpected {mark.decode()} at byte {token.start()}")
            end = 0 if closing else token.end()
        elif token.group(1) is None:
            raise Damaged(f"a string that begins at byte {token.start()} does not end")
        elif len(closing) == 1 and token.group(2):
            keys.append(token.group(1)[:80].decode("utf-8", "replace"))
    if not end or content[end:].strip():
        raise Damaged(
            f"cut off: its brackets are still open at byte {len(content)}" if not end else "text after its end"
        )
    return keys


def ubj_keys(content: bytes) -> list[str]:
    """Return the keys of the outermost UBJSON object, in order, walking all of it.

    Raises:
        Damaged: It is not one whole object, a length goes beyond the end, or it is nested deeper than 64.
    """
    reader = _Ubj(content)
    keys = reader.walk()
    if reader.at != len(content):
        raise Damaged(f"goes on after its end at byte {reader.at}")
    return keys


class _Ubj:
    """Walks UBJSON, iteratively; numeric arrays with a declared type are stepped over at once."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def skip(self, count: int) -> None:
        if count < 0 or count > len(self.content) - self.at:
            raise Damaged(f"cut off: {count} bytes expected at byte {self.at} of {len(self.content)}")
        self.at += count

    def take(self, count: int) -> bytes:
        self.skip(count)
        return self.content[self.at - count : self.at]

    def integer(self) -> int:
        mark = self.take(1)
        if mark not in _UBJ_INTEGERS:
            raise Damaged(f"a length expected at byte {self.at - 1}")
        width, signed = _UBJ_INTEGERS[mark]
        return int.from_bytes(self.take(width), "big", signed=signed)

    def walk(self) -> list[str]:
        if self.take(1) != b"{":
            raise Damaged("does not begin with an object")
        keys: list[str] = []
        # Entries: is it an object, and how many values are left in it (None: up to its closing mark).
        open_: list[list[Any]] = [[True, None]]
        while open_:
            is_object, left = open_[-1]
            if left == 0 or (left is None and self._closes(is_object)):
                open_.pop()
                continue
            open_[-1][1] = None if left is None else left - 1
            if is_object:
                key = self.take(self.integer())
                if len(open_) == 1:
                    keys.append(key[:80].decode("utf-8", "replace"))
            opened = self._value(self.take(1))
            if opened is not None:
                open_.append(opened)
            if len(open_) > _DEPTH:
                raise Damaged(f"nested deeper than {_DEPTH} at byte {self.at}")
        return keys

    def _closes(self, is_object: bool) -> bool:
        closes = self.content[self.at : self.at + 1] == (b"}" if is_object else b"]")
        self.at += closes
        return closes

    def _value(self, mark: bytes) -> list[Any] | None:
        """Step over a plain value, or return the entry of an array or object that opens here."""
        if mark in (b"S", b"H"):
            self.skip(self.integer())
        elif mark == b"{":
            return [True, None]
        elif mark == b"[":
            return self._array()
        elif mark in _UBJ_WIDTHS:
            self.skip(_UBJ_WIDTHS[mark])
        else:
            raise Damaged(f"unknown mark {mark!r} at byte {self.at - 1}")
        return None

    def _array(self) -> list[Any] | None:
        ahead = self.content[self.at : self.at + 1]
        if ahead == b"$":
            self.at += 1
            width = _UBJ_WIDTHS.get(self.take(1))
            if width is None or self.take(1) != b"#":
                raise Damaged(f"a typed array without a plain type or a count at byte {self.at}")
            self.skip(width * self.integer())
            return None
        if ahead == b"#":
            self.at += 1
            return [False, max(self.integer(), 0)]
        return [False, None]


def protobuf_fields(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, wire type, start, end) of each outermost field of a protobuf message.

    Raises:
        Damaged: A length goes beyond the end, or a tag is none.
    """
    at, size = 0, len(content)
    while at < size:
        tag, at = _varint(content, at)
        number, wire, start = tag >> 3, tag & 7, at
        if number == 0 or wire not in (0, 1, 2, 5):
            raise Damaged(f"no protobuf field begins at byte {start}")
        if wire == 0:
            _, at = _varint(content, at)
        elif wire == 2:
            length, start = _varint(content, at)
            at = start + length
        else:
            at += 8 if wire == 1 else 4
        if at > size:
            raise Damaged(f"cut off: field {number} needs {at} bytes, the file has {size}")
        yield number, wire, start, at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise Damaged(f"cut off at byte {at}")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Damaged(f"a number longer than 10 bytes at byte {at}")


def zip_members(content: bytes) -> list[str]:
    """Return the names in a zip file's directory.

    Raises:
        Damaged: There is no directory (cut off), or a name occurs twice.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError, EOFError) as error:
        raise Damaged(f"cut off or damaged: {error}") from error
    if len(set(names)) != len(names):
        raise Damaged("a name occurs twice in its directory")
    return names


class Inflated:
    """The content of a compressed stream, read forward piece by piece: a bomb costs time, never memory."""

    def __init__(self, content: bytes, compression: str, *, memory_bytes: int = 256 << 20) -> None:
        self._content = memoryview(content)
        self._at = 0
        # zlib hands back the input it had no room for; the others keep it.
        self._is_zlib = compression in ("zlib", "gzip")
        self._stream: Any
        if self._is_zlib:
            self._stream = zlib.decompressobj(15 if compression == "zlib" else 31)
        elif compression == "bzip2":
            self._stream = bz2.BZ2Decompressor()
        elif compression in ("xz", "lzma"):
            form = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
            self._stream = lzma.LZMADecompressor(form, memlimit=memory_bytes)
        else:
            raise Damaged(f"{compression} cannot be unpacked here")

    def piece(self, size: int = 1 << 20) -> bytes:
        """Return the next bytes, at most `size`; empty at the end of the stream or of its input.

        Raises:
            Damaged: The stream is broken, or its dictionary needs more memory than allowed.
        """
        try:
            while not self._stream.eof:
                fed = self._feed()
                found: bytes = self._stream.decompress(fed, size)
                if found or not fed:
                    return found
        except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError, MemoryError) as error:
            raise Damaged(f"cannot be unpacked: {error}") from error
        return b""

    def _feed(self) -> bytes:
        if self._is_zlib and self._stream.unconsumed_tail:
            tail: bytes = self._stream.unconsumed_tail
            return tail
        if not self._is_zlib and not self._stream.needs_input:
            return b""
        fed = bytes(self._content[self._at : self._at + (1 << 16)])
        self._at += len(fed)
        return fed
