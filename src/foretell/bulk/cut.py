"""Cuts a stream of delimited text into blocks of whole rows, without parsing it.

Knows quotes, newlines and a limit for one row. A quote opens a cell only where a cell starts, as in
RFC 4180 and in what pandas and pyarrow read; anywhere else it is a character like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_BYTES", "MAX_ROW_BYTES", "NoRowEnd", "cut", "go_to", "is_open", "row_starts"]

BLOCK_BYTES = 1 << 20
"""Text read at once: some thousands of rows, few enough to stay in the processor's cache while they are parsed."""
MAX_ROW_BYTES = 1 << 24
"""Longest row, 16 MiB: a longer one is a quote that never closes, or no table."""

_QUOTE = ord('"')


class NoRowEnd(Exception):
    """A row that does not end: within the limit, or because its quote never closes. Never leaves this package."""

    def __init__(self, offset: int, *, too_long: bool) -> None:
        super().__init__(f"at byte {offset}")
        self.offset = offset
        """Where the row starts, in bytes from the start of `rest`."""
        self.too_long = too_long


class _Quoted(NamedTuple):
    """Where quoted cells open and close; the last may never close."""

    opens: NDArray[np.intp]
    closes: NDArray[np.intp]


def cut(
    read: Callable[[int], bytes],
    rest: bytes,
    *,
    newline: bytes = b"\n",
    delimiter: bytes | None = b",",
    block_bytes: int = BLOCK_BYTES,
    max_row_bytes: int = MAX_ROW_BYTES,
    position: int = 0,
) -> Iterator[bytes]:
    """Yield blocks of whole rows; the last one may lack its newline.

    A block ends with the last row that is whole before a multiple of `block_bytes`, so that blocks are the same
    from whichever row on a stream is read.

    Args:
        read: Returns up to so many bytes of the stream, none at its end.
        rest: Bytes that were read before.
        newline: What ends a row outside quotes.
        delimiter: What parts cells; None where quotes mean nothing.
        block_bytes: Bytes asked of `read` at once.
        max_row_bytes: Longest row.
        position: Where in the stream `read` begins, in bytes.

    Raises:
        NoRowEnd: A row is longer than `max_row_bytes`, or a quoted cell is open at the end.
    """
    done = 0
    while True:
        chunk = read(block_bytes - position % block_bytes)
        position += len(chunk)
        data = rest + chunk if rest else chunk
        end = _last_end(data, newline, delimiter) if chunk else len(data)
        if not chunk and is_open(data, delimiter):
            end = row_starts(data, newline, delimiter)[-1]
        if end:
            yield data[:end] if end < len(data) else data
        if len(data) - end > max_row_bytes:
            raise NoRowEnd(done + end, too_long=True)
        if not chunk and end < len(data):
            raise NoRowEnd(done + end, too_long=False)
        rest = data[end:]
        done += end
        if not chunk:
            return


def row_starts(data: bytes, newline: bytes, delimiter: bytes | None) -> list[int]:
    """Return the offset of each row that is not empty, newlines inside quotes left alone. Slow: for messages."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(newline))
    quoted = _quoted(data, delimiter)
    if quoted is not None and len(quoted.opens):
        last = np.searchsorted(quoted.opens, ends) - 1
        closed = np.append(quoted.closes, len(data))[np.minimum(last, len(quoted.closes))]
        ends = ends[(last < 0) | (closed < ends)]
    starts = [0, *(ends + 1).tolist()]
    stops = [*starts[1:], len(data)]
    return [a for a, b in zip(starts, stops, strict=True) if data[a:b].strip(b"\r\n")]


def is_open(data: bytes, delimiter: bytes | None) -> bool:
    """Whether a quoted cell is still open at the end of these whole rows."""
    quoted = _quoted(data, delimiter)
    return quoted is not None and len(quoted.closes) < len(quoted.opens)


def _last_end(data: bytes, newline: bytes, delimiter: bytes | None) -> int:
    """Return the offset after the last newline outside quotes, 0 if there is none."""
    at = data.rfind(newline)
    quoted = _quoted(data, delimiter)
    if quoted is None:
        return at + 1
    opens, closes = quoted
    while at >= 0:
        cell = int(np.searchsorted(opens, at)) - 1
        if cell < 0 or (cell < len(closes) and closes[cell] < at):
            return at + 1
        at = data.rfind(newline, 0, int(opens[cell]))
    return 0


def _quoted(data: bytes, delimiter: bytes | None) -> _Quoted | None:
    """Return where quoted cells open and close, None if there is no quote; a doubled quote closes and opens again."""
    if delimiter is None or b'"' not in data:
        return None
    cells = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(cells == _QUOTE)
    opens, closes = quotes[0::2], quotes[1::2]
    # Taking quotes in turn is right if every one that opens stands where a cell starts, or doubles the one before.
    before = cells[np.maximum(opens, 1) - 1]
    starts = (opens == 0) | (before == ord(delimiter)) | (before == 10) | (before == 13)
    starts[1:] |= opens[1:] == closes[: len(opens) - 1] + 1
    if starts.all():
        return _Quoted(opens, closes)
    return _walk(data, quotes.tolist(), b"\r\n" + delimiter)


def _walk(data: bytes, quotes: list[int], starts: bytes) -> _Quoted:
    """Find quoted cells one quote after the other, for text with quotes in the middle of cells."""
    opens: list[int] = []
    closes: list[int] = []
    for at in quotes:
        if len(closes) < len(opens):
            closes.append(at)
        elif at == 0 or data[at - 1] in starts or (closes and at == closes[-1] + 1):
            opens.append(at)
    return _Quoted(np.array(opens, np.intp), np.array(closes, np.intp))


def go_to(stream: BinaryIO, at: int, offset: int, rest: bytes) -> bytes:
    """Move a stream on to an offset; return what of `rest`, which was read from `offset` on, lies behind it."""
    have = offset + len(rest)
    if at <= have:
        return rest[at - offset :]
    if stream.seekable():
        stream.seek(at)
        return b""
    while have < at and (part := stream.read(min(at - have, BLOCK_BYTES))):
        have += len(part)
    return b""
