"""Answers the good rows of a block, and says of each bad one what is wrong with it.

1. parse     all rows that cannot be parsed are found at once
2. predict   a model that can tells all rows that it refuses; of another a refusal names a row and a column:
             rows with the same value there are bad for the same reason
3. halve     where that finds too little, the rows are divided, and each half is predicted

The good rows are then predicted as if the bad ones had never been there, by the way of any other block. What is
told of a row depends on the row alone. Knows no file, and not what becomes of bad rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from foretell.bulk.bad_search import Search, reason_of
from foretell.bulk.blocks import Answered, Block, Fault, Rows
from foretell.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BAD_COLUMNS", "BadRow", "Sifted", "bad_columns", "sift"]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that got no answer."""

    file: str
    line: int | None
    """Of a text file, from 1; of a row of several lines the first."""
    row: int | None
    """Of a Parquet or Arrow file, from 0."""
    column: str | None
    reason: str
    """Got, expected, what to do."""
    text: str
    """The row as it was: its line or lines, or a JSON object of the columns that were read."""


BAD_COLUMNS = ("file", "line", "row", "column", "reason", "text")


def bad_columns(bad: Sequence[BadRow]) -> dict[str, pa.Array]:
    """Return bad rows as columns, of the same types whatever they hold."""
    import pyarrow as pa

    kinds = {"line": pa.int64(), "row": pa.int64()}
    return {name: pa.array([getattr(b, name) for b in bad], kinds.get(name, pa.string())) for name in BAD_COLUMNS}


@dataclass(frozen=True, slots=True)
class Sifted:
    """A block whose bad rows are told apart."""

    rows: Rows
    """The good ones."""
    answered: Answered
    bad: list[BadRow]
    """In their order."""


class Tells(Protocol):
    """What a model may tell beyond the first row that it refuses."""

    def __call__(self, data: Any) -> Sequence[tuple[int, str, str]]:
        """Return row, column and reason of every value that is refused, one for a row."""
        ...


def sift(block: Block, predict: Callable[[Rows], Answered], file: str, tells: Tells | None = None) -> Sifted:
    """Answer the good rows of a block.

    Args:
        block: Of which some row was refused.
        predict: Asks the model; called several times, with rows of this block.
        file: What the file is called.
        tells: Where the model can tell all rows that it refuses.

    Raises:
        InvalidInput: What is wrong is not a row: no row of it can be answered.
    """
    found = {fault.row: fault for fault in block.faults()}
    while True:
        more = _answer(block.without(sorted(found)) if found else block, predict, tells)
        if isinstance(more, tuple):
            return Sifted(*more, _told(block, [found[row] for row in sorted(found)], file))
        left = _left(found, max(fault.row for fault in more))
        found |= {left[f.row]: Fault(left[f.row], f.column, f.reason) for f in more}


def _left(found: Collection[int], last: int) -> list[int]:
    """Return the rows that are not among those found, up to the one that is the `last` of them."""
    return [row for row in range(last + len(found) + 1) if row not in found][: last + 1]


def _answer(
    block: Block, predict: Callable[[Rows], Answered], tells: Tells | None
) -> tuple[Rows, Answered] | list[Fault]:
    """Answer all rows of a block, or tell which of them are bad."""
    try:
        rows = block.parse()
    except InvalidInput as refusal:  # of all its rows none should be left that does not parse
        if refusal.row is None:
            raise
        return [Fault(refusal.row, refusal.column, reason_of(refusal))]
    try:
        return rows, predict(rows)
    except InvalidInput as refusal:
        if refusal.row is None:
            raise
        if tells is not None:
            with suppress(InvalidInput):  # no value is at fault: a row has other keys than the others
                if faults := [Fault(*refused) for refused in tells(rows.data)]:
                    return faults
        search = Search(rows, predict)
        search.begin(refusal)
        return search.found


def _told(block: Block, faults: Sequence[Fault], file: str) -> list[BadRow]:
    origins = block.origins([fault.row for fault in faults])
    return [
        BadRow(file, at.line, at.row, fault.column, fault.reason, at.text)
        for fault, at in zip(faults, origins, strict=True)
    ]
