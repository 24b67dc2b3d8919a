"""Rows as a user gives them to rows as an estimator was fitted on, and its answers.

Knows Arrow and numpy; pandas only through `Inputs.frame`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.estimators.inputs import Inputs
from foretell.signature import Field

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["frame_of_table", "frame_of_tensors"]

_NO_DATE = np.iinfo(np.int64).min


def frame_of_table(table: pa.Table, inputs: Inputs) -> Any:
    """Return a table as the estimator takes it: columns that it does not have are all missing."""
    held = set(table.column_names)
    columns = {
        place: _column(table.column(name), inputs, place) for place, name in enumerate(inputs.names) if name in held
    }
    return inputs.frame(columns, table.num_rows)


def frame_of_tensors(arrays: list[NDArray[Any]], fields: tuple[Field, ...], inputs: Inputs) -> Any:
    """Return tensors, one per field, as the estimator takes them."""
    places = {name: place for place, name in enumerate(inputs.names)}
    columns = {places[f.name]: _tensor(a, f, inputs, places[f.name]) for f, a in zip(fields, arrays, strict=True)}
    return inputs.frame(columns, len(arrays[0]))


def _tensor(array: NDArray[Any], field: Field, inputs: Inputs, place: int) -> Any:
    if field.kind == "date":
        return array.astype("datetime64[ns]")
    if field.kind == "category":
        known = np.array([*field.categories, inputs.unknown(place), inputs.missing(place)], object)
        last = len(known) - 1
        codes = np.where(np.isnan(array), last, np.where(array < 0, last - 1, array)).astype(np.intp)
        return known[codes]
    if array.dtype.kind in "OUS":
        missing = inputs.missing(place)
        out = np.empty(len(array), object)
        out[:] = [missing if v is None or v == "" else v for v in array.tolist()]
        return out
    if field.kind in ("integer", "boolean") and not np.isnan(array).any():
        return array.astype(np.int64 if field.kind == "integer" else bool)
    return array


def _column(column: pa.ChunkedArray, inputs: Inputs, place: int) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(pa.timestamp("ns")).to_numpy()
    if pa.types.is_integer(kind) and column.null_count == 0 and place not in inputs.vocabulary:
        return column.to_numpy()
    if (pa.types.is_floating(kind) or pa.types.is_integer(kind)) and not _needs_objects(inputs, place):
        return column.cast(pa.float64()).to_numpy()
    if pa.types.is_null(kind) and not inputs.is_text(place):
        return np.full(len(column), np.nan)
    return _objects(column, inputs, place)


def _needs_objects(inputs: Inputs, place: int) -> bool:
    return place in inputs.none_missing or any(isinstance(v, bool) for v in inputs.vocabulary.get(place, ()))


def _objects(column: pa.ChunkedArray, inputs: Inputs, place: int) -> list[Any]:
    missing = inputs.missing(place)
    known = {v: v for v in inputs.vocabulary.get(place, ())}
    # A truth that came as 1.0 must be True again, and so with all values that are equal but of another type.
    return [missing if v is None or v != v else known.get(v, v) for v in column.to_pylist()]
