"""How a delimited text file is written: byte order mark, newline, delimiter, header.

Judged from the first rows and from the names the model knows. Decimal commas and the like are not guessed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foretell.bulk.cut import MAX_ROW_BYTES, row_starts
from foretell.errors import InvalidInput
from foretell.model.data.cells import MISSING_TEXTS, parse_number
from foretell.signature import Signature

__all__ = ["Dialect", "cells_of", "sniff"]

_HEAD_BYTES = 1 << 16
_DELIMITERS = (b",", b";", b"\t", b"|")
_MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\xfd7zXZ": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x89HDF": "an HDF5 file",
    b"FEA1": "a Feather file of version 1",
    b"ORC": "an ORC file",
}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Dialect:
    """How a file is written."""

    delimiter: bytes
    newline: bytes
    names: tuple[str, ...]
    """Names of the columns, in the order of the file."""
    start: int
    """Offset of the first row, in bytes of the plain text."""
    first_line: int
    """Number of the line of the first row, from 1."""
    notes: tuple[str, ...] = ()


def sniff(read: Callable[[int], bytes], signature: Signature, name: str) -> tuple[Dialect, bytes]:
    """Read the head of a file; return how it is written, and the bytes read that are rows.

    Raises:
        InvalidInput: Empty, not UTF-8, or no text.
    """
    head = _fill(read, b"", _HEAD_BYTES)
    for mark, what in _MARKS.items():
        if head.startswith(mark):
            raise InvalidInput(f"{name}: this is {what}, expected text in UTF-8, plain or gzip; convert it")
    skipped = len(_BOM) if head.startswith(_BOM) else 0
    newline = b"\n" if b"\n" in head or b"\r" not in head else b"\r"
    head = head[skipped:]
    while len(starts := row_starts(head, newline, b",")) < 2 and len(head) <= MAX_ROW_BYTES:
        more = _fill(read, head, 2 * len(head) + _HEAD_BYTES)
        if len(more) == len(head):
            break
        head = more
    if not starts:
        raise InvalidInput(f"{name}: the file is empty, expected a header line and rows")
    if b"\0" in head[: starts[1] if len(starts) > 1 else len(head)]:
        raise InvalidInput(f"{name} line 1: a NUL byte, expected text in UTF-8; is this a text file?")
    return _judge(head, newline, skipped, signature, name)


def _fill(read: Callable[[int], bytes], head: bytes, size: int) -> bytes:
    """Read until there are `size` bytes, or no more: a pipe gives few at a time."""
    parts = [head]
    have = len(head)
    while have < size and (part := read(size - have)):
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def _judge(head: bytes, newline: bytes, skipped: int, signature: Signature, name: str) -> tuple[Dialect, bytes]:
    known = {f.name for f in signature.fields}
    best: tuple[tuple[int, bool, int], bytes, list[str], int] | None = None
    for delimiter in _DELIMITERS:
        starts = row_starts(head, newline, delimiter)
        rows = [cells_of(head[a:b], delimiter) for a, b in zip(starts, [*starts[1:], len(head)], strict=True)][:10]
        if len(starts) > 1 and len(rows) == len(starts):
            rows = rows[:-1]  # the last one may be cut off
        names = rows[0]
        even = len(names) > 1 and all(len(r) == len(names) for r in rows)
        score = (len(known.intersection(names)), even, len(names))
        if best is None or score > best[0]:
            best = (score, delimiter, names, starts[1] if len(starts) > 1 else len(head))
    assert best is not None, "there is at least one delimiter. This is a bug."
    _, delimiter, names, end = best
    lines = head[:end].count(newline)
    if not signature.named and len(names) == len(signature.fields) and _are_numbers(names):
        note = f"{name}: no header, its columns go by position"
        return Dialect(delimiter, newline, tuple(f.name for f in signature.fields), skipped, 1, (note,)), head
    _check_text(head[:end], name)
    return Dialect(delimiter, newline, tuple(names), skipped + end, lines + 1), head[end:]


def cells_of(row: bytes, delimiter: bytes) -> list[str]:
    """Return the cells of one row. Slow: for headers and messages."""
    limit = csv.field_size_limit(2 * MAX_ROW_BYTES)
    try:
        text = row.decode("utf-8", "replace").rstrip("\r\n")
        return next(csv.reader([text], delimiter=delimiter.decode()), [])
    except csv.Error:
        return []
    finally:
        csv.field_size_limit(limit)


def _check_text(header: bytes, name: str) -> None:
    try:
        header.decode()
    except UnicodeDecodeError as e:
        raise InvalidInput(
            f"{name} line {header[: e.start].count(10) + 1}: byte 0x{header[e.start]:02x} in the header is not UTF-8; "
            "save the file as UTF-8"
        ) from e


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(c in MISSING_TEXTS or parse_number(c) is not None for c in cells)
