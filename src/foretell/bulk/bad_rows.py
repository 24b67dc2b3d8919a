"""Answers the good rows of a block, and says of each bad one what is wrong with it.

1. parse     all rows that cannot be parsed are found at once
2. predict   a model that can tells all rows that it refuses; of another a refusal names a row and a column:
             rows with the same value there are bad for the same reason
3. halve     where that finds too little, the rows are divided, and each half is predicted

The good rows are then predicted as if the bad ones had never been there, by the way of any other block. What is
told of a row depends on the row alone. Knows no file, and not what becomes of bad rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.bulk.blocks import Answered, Block, Fault, Rows
from foretell.errors import InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BAD_COLUMNS", "BadRow", "Sifted", "bad_columns", "reason_of", "sift"]

Index = NDArray[np.intp]

_WHOLE_ROUNDS = 4
"""Refusals of all rows together before they are divided: most files are bad in few ways."""
_ABSENT = object()


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
        search = _Search(rows, predict)
        search.begin(refusal)
        return search.found


def _told(block: Block, faults: Sequence[Fault], file: str) -> list[BadRow]:
    origins = block.origins([fault.row for fault in faults])
    return [
        BadRow(file, at.line, at.row, fault.column, fault.reason, at.text)
        for fault, at in zip(faults, origins, strict=True)
    ]


def reason_of(refusal: InvalidInput) -> str:
    """Return what is wrong with a row, without the names of its column and row."""
    text = str(refusal)
    where = f", row {refusal.row}: "
    for start in (f"column {quote(refusal.column)}" if refusal.column is not None else "", "data"):
        for end in (where, ": "):
            if start and text.startswith(start + end):
                return text[len(start + end) :]
    return text.replace(where, ": ", 1)


@dataclass
class _Search:
    """Looks for the rows that a model refuses."""

    rows: Rows
    predict: Callable[[Rows], Answered]
    found: list[Fault] = field(default_factory=list)

    def begin(self, refusal: InvalidInput | None) -> None:
        """Find all bad rows, or those that a few questions find, if no row is bad afterwards.

        Args:
            refusal: Of all rows.
        """
        left = np.arange(self.rows.count)
        for _ in range(_WHOLE_ROUNDS):
            if refusal is None:
                return
            left = self._mark(left, refusal)
            refusal = self._refusal(left)
        waiting = [left] if refusal is not None else []
        while waiting:
            some = waiting.pop()
            refusal = self._refusal(some)
            if refusal is not None:
                waiting += [half for half in np.array_split(self._mark(some, refusal), 2) if len(half)]

    def _refusal(self, index: Index) -> InvalidInput | None:
        """Ask for some rows; return why they are refused."""
        if not len(index):
            return None
        try:
            self.predict(_only(self.rows, index))
        except InvalidInput as refusal:
            if refusal.row is None:
                raise
            return refusal
        return None

    def _mark(self, index: Index, refusal: InvalidInput) -> Index:
        """Remember the row that is named, and those like it; return the others.

        A refusal names the first column with a bad value among these rows. So in all of them the columns before it
        are good, and the same value in it is the first thing that is wrong.
        """
        reason = reason_of(refusal)
        alike = _alike(self.rows.data, index, refusal)
        self.found += [Fault(int(row), refusal.column, reason) for row in index[alike]]
        return index[~alike]


def _only(rows: Rows, index: Index) -> Rows:
    """Return some rows; nothing is kept of them."""
    if isinstance(rows.data, list):
        return Rows([rows.data[i] for i in index.tolist()], {}, len(index))
    if len(index) and index[-1] - index[0] + 1 == len(index):
        return Rows(rows.data.slice(int(index[0]), len(index)), {}, len(index))
    return Rows(rows.data.take(_arrow(index)), {}, len(index))


def _arrow(index: Index) -> pa.Array:
    import pyarrow as pa

    return pa.array(index, pa.int64())


def _alike(data: Any, index: Index, refusal: InvalidInput) -> NDArray[np.bool_]:
    """Return which of these rows have the value of the row that is named, in the column that is named."""
    at, alike = refusal.row or 0, np.zeros(len(index), np.bool_)
    if refusal.column is not None and isinstance(data, list):
        alike[:] = list(_same_value([data[i] for i in index.tolist()], at, refusal.column))
    elif refusal.column is not None:
        alike[:] = _same_cell(data, index, at, refusal.column)
    alike[at] = True
    return alike


def _same_value(rows: Sequence[Mapping[str, Any]], at: int, column: str) -> Iterator[bool]:
    value = rows[at].get(column, _ABSENT)
    if value is _ABSENT:  # what is told depends on the other keys
        keys = list(rows[at])
        yield from (list(row) == keys for row in rows)
    else:
        kind, is_nan = type(value), value != value
        for row in rows:
            other = row.get(column, _ABSENT)
            yield type(other) is kind and (other == value or (is_nan and other != other))


def _same_cell(data: pa.RecordBatch, index: Index, at: int, column: str) -> NDArray[np.bool_]:
    """Compare cells of one column; those of types that Arrow cannot compare are like no other."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place = data.schema.get_field_index(column)
    if place < 0:
        return np.zeros(len(index), np.bool_)
    cells = data.column(place).take(_arrow(index))
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    value = cells[at]
    try:
        if not value.is_valid:
            same = pc.is_null(cells)
        elif pa.types.is_floating(cells.type) and value.as_py() != value.as_py():
            same = pc.is_nan(cells)
        else:
            same = pc.equal(cells, value)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return np.zeros(len(index), np.bool_)
    found: NDArray[np.bool_] = same.fill_null(False).to_numpy(zero_copy_only=False)
    return found
