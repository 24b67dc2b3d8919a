"""A chunk in pieces, so that all threads can be at work on it, and the answer that the pieces make.

Pure: knows no thread. What is joined means what `answering.answer` says of the whole chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foretell.bulk.answering import Answer
from foretell.bulk.blocks import Block
from foretell.bulk.chunks import Chunk
from foretell.bulk.spent import Spent
from foretell.bulk.tally import Tally

__all__ = ["PIECE_ROWS", "joined", "pieces_of"]

PIECE_ROWS = 16_384
"""A piece has about so many rows: blocks of text are smaller, and each answer has a cost of its own."""


def pieces_of(chunk: Chunk) -> list[Chunk]:
    """Return a chunk as several, each of some of its blocks, in order."""
    pieces: list[list[Block]] = []
    rows = 0
    for block in chunk.blocks:
        if not pieces or rows >= PIECE_ROWS:
            pieces.append([])
            rows = 0
        pieces[-1].append(block)
        rows += block.about_rows
    return [replace(chunk, blocks=tuple(piece)) for piece in pieces] or [chunk]


def joined(answers: Sequence[Answer]) -> Answer:
    """Return the answer of a chunk from those of its pieces, in order; those behind a refusal count for nothing."""
    if len(answers) == 1:
        return answers[0]
    read_rows = 0
    for found in answers:
        if found.refusal is not None:
            refusal = found.refusal
            row = None if refusal.row is None else refusal.row + read_rows
            return replace(found, refusal=replace(refusal, row=row))
        read_rows += found.read_rows
    rows, spent = sum(found.rows for found in answers), Spent()
    for found in answers:
        spent.add(found.spent_s)
    # What has no rows has columns without types, which are of use only where there is nothing else.
    encoded = b"".join(found.encoded for found in answers if found.rows) if rows else answers[-1].encoded
    return replace(
        answers[0],
        encoded=encoded,
        columns=next((found.columns for found in answers if found.columns), ()),
        rows=rows,
        read_rows=read_rows,
        errors=sum(found.errors for found in answers),
        quarantined=b"".join(found.quarantined for found in answers),
        notes=tuple(dict.fromkeys(note for found in answers for note in found.notes)),
        tally=_tally_of(answers),
        spent_s=spent.seconds,
    )


def _tally_of(answers: Sequence[Answer]) -> dict[str, object] | None:
    tallies = [found.tally for found in answers if found.tally is not None]
    if not tallies:
        return None
    whole = Tally()
    for tally in tallies:
        whole.add(Tally.from_json(tally))
    return whole.to_json()
