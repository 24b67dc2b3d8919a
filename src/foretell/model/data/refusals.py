"""All values of a column that the model cannot take, where `columns` names the first one only.

Asks the reader of the column value by value, each distinct one once. Slow: for tables that have been refused.
Knows no table and no door.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from foretell.errors import InvalidInput
from foretell.model.data.cells import Unfit, shown
from foretell.model.data.columns import Coded, ColumnEncoder, Numbers, Source

__all__ = ["Refusal", "refusals_of"]


class Refusal(NamedTuple):
    """A row that the model cannot take."""

    row: int
    column: str
    reason: str
    """Got, expected."""


def refusals_of(encoder: ColumnEncoder, source: Source) -> list[Refusal]:
    """Return all values of a column that `encoder.encode` refuses, in the order of the rows."""
    try:
        encoder.encode(source, {})
    except InvalidInput as first:
        if first.row is None:
            raise
    else:
        return []
    return [Refusal(row, encoder.name, problem) for row, problem in _unfit(encoder, source)]


def _unfit(encoder: ColumnEncoder, source: Source) -> Iterator[tuple[int, str]]:
    known: dict[Any, str | None] = {}
    for row, value in enumerate(_values(source)):
        try:
            key = (type(value), value)
            problem = known[key] if key in known else known.setdefault(key, _problem(encoder, value))
        except TypeError:  # a list, a dict
            problem = _problem(encoder, value)
        if problem is not None:
            yield row, problem


def _problem(encoder: ColumnEncoder, value: Any) -> str | None:
    try:
        encoder.reader.read(value, {})
    except Unfit as unfit:
        return f"got {shown(value)}, {unfit}"
    return None


def _values(source: Source) -> list[Any]:
    """Return what `encode` would show the reader."""
    if isinstance(source, Numbers):
        values: list[Any] = source.values.tolist()
        if source.missing is not None:
            for row in np.flatnonzero(source.missing).tolist():
                values[row] = None
        return values
    if isinstance(source, Coded):
        return [source.values[code] if code >= 0 else None for code in source.codes.tolist()]
    if isinstance(source, np.ndarray) and source.dtype.kind in "OUSbiuf":
        found: list[Any] = source.tolist()
        return found
    return list(source)
