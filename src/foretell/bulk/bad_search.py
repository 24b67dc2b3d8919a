"""Finds the rows that a model refuses, where it tells of one at a time: by what it names, and by halves.

Asks as often as there are bad rows, twice at most, and never for all rows one by one. Knows no block and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.bulk.blocks import Answered, Fault, Rows
from foretell.errors import InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Search", "reason_of"]

Index = NDArray[np.intp]

_WHOLE_ROUNDS = 4
"""Refusals of all rows together before they are divided: most files are bad in few ways."""
_ABSENT = object()


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
class Search:
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
