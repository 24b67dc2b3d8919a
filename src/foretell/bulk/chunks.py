"""Cuts the files of a job into chunks: some consecutive rows of one file, the unit of work, of the journal, of redoing.

Where a chunk begins and ends follows from its file and `chunk_rows` alone, never from workers or time. Knows no model
and no output.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from foretell.bulk.blocks import START, Block, Fault, Mark, Origin, Rows, Source
from foretell.errors import InternalError, InvalidInput

__all__ = ["CHUNK_ROWS", "BrokenBlock", "Chunk", "Known", "blocks_as_chunks", "chunks_of", "named"]

CHUNK_ROWS = 131_072
"""About so many rows are in a chunk."""
_CHUNK_BYTES = 1 << 24
"""A chunk of long rows has fewer of them: it is full once it has so many bytes of its file."""


@dataclass(frozen=True)
class Chunk:
    """Some whole blocks of one file."""

    number: int
    """Of the job, from 0, in the order of files and rows."""
    file: int
    """Which of the job's files, from 0."""
    begins: Mark
    ends: Mark
    is_last: bool
    """Whether the file ends with it."""
    size_bytes: int
    """How far it moves the progress bar."""
    blocks: tuple[Block, ...] = field(repr=False)
    path: str = ""
    """Of the file, as it was named."""

    def emptied(self) -> Chunk:
        """Return it without its data."""
        return replace(self, blocks=())


@dataclass(frozen=True, slots=True)
class Known:
    """Where a chunk that was answered before ends."""

    ends: Mark
    is_last: bool


@dataclass(frozen=True)
class BrokenBlock:
    """Stands for rows that cannot be read: what went wrong is told when the rows before it are answered."""

    error: InvalidInput
    ends: Mark
    size_bytes: int = 0
    about_rows: int = 0

    def parse(self) -> Rows:
        """Raise what was raised by the reader."""
        raise self.error

    def place(self, row: int | None) -> str:
        """Return nothing: the error names the file itself."""
        return ""

    def faults(self) -> list[Fault]:
        """Return none: nothing is known of its rows."""
        return []

    def without(self, rows: Sequence[int]) -> Block:
        """Return itself: what cannot be read stays so."""
        return self

    def origins(self, rows: Sequence[int]) -> list[Origin]:
        """Return none."""
        return []


def chunks_of(
    sources: Sequence[Source],
    chunk_rows: int = CHUNK_ROWS,
    *,
    known: Mapping[tuple[int, int], Known] | None = None,
    skipped: Mapping[int, int] | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks of files that are not answered yet, in order.

    Args:
        sources: One for each file of the job.
        chunk_rows: A chunk is full once it has so many rows, or some MiB of its file; blocks are never cut.
        known: Chunks that are left out, by the index of their file and the `at` where they begin.
        skipped: Files that are left out as a whole, and how many chunks they have.
    """
    number, known, skipped = 0, known or {}, skipped or {}
    for file, source in enumerate(sources):
        at, is_last = START, file in skipped
        number += skipped.get(file, 0)
        while not is_last:
            if (done := known.get((file, at.at))) is not None:
                number, at, is_last = number + 1, done.ends, done.is_last
                continue
            before = number
            for chunk in _read(source, _Filling(number, file, at), chunk_rows, known):
                number, at, is_last = chunk.number + 1, chunk.ends, chunk.is_last
                yield chunk
                del chunk  # its rows are let go before the next are read
            if number == before:
                raise InternalError(f"{source.name}: nothing is behind {at}. This is a bug.")


def named(chunks: Iterator[Chunk], paths: Sequence[str]) -> Iterator[Chunk]:
    """Yield chunks with the paths of their files."""
    for chunk in chunks:
        yield replace(chunk, path=paths[chunk.file])
        del chunk


def blocks_as_chunks(sources: Sequence[Source]) -> Iterator[Chunk]:
    """Yield each block as a chunk of its own: for what is not resumed, and wants its answers soon."""
    number = 0
    for file, source in enumerate(sources):
        for block in _or_broken(source.blocks(), START):
            yield Chunk(number, file, START, START, False, block.size_bytes, (block,))
            del block
            number += 1


def _read(
    source: Source, filling: _Filling, chunk_rows: int, known: Mapping[tuple[int, int], Known]
) -> Iterator[Chunk]:
    """Yield chunks up to the end of the file, or up to one that is known."""
    with closing(_or_broken(source.blocks(filling.begins), filling.begins)) as blocks:
        for block in blocks:
            if filling.is_full(chunk_rows):
                yield filling.take(is_last=False)
            filling.add(block)
            if filling.is_full(chunk_rows) and (filling.file, filling.ends.at) in known:
                yield filling.take(is_last=False)
                return
            del block
    if filling.blocks:
        yield filling.take(is_last=True)


def _or_broken(blocks: Iterator[Block], ends: Mark) -> Generator[Block]:
    try:
        for block in blocks:
            ends = block.ends
            yield block
            del block
    except InvalidInput as e:
        yield BrokenBlock(e, ends)


class _Filling:
    """A chunk to which blocks are added."""

    def __init__(self, number: int, file: int, begins: Mark) -> None:
        self.number = number
        self.file = file
        self.begins = self.ends = begins
        self.blocks: list[Block] = []
        self._rows = self._bytes = 0

    def is_full(self, chunk_rows: int) -> bool:
        """Whether another block would be one too many."""
        return self._rows >= chunk_rows or self._bytes >= _CHUNK_BYTES

    def add(self, block: Block) -> None:
        self.blocks.append(block)
        self.ends = block.ends
        self._rows += block.about_rows
        self._bytes += block.size_bytes

    def take(self, *, is_last: bool) -> Chunk:
        """Return the chunk, and begin the next one."""
        blocks, self.blocks = tuple(self.blocks), []
        chunk = Chunk(self.number, self.file, self.begins, self.ends, is_last, self._bytes, blocks)
        self.number += 1
        self.begins = self.ends
        self._rows = self._bytes = 0
        return chunk
