"""Arrow data as columns that can be encoded: tables, batches, and whatever speaks the Arrow C interface.

Knows no field and no tensor; imports pyarrow only when there is Arrow data.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InvalidInput
from foretell.model.data.columns import Coded, Numbers, Source

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["column_of_arrow", "is_plain", "keep_pandas_out", "table_of_capsule"]


def keep_pandas_out() -> None:
    """Keep pyarrow from importing pandas in this process; for commands and servers, which never see a DataFrame.

    pyarrow imports pandas, where it is installed, at the first array it makes or reads, only to ask whether that
    is a Series: half a second of every command. It asks once; here it is told that there is none. Others may still
    import it.
    """
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0.0])
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """A finder of modules that finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def table_of_capsule(data: Any) -> pa.Table:
    """Return what an object with `__arrow_c_stream__` or `__arrow_c_array__` holds, as a table.

    Raises:
        InvalidInput: It holds no columns with names.
    """
    import pyarrow as pa

    try:
        if hasattr(data, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(data).read_all()
        return pa.table(pa.record_batch(data))
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        what = f"{type(data).__module__}.{type(data).__name__}"
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(f"data: {what} is no table of columns with names ({line}); send a table") from error


def is_plain(kind: pa.DataType) -> bool:
    """Whether values of this type mean the same as Python values: text, truths, integers, doubles."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_string(kind) or types.is_float64(kind) or types.is_integer(kind) or types.is_boolean(kind))


def column_of_arrow(column: pa.Array | pa.ChunkedArray) -> Source:
    """Return an Arrow column as numbers, codes, dates or objects."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # too large for one array
            return list(column.to_pylist())
    if isinstance(column, pa.ExtensionArray):
        # Its storage may be numbers that mean something else, such as the months of a period.
        return [scalar if scalar.is_valid else None for scalar in column]
    kind, types = column.type, pa.types
    if types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind):
        return _numbers(column)
    if types.is_dictionary(kind):
        return _codes(column)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        column = column.cast(pa.large_string() if types.is_string_view(kind) else pa.large_binary())
        kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        return _codes(column.dictionary_encode())
    if types.is_timestamp(kind) or types.is_date(kind):
        return _dates(column)
    if types.is_time64(kind) or types.is_duration(kind):  # Python has no nanoseconds
        column = column.cast(pa.time64("us") if types.is_time64(kind) else pa.duration("us"), safe=False)
    return list(column.to_pylist())


def _numbers(column: pa.Array) -> Source:
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        values = (column.fill_null(False) if column.null_count else column).to_numpy(zero_copy_only=False)
    elif pa.types.is_integer(column.type) and column.null_count:
        values = column.fill_null(0).to_numpy()
    else:
        return Numbers(column.to_numpy(zero_copy_only=False))  # Arrow turns a null among floats into NaN
    return Numbers(values, column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None)


def _codes(column: pa.DictionaryArray) -> Source:
    indices, dictionary = column.indices, column.dictionary
    if indices.null_count:
        indices = indices.fill_null(0).to_numpy().astype(np.int64)
        indices[column.indices.is_null().to_numpy(zero_copy_only=False)] = -1
    else:
        indices = indices.to_numpy()
    return Coded(indices, dictionary.to_pylist())


def _dates(column: pa.Array) -> Source:
    import pyarrow as pa

    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s" if pa.types.is_date32(column.type) else "ms"))
    instants: NDArray[Any] = column.to_numpy(zero_copy_only=False)  # with a time zone or without, Arrow holds UTC
    return instants
