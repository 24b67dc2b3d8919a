"""One chunk through the model: parse, predict, encode. A pure function of the chunk, whoever calls it, and where.

Knows no file of the job, no thread and no cluster: threads call it, processes and other machines may.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from foretell.bulk.bad_rows import Sifted, bad_columns, sift
from foretell.bulk.blocks import Answered, Block, Predictor, Rows
from foretell.bulk.chunks import BrokenBlock, Chunk
from foretell.bulk.encode import encode_csv, encode_jsonl, encode_part, to_arrow
from foretell.bulk.spent import Spent
from foretell.bulk.tally import Tally
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
    bad_kind: PartKind = "jsonl"
    """What rows for the quarantine are encoded as."""
    is_long: bool = False
    """Whether all rows take the way of many rows: then a row's answer does not depend on those beside it."""

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
    errors: int = 0
    """Rows that were left out."""
    quarantined: bytes = b""
    """Those rows, encoded; empty where they are to be skipped, or where there are none."""
    notes: tuple[str, ...] = ()
    tally: dict[str, Any] | None = None
    """Counts of the predictions; see `tally`."""
    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Processor time by step: parse, predict, encode."""
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
    making, errors, bad = _Making(how.kind_of(chunk)), 0, list[bytes]()
    for block in chunk.blocks:
        if stop is not None and stop.is_set():
            raise Stopped
        try:
            sifted = _predict_block(model, how, block, chunk.path, making.spent)
        except InvalidInput as e:
            return Answer(b"", (), 0, 0, refusal=_refusal(block, e, making.rows + errors))
        errors += len(sifted.bad)
        if sifted.bad and how.on_error == "quarantine":
            bad.append(encode_rows(how.bad_kind, [bad_columns(sifted.bad)]))
        making.take(sifted, is_last=block is chunk.blocks[-1])
    return Answer(
        making.finish(),
        making.columns,
        making.rows,
        making.rows + errors,
        errors=errors,
        quarantined=b"".join(bad),
        notes=tuple(making.notes),
        tally=making.tally.to_json(),
        spent_s=making.spent.seconds,
    )


class _Making:
    """The rows of an answer, as blocks come."""

    def __init__(self, kind: PartKind) -> None:
        self._kind = kind
        self._waiting: list[dict[str, pa.Array]] = []
        self._parts: list[bytes] = []
        self.columns: tuple[str, ...] = ()
        self.rows = 0
        self.notes: dict[str, None] = {}
        self.tally = Tally()
        self.spent = Spent()

    def take(self, sifted: Sifted, *, is_last: bool) -> None:
        with self.spent.on("encode"):
            answers = to_arrow(sifted.answered.to_columns())
            self.tally.take(answers)
            found = _with_kept(sifted.rows, answers)
            self.notes |= dict.fromkeys((*sifted.rows.notes, *sifted.answered.notes))
            self.columns = self.columns or tuple(found)
            self.rows += sifted.rows.count
            if sifted.rows.count or (not self.rows and is_last):
                self._waiting.append(found)
                if self._kind != "arrow":
                    self._encode()

    def finish(self) -> bytes:
        with self.spent.on("encode"):
            self._encode()
            return b"".join(self._parts)

    def _encode(self) -> None:
        if self._waiting:
            self._parts.append(encode_rows(self._kind, self._waiting))
            self._waiting.clear()


def encode_rows(kind: PartKind, blocks: list[dict[str, pa.Array]]) -> bytes:
    """Return columns of some blocks as a part has them."""
    if kind == "arrow":
        return encode_part(blocks)
    encode = encode_csv if kind == "csv" else encode_jsonl
    return b"".join(encode(columns) for columns in blocks)


def _predict_block(model: Predictor, how: How, block: Block, path: str, spent: Spent) -> Sifted:
    """Answer the rows of a block; bad ones are told apart unless they end the job."""
    many = getattr(model, "predict_many", None) if how.is_long else None

    def predict(rows: Rows) -> Answered:
        if many is not None:
            answered: Answered = many(rows.data)
            return answered
        return model.predict_arrow(rows.data) if not isinstance(rows.data, list) else model.predict(rows.data)

    try:
        with spent.on("parse"):
            rows = block.parse()
        with spent.on("predict"):
            return Sifted(rows, predict(rows), [])
    except InvalidInput:
        if how.on_error == "fail":
            raise
    with spent.on("predict"):
        return sift(block, predict, path, getattr(model, "refusals", None))


def _with_kept(rows: Rows, answers: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Return the columns of the output."""
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
    return columns


def _refusal(block: Block, error: InvalidInput, rows: int) -> Refusal:
    if isinstance(block, BrokenBlock):
        return Refusal(str(error), "", None, None, error.column)
    place, row = block.place(error.row), error.row
    return Refusal(str(error), place, None if row is None else rows + row, row, error.column)
