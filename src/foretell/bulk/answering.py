"""One chunk through the model: parse, predict, encode. A pure function of the chunk, whoever calls it, and where.

Knows no file of the job, no thread and no cluster: threads call it, processes and other machines may.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from foretell.bulk.bad_rows import BadRow
from foretell.bulk.blocks import Block, Predictor
from foretell.bulk.chunks import BrokenBlock, Chunk
from foretell.bulk.encode import encode_csv, encode_jsonl, encode_part, to_arrow
from foretell.errors import ConfigError, InternalError, InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Answer", "How", "OnError", "PartKind", "Refusal", "Stopped", "answer", "encode_rows"]

PartKind = Literal["csv", "jsonl", "arrow"]
"""What a chunk's answer is encoded as; a Parquet file is made of Arrow parts."""
OnError = Literal["fail", "skip", "quarantine"]


class Stopped(Exception):
    """A chunk was given up because the job ends. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class How:
    """What an answer depends on besides the model and the chunk."""

    kinds: tuple[PartKind, ...]
    """What parts are encoded as: one for each file of the job, or one for all."""
    on_error: OnError = "fail"

    def kind_of(self, chunk: Chunk) -> PartKind:
        """Return what the part of a chunk is encoded as."""
        return self.kinds[chunk.file] if len(self.kinds) > 1 else self.kinds[0]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the job ends at this chunk."""

    text: str
    place: str
    """Such as `homes.csv line 19`; empty where the text says it."""
    row: int | None
    """Counted from the first row of the chunk."""
    row_in_text: int | None
    """The number that the text has in its place."""
    column: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a chunk. Can be pickled."""

    encoded: bytes
    """Its rows: lines without a header, or streams of Arrow IPC one behind the other; empty if there is no row."""
    columns: tuple[str, ...]
    """Names of the output's columns; none if the first row is refused."""
    rows: int
    """Of the output."""
    read_rows: int
    """Of the input, bad ones too."""
    errors: tuple[BadRow, ...] = ()
    """Rows that were left out."""
    notes: tuple[str, ...] = ()
    tally: dict[str, Any] | None = None
    """Counts for the summary, as JSON has them."""
    refusal: Refusal | None = None
    """Why the job ends here; then the rest says nothing."""


def answer(model: Predictor, how: How, chunk: Chunk, stop: threading.Event | None = None) -> Answer:
    """Answer the rows of a chunk, in their order.

    Args:
        model: What predicts.
        how: What the answer depends on besides.
        chunk: With its blocks.
        stop: Once it is set, the chunk is given up after the block that runs.

    Raises:
        Stopped: `stop` was set.
        ConfigError: A kept column is named like an output, or has no form in this output.
        ModelError: The model failed.
    """
    encoded: list[dict[str, pa.Array]] = []
    notes: dict[str, None] = {}
    columns: tuple[str, ...] = ()
    parts: list[bytes] = []
    rows, kind = 0, how.kind_of(chunk)
    for block in chunk.blocks:
        if stop is not None and stop.is_set():
            raise Stopped
        try:
            found, said = _answer_block(model, block)
        except InvalidInput as e:
            return Answer(b"", (), 0, 0, refusal=_refusal(block, e, rows))
        notes |= dict.fromkeys(said)
        columns = columns or tuple(found)
        rows += (count := len(next(iter(found.values()))))
        if count or (not rows and block is chunk.blocks[-1]):
            encoded.append(found)
            if kind != "arrow":
                parts.append(encode_rows(kind, encoded))
                encoded.clear()
    if encoded:
        parts.append(encode_rows(kind, encoded))
    return Answer(b"".join(parts), columns, rows, rows, notes=tuple(notes))


def encode_rows(kind: PartKind, blocks: list[dict[str, pa.Array]]) -> bytes:
    """Return columns of some blocks as a part has them."""
    if kind == "arrow":
        return encode_part(blocks)
    encode = encode_csv if kind == "csv" else encode_jsonl
    return b"".join(encode(columns) for columns in blocks)


def _answer_block(model: Predictor, block: Block) -> tuple[dict[str, pa.Array], tuple[str, ...]]:
    rows = block.parse()
    answered = model.predict_arrow(rows.data) if not isinstance(rows.data, list) else model.predict(rows.data)
    answers = to_arrow(answered.to_columns())
    for name in rows.kept:
        if name in answers:
            raise ConfigError(
                f"column {quote(name)}: it is to be kept and an output has the same name; rename it, "
                "or name the columns to keep without it"
            )
    columns = {**rows.kept, **answers}
    wrong = [name for name, column in columns.items() if len(column) != rows.count]
    if wrong:
        raise InternalError(f"column {quote(wrong[0])}: {len(columns[wrong[0]])} rows for {rows.count}. This is a bug.")
    return columns, (*rows.notes, *answered.notes)


def _refusal(block: Block, error: InvalidInput, rows: int) -> Refusal:
    if isinstance(block, BrokenBlock):
        return Refusal(str(error), "", None, None, error.column)
    place, row = block.place(error.row), error.row
    return Refusal(str(error), place, None if row is None else rows + row, row, error.column)
