"""Reads CSV and its relatives from a stream: blocks of text, and the line at which a row stands.

Knows dialects and lines; `text` parses the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from foretell.bulk.blocks import START, Block, Fault, Mark, Opens, Origin, Rows
from foretell.bulk.columns import Keep, choose, text_types
from foretell.bulk.cut import BLOCK_BYTES, MAX_ROW_BYTES, NoRowEnd, cut, go_to, row_starts
from foretell.bulk.dialect import Dialect, sniff
from foretell.bulk.text import TextParser
from foretell.bulk.text_faults import text_without
from foretell.errors import InvalidInput
from foretell.signature import Signature

__all__ = ["DelimitedSource"]


_WIDE_BLOCK_BYTES = 1 << 23
_WIDE_ROWS = 100
"""A block of thousands of columns has a cost of its own: it gets about so many rows, if each is like the header."""


class DelimitedSource:
    """One file of delimited text."""

    def __init__(
        self,
        name: str,
        open_stream: Opens,
        size_bytes: int,
        signature: Signature,
        keep: Keep,
        *,
        can_reopen: bool = True,
        block_bytes: int = BLOCK_BYTES,
        max_row_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self._open = open_stream
        self._signature = signature
        self._keep = keep
        self._can_reopen = can_reopen
        self._block_bytes = block_bytes
        self._max_row_bytes = max_row_bytes

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Yield blocks of about one MiB of text.

        Raises:
            InvalidInput: The header does not fit the model, a row is too long, a quote never closes.
        """
        with self._open() as stream:
            dialect, rest = sniff(stream.read, self._signature, self.name)
            chosen = choose(dialect.names, self._signature, self._keep, self.name)
            parser = TextParser(dialect, chosen, text_types(self._signature))
            offset, line = dialect.start, dialect.first_line
            if start.at > offset:
                rest = go_to(stream, start.at, offset, rest)
                offset, line = start
            texts = cut(
                stream.read,
                rest,
                newline=dialect.newline,
                delimiter=dialect.delimiter,
                block_bytes=max(self._block_bytes, min(_WIDE_BLOCK_BYTES, _WIDE_ROWS * dialect.start)),
                max_row_bytes=self._max_row_bytes,
                position=offset + len(rest),
            )
            begun = offset
            try:
                for text in texts:
                    lines = text.count(dialect.newline)
                    yield _TextBlock(self, parser, text, offset, line, lines)
                    offset += len(text)
                    line += lines
            except NoRowEnd as e:
                raise self._without_end(e, dialect, begun, line) from e
            if offset == dialect.start:
                yield _TextBlock(self, parser, b"", offset, line, 0)

    def line_at(self, offset: int, line: int, newline: bytes) -> int:
        """Return the number of the line at an offset: as counted along, or counted now in the file itself."""
        if not self._can_reopen:
            return line
        with self._open() as stream:
            count, left = 1, offset
            while left > 0 and (part := stream.read(min(left, BLOCK_BYTES))):
                count += part.count(newline)
                left -= len(part)
            return count

    def _without_end(self, fault: NoRowEnd, dialect: Dialect, begun: int, line: int) -> InvalidInput:
        number = self.line_at(begun + fault.offset, line, dialect.newline)
        if fault.too_long:
            return InvalidInput(
                f"{self.name} line {number}: a row of more than {self._max_row_bytes:,} bytes, the most that is read; "
                "does a quote never close?"
            )
        return InvalidInput(f"{self.name} line {number}: a quote opens a cell and never closes; close it or remove it")


@dataclass(frozen=True)
class _TextBlock:
    source: DelimitedSource
    parser: TextParser
    text: bytes
    offset: int
    line: int
    about_rows: int

    @property
    def size_bytes(self) -> int:
        return len(self.text)

    @property
    def ends(self) -> Mark:
        return Mark(self.offset + len(self.text), self.line + self.about_rows)

    def parse(self) -> Rows:
        return self.parser.parse(self.text)

    def place(self, row: int | None) -> str:
        dialect = self.parser.dialect
        line = self.source.line_at(self.offset, self.line, dialect.newline)
        if row is not None:
            start = row_starts(self.text, dialect.newline, dialect.delimiter)[row]
            line += self.text.count(dialect.newline, 0, start)
        return f"{self.source.name} line {line}"

    def faults(self) -> list[Fault]:
        return self.parser.faults(self.text)

    def without(self, rows: Sequence[int]) -> Block:
        return replace(self, text=text_without(self.text, self.parser.dialect, rows))

    def origins(self, rows: Sequence[int]) -> list[Origin]:
        dialect, text = self.parser.dialect, self.text
        starts = row_starts(text, dialect.newline, dialect.delimiter)
        bounds = [*starts, len(text)]
        found, line, before = [], self.line, 0
        for row in rows:
            line += text.count(dialect.newline, before, before := starts[row])
            shown = text[bounds[row] : bounds[row + 1]].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
            found.append(Origin(line, None, shown))
        return found
