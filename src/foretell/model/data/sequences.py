"""One column in any form a user has it: a list, a Series, an array of numpy or Arrow.

pandas and polars are known by the module of their types, never imported. Knows no table and no tensor.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InvalidInput
from foretell.model.data.arrow import column_of_arrow
from foretell.model.data.columns import Coded, Source

__all__ = ["any_column", "array_column", "is_column", "library", "pandas_column", "unmasked"]


def is_column(value: Any) -> bool:
    """Whether a value in a dict is a column rather than the value of one row."""
    if isinstance(value, (str, bytes)) or np.isscalar(value):
        return False
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    if isinstance(value, (list, tuple, range, array.array)):
        return True
    return hasattr(value, "__len__") and (library(value) in ("pandas", "polars", "pyarrow"))


def pandas_column(series: Any) -> Source:
    """Return a pandas Series as a column that can be encoded."""
    dtype, values = series.dtype, series.array
    if isinstance(dtype, np.dtype):
        found: NDArray[Any] = series.to_numpy()
        return found
    kind = type(dtype).__name__
    if kind == "CategoricalDtype":
        return Coded(values.codes, values.categories.tolist())
    if kind == "DatetimeTZDtype":
        instants: NDArray[Any] = values.asi8.view(f"M8[{dtype.unit}]")
        return instants
    if hasattr(values, "__arrow_array__"):
        import pyarrow as pa

        return column_of_arrow(pa.array(values))
    dense: NDArray[Any] = series.to_numpy()
    return dense


def array_column(column: NDArray[Any]) -> Source:
    """Return a numpy array of shape (rows,) as a column that can be encoded."""
    if isinstance(column, np.ma.MaskedArray):
        column = unmasked(column)
    if column.ndim != 1:
        raise InvalidInput(f"data: a column of shape {column.shape}, expected one value for each row")
    return column


def unmasked(data: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    """Return a masked array as objects, None where it is masked."""
    found: NDArray[Any] = np.asarray(data.data).astype(object)
    found[np.ma.getmaskarray(data)] = None
    return found


def any_column(value: Any) -> Source:
    """Return a column of a dict, of any library, as a column that can be encoded."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, np.ndarray):
        return array_column(value)
    home = library(value)
    if home == "pandas":
        return pandas_column(value.to_series() if type(value).__name__.endswith("Index") else _as_series(value))
    if home == "pyarrow":
        return column_of_arrow(value)
    if home == "polars":
        import pyarrow as pa

        return column_of_arrow(pa.chunked_array(value))
    return list(value)


def _as_series(value: Any) -> Any:
    if hasattr(value, "array"):
        return value
    raise InvalidInput(f"data: a column is a {type(value).__module__}.{type(value).__name__}; send a Series or a list")


def library(data: Any) -> str:
    """Return the library that the type of an object is from."""
    return type(data).__module__.partition(".")[0]
