"""One batch of a dataframe library through a model: the same kind of batch comes back, with the output columns.

It takes the way of a block of a file, so the answers are those of a file with the same rows, bit for bit.
Knows Arrow tables and batches, pandas frames and dicts of arrays; no file, no cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.bulk.blocks import Predictor
from foretell.bulk.columns import Keep, choose
from foretell.bulk.encode import to_arrow
from foretell.errors import ConfigError, InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["predict_frame"]

_FORMS = "a pyarrow Table or RecordBatch, a pandas DataFrame, or a dict of arrays"
_PICTURES = ("image", "bytes", "path")
"""Columns in which pictures are looked for, as `read_images` and `read_binary_files` of Ray Data name them."""

Columns = dict[str, NDArray[Any]]


class _Frame(Protocol):
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


def predict_frame(model: Predictor, batch: Any, keep: Keep = ()) -> Any:
    """Predict the rows of a batch, in the calling thread.

    Args:
        model: Of rows; or of pictures, which are in the first of the columns "image" (uint8), "bytes" and "path".
        batch: A `pyarrow.Table` or `RecordBatch`, a pandas frame, or a dict of arrays with a row along axis 0.
        keep: Names of its columns to put before the predictions, or "all".

    Returns:
        Of the kind of `batch`: the kept columns, then the output columns as `foretell predict` writes them. A
        detection has a row for each object; its `source` is the path, or the row of the batch.

    Raises:
        InvalidInput: The message names column, row and value; `row` counts from the first one of the batch.
        ConfigError: A column to keep is missing, or named like an output.
    """
    frame = _frame_of(batch)
    try:
        if model.signature.image is not None:
            kept, rows, answers = _see(model, frame, keep)
        else:
            kept, rows, answers = _predict(model, frame, keep)
    except InvalidInput as e:
        text = str(e) if str(e).startswith("batch: ") else f"batch: {e}"
        raise InvalidInput(text, column=e.column, row=e.row) from e
    for at in kept:
        if frame.names[at] in answers:
            raise ConfigError(
                f"column {quote(frame.names[at])}: it is to be kept and an output has the same name; rename it, "
                "or name the columns to keep without it"
            )
    return frame.joined(kept, rows, answers)


def _predict(model: Predictor, frame: _Frame, keep: Keep) -> tuple[list[int], None, Columns]:
    import pyarrow as pa

    chosen = choose(frame.names, model.signature, keep, "batch")
    fields = [frame.arrow(at) for at, _ in chosen.fields]
    data = pa.RecordBatch.from_arrays(fields, [name for _, name in chosen.fields])
    return [at for at, _ in chosen.kept], None, model.predict_arrow(data).to_columns()


def _see(model: Predictor, frame: _Frame, keep: Keep) -> tuple[list[int], NDArray[np.intp] | None, Columns]:
    names = frame.names
    found = next((names.index(name) for name in _PICTURES if name in names), None)
    if found is None:
        shown = ", ".join(map(quote, names[:5]))
        raise InvalidInput(f"batch: no column of pictures, expected one of image, bytes, path; it has {shown}")
    wanted = [name for name in names if name != names[found]] if keep == "all" else list(dict.fromkeys(keep))
    for name in wanted:
        if name not in names:
            raise ConfigError(f"batch: there is no column {quote(name)} to keep, it has {', '.join(names[:5])}")
    pictures = frame.values(found)
    answered = model.predict_pictures(pictures)
    answers = answered.to_columns()
    kept = [names.index(name) for name in wanted]
    found_objects = getattr(answered, "objects", None)  # of a detection alone
    rows = None if found_objects is None else np.repeat(np.arange(len(pictures)), found_objects.counts)
    return kept, rows, answers


def _frame_of(batch: Any) -> _Frame:
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
        columns = found | to_arrow(answers)
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
            found = found.iloc[rows].reset_index(drop=True)
        return pd.concat([found, pd.DataFrame(answers, index=found.index)], axis=1)


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
        return found | answers


def _as_arrow(column: Any, name: str) -> pa.Array:
    import pyarrow as pa

    try:
        found = pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as e:
        line = str(e).splitlines()[0]
        raise InvalidInput(f"batch: column {quote(name)} is no column of one type ({line})", column=name) from e
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
