"""Batches of dataframe libraries, all seen alike: columns by position, and the same kind of batch with others.

Knows pyarrow, pandas and dicts of arrays; no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.bulk.encode import to_arrow
from foretell.errors import InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Columns", "Frame", "frame_of"]

_FORMS = "a pyarrow Table or RecordBatch, a pandas DataFrame, or a dict of arrays"

Columns = dict[str, Any]
"""Arrays of numpy or Arrow."""


class Frame(Protocol):
    """A batch of one library."""

    names: list[str]

    def arrow(self, at: int) -> pa.Array:
        """Return the column at a position."""
        ...

    def values(self, at: int) -> Sequence[Any]:
        """Return the column at a position as Python values or arrays, one a row."""
        ...

    def joined(self, kept: Sequence[int], rows: NDArray[np.intp] | None, answers: Columns) -> Any:
        """Return some of its columns, of these rows or of all, and the answers after them."""
        ...


def frame_of(batch: Any) -> Frame:
    """Return a batch as a frame.

    Raises:
        InvalidInput: It is none that is known.
    """
    home = type(batch).__module__.partition(".")[0]
    if home == "pyarrow" and hasattr(batch, "schema"):
        return _Arrow(batch)
    if home == "pandas" and hasattr(batch, "columns"):
        return _Pandas(batch)
    if isinstance(batch, Mapping):
        return _Arrays(batch)
    raise InvalidInput(f"batch: got {type(batch).__module__}.{type(batch).__name__}, expected {_FORMS}")


class _Arrow:
    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.names: list[str] = batch.schema.names

    def arrow(self, at: int) -> pa.Array:
        import pyarrow as pa

        column = self._batch.column(at)
        if not isinstance(column, pa.ChunkedArray):
            return column
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def values(self, at: int) -> Sequence[Any]:
        found: list[Any] = self._batch.column(at).to_pylist()  # of a tensor column: arrays
        return found

    def joined(self, kept: Sequence[int], rows: NDArray[np.intp] | None, answers: Columns) -> Any:
        found = {self.names[at]: self._batch.column(at) for at in kept}
        if rows is not None:
            found = {name: column.take(rows) for name, column in found.items()}
        columns = found | _all_arrow(answers)
        return type(self._batch).from_arrays(list(columns.values()), list(columns))


class _Pandas:
    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.names = [str(name) for name in batch.columns]

    def arrow(self, at: int) -> pa.Array:
        return _as_arrow(self._batch.iloc[:, at], self.names[at])

    def values(self, at: int) -> Sequence[Any]:
        return list(self._batch.iloc[:, at])

    def joined(self, kept: Sequence[int], rows: NDArray[np.intp] | None, answers: Columns) -> Any:
        import pandas as pd

        found = self._batch.iloc[:, list(kept)]
        if rows is not None:
            found = found.iloc[rows]
        columns = {name: _numpy(column) for name, column in answers.items()}
        return pd.concat([found, pd.DataFrame(columns, index=found.index)], axis=1)


class _Arrays:
    def __init__(self, batch: Mapping[str, Any]) -> None:
        self._batch = {str(name): np.asarray(column) for name, column in batch.items()}
        self.names = list(self._batch)

    def arrow(self, at: int) -> pa.Array:
        column = self._batch[self.names[at]]
        if column.ndim != 1:
            raise InvalidInput(
                f"batch: column {quote(self.names[at])} has shape {column.shape}, expected one value a row",
                column=self.names[at],
            )
        return _as_arrow(column, self.names[at])

    def values(self, at: int) -> Sequence[Any]:
        return list(self._batch[self.names[at]])

    def joined(self, kept: Sequence[int], rows: NDArray[np.intp] | None, answers: Columns) -> Any:
        found = {self.names[at]: self._batch[self.names[at]] for at in kept}
        if rows is not None:
            found = {name: column[rows] for name, column in found.items()}
        return found | {name: _numpy(column) for name, column in answers.items()}


def _all_arrow(answers: Columns) -> dict[str, pa.Array]:
    plain = {name: column for name, column in answers.items() if isinstance(column, np.ndarray)}
    return {**answers, **to_arrow(plain)}


def _numpy(column: Any) -> NDArray[Any]:
    found: NDArray[Any] = column if isinstance(column, np.ndarray) else column.to_numpy(zero_copy_only=False)
    return found


def _as_arrow(column: Any, name: str) -> pa.Array:
    import pyarrow as pa

    try:
        found = pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as e:
        line = str(e).splitlines()[0]
        raise InvalidInput(f"batch: column {quote(name)} is no column of one type ({line})", column=name) from e
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
