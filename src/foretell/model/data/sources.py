"""Data in any form a user has it, as a table of columns.

pandas and polars are known by the module of their types, never imported. Knows no tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InvalidInput
from foretell.model.data.arrow import column_of_arrow, is_plain, table_of_capsule
from foretell.model.data.cells import quote
from foretell.model.data.columns import Source
from foretell.model.data.names import Names
from foretell.model.data.sequences import any_column, array_column, is_column, library, pandas_column, unmasked
from foretell.model.data.vocabulary import Notes

__all__ = ["Table", "arrow_table", "table_of"]

_FEW_ROWS = 32
"""Up to so many rows of a pandas or Arrow table are cheaper to take as Python values than column by column."""
_FORMS = "a dict, a list of dicts or of rows, an array, or a table of pandas, polars or Arrow"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of the same length, read one by one as they are asked for."""

    rows: int
    column: Callable[[int], Source]
    """Returns the column at a position."""
    positions: Mapping[str, int]
    """Where each field is."""
    is_plain: bool = False
    """Whether the columns are sequences of Python values."""


def table_of(data: Any, names: Names, notes: Notes) -> Table:
    """Return data as a table.

    Raises:
        InvalidInput: It has none of the known forms, or does not have the columns of the model.
    """
    home = library(data)
    if home == "pandas":
        return _of_pandas(data, names, notes)
    if isinstance(data, np.void) and data.dtype.names is not None:
        data = np.array([data], data.dtype)
    if isinstance(data, np.ndarray):
        return _of_array(data, names, notes)
    if isinstance(data, Mapping):
        return _of_mapping(data, names, notes)
    if isinstance(data, (list, tuple)):
        return _of_list(data, names, notes)
    if home == "polars" and type(data).__name__ == "LazyFrame":
        raise InvalidInput("data: a polars LazyFrame has no rows yet; call .collect() first")
    if home == "pyarrow" and hasattr(data, "schema") and hasattr(data, "num_rows"):
        return arrow_table(data, names, notes)
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return arrow_table(table_of_capsule(data), names, notes)
    raise InvalidInput(f"data: {type(data).__module__}.{type(data).__name__} is no table; expected {_FORMS}")


def arrow_table(data: Any, names: Names, notes: Notes) -> Table:
    """Return a `pyarrow` Table or RecordBatch as a table."""
    positions = names.locate(data.schema.names, notes, frame=True)
    if data.num_rows > _FEW_ROWS:
        return Table(data.num_rows, lambda at: column_of_arrow(data.column(at)), positions)
    plain = all(is_plain(data.schema.field(positions[name]).type) for name in names.needed)
    column = _few_values if plain else column_of_arrow
    return Table(data.num_rows, lambda at: column(data.column(at)), positions, is_plain=plain)


def _few_values(column: Any) -> Source:
    return list(column.to_pylist())


def _of_pandas(data: Any, names: Names, notes: Notes) -> Table:
    if type(data).__name__ == "Series" or data.ndim == 1:
        return _of_row([str(n) for n in data.index], data.tolist(), names, notes)
    positions = names.locate([str(n) for n in data.columns], notes, frame=True)
    if len(data) <= _FEW_ROWS and len(data.columns):
        columns = list(zip(*data.to_numpy(object).tolist(), strict=True)) or [()] * len(data.columns)
        return Table(len(data), columns.__getitem__, positions, is_plain=True)
    return Table(len(data), lambda at: pandas_column(data.iloc[:, at]), positions)


def _of_row(given: Sequence[str], values: Sequence[Any], names: Names, notes: Notes) -> Table:
    positions = names.locate(given, notes, frame=True)
    return Table(1, lambda at: [values[at]], positions, is_plain=True)


def _of_array(data: NDArray[Any], names: Names, notes: Notes) -> Table:
    if isinstance(data, np.ma.MaskedArray) and data.dtype.names is None:
        data = unmasked(data)
    labels = data.dtype.names
    if labels is not None:
        data = data.reshape(-1)
        positions = names.locate(labels, notes, frame=True)
        return Table(len(data), lambda at: array_column(data[labels[at]]), positions)
    if data.ndim not in (1, 2):
        raise InvalidInput(f"data: an array of shape {data.shape}, expected (rows, {len(names.all)})")
    if data.ndim == 1:
        if len(data) != len(names.all):
            _refuse_flat(len(data), names)
        data = data.reshape(1, -1)
    names.check_width(data.shape[1], "values")
    return Table(len(data), lambda at: data[:, at], {name: at for at, name in enumerate(names.all)})


def _of_mapping(data: Mapping[Any, Any], names: Names, notes: Notes) -> Table:
    given = [str(n) for n in data]
    positions = names.locate(given, notes, frame=False)
    values = list(data.values())
    columns = {at for name, at in positions.items() if name in names.known and is_column(values[at])}
    needed = {positions[name] for name in names.needed}
    if not columns & needed:
        return Table(1, lambda at: [values[at]], positions, is_plain=True)
    for name in names.needed:
        if positions[name] not in columns:
            raise InvalidInput(
                f"column {quote(name)}: got one value, but others are columns; send all alike", column=name
            )
    lengths = {name: len(values[positions[name]]) for name in names.needed}
    rows = lengths[names.needed[0]]
    for name, length in lengths.items():
        if length != rows:
            first = names.needed[0]
            raise InvalidInput(
                f"column {quote(name)}: it has {length} rows, column {quote(first)} has {rows}; send as many",
                column=name,
            )
    plain = all(isinstance(values[positions[name]], (list, tuple)) for name in names.needed)
    return Table(rows, lambda at: any_column(values[at]), positions, is_plain=plain)


def _of_list(data: Sequence[Any], names: Names, notes: Notes) -> Table:
    first = data[0] if data else []
    if not data:
        return Table(0, lambda at: [], {name: at for at, name in enumerate(names.all)})
    if isinstance(first, Mapping):
        return _of_dicts(data, names, notes)
    if not is_column(first):
        if any(isinstance(v, Mapping) or is_column(v) for v in data):
            raise InvalidInput("data: a list of values and of rows; send rows alike")
        if len(data) != len(names.all):
            _refuse_flat(len(data), names)
        return Table(1, lambda at: [data[at]], {name: at for at, name in enumerate(names.all)}, is_plain=True)
    for row, values in enumerate(data):
        if not is_column(values):
            raise InvalidInput(
                f"data, row {row}: got {type(values).__name__}, others are lists; send all alike", row=row
            )
        if len(values) != len(names.all):
            raise InvalidInput(
                f"data, row {row}: got {len(values)} values, expected {len(names.all)} as the model was trained with",
                row=row,
            )
    columns = list(zip(*data, strict=True))
    return Table(len(data), columns.__getitem__, {name: at for at, name in enumerate(names.all)}, is_plain=True)


def _of_dicts(data: Sequence[Any], names: Names, notes: Notes) -> Table:
    for row, values in enumerate(data):
        if not isinstance(values, Mapping):
            raise InvalidInput(
                f"data, row {row}: got {type(values).__name__}, others are dicts; send all alike", row=row
            )
    needed = names.needed
    pick = itemgetter(*needed)
    try:
        columns = list(zip(*map(pick, data), strict=True)) if len(needed) > 1 else [tuple(map(pick, data))]
    except KeyError:
        for name in needed:
            for row, values in enumerate(data):
                if name not in values:
                    names.refuse_missing([n for n in needed if n not in values], values, row)
        raise
    if set(map(len, data)) != {len(names.all)} or len(needed) < len(names.all):
        names.note_extra(dict.fromkeys(name for values in data for name in values), notes)
    return Table(len(data), columns.__getitem__, {name: at for at, name in enumerate(needed)}, is_plain=True)


def _refuse_flat(got: int, names: Names) -> None:
    many = f"; for many rows send shape (rows, {len(names.all)})" if got else ""
    raise InvalidInput(f"data: one row of {got} values, expected {len(names.all)} as the model was trained with{many}")
