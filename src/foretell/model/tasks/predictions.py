"""Answers in the user's terms.

A `Predictions` holds the raw outputs of one call and reads them only when asked, so that one row in
a hot loop pays for nothing it does not use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.signature import Label

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Predictions", "Task"]

Outputs = list[NDArray[Any]]


class Task(Protocol):
    """What a runtime's outputs mean."""

    @property
    def name(self) -> str:
        """Name of the task in the field's words: `regression`, `classification` ..."""
        ...

    @property
    def classes(self) -> tuple[Label, ...]:
        """Classes of a classifier, in the order of its probabilities; empty for other tasks."""
        ...

    def values(self, outputs: Outputs) -> NDArray[Any]:
        """Return the prediction of each row: numbers, or labels. Shape (rows,) or (rows, targets)."""
        ...

    def probabilities(self, outputs: Outputs) -> NDArray[Any] | None:
        """Return (rows, classes), or None where the model gives none."""
        ...

    def table(self, outputs: Outputs) -> dict[str, NDArray[Any]]:
        """Return the output columns of these rows, in order, by name."""
        ...


class Predictions:
    """Predictions of one call, one per row, in the order of the rows.

    `len`, iteration and indexing go by row and give plain Python values: a number for a regression,
    `{"label", "probability", "probabilities"}` for a classification.
    """

    __slots__ = ("_outputs", "_task", "notes")

    def __init__(self, task: Task, outputs: Outputs, notes: tuple[str, ...] = ()) -> None:
        self._task = task
        self._outputs = outputs
        self.notes = notes
        """What was coerced or ignored in the data, one line each."""

    @property
    def task(self) -> str:
        """Name of the task, `regression` or `classification`."""
        return self._task.name

    @property
    def values(self) -> NDArray[Any]:
        """The prediction of each row: a number, or a label. Shape (rows,) or (rows, targets)."""
        return self._task.values(self._outputs)

    @property
    def labels(self) -> NDArray[Any]:
        """The label of each row of a classification, shape (rows,); AttributeError otherwise."""
        if not self._task.classes:
            raise AttributeError(f"labels: this is a {self.task}, it has no labels; use .values")
        return self._task.values(self._outputs)

    @property
    def classes(self) -> tuple[Label, ...]:
        """Classes in the order of the columns of `probabilities`; empty for other tasks."""
        return self._task.classes

    @property
    def probabilities(self) -> NDArray[Any] | None:
        """Probabilities, shape (rows, classes); None where the model gives none."""
        return self._task.probabilities(self._outputs)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the output columns by name, as `foretell predict` writes them."""
        return self._task.table(self._outputs)

    def to_arrow(self) -> pa.Table:
        """Return the output columns as a `pyarrow.Table`."""
        import pyarrow as pa

        return pa.table({name: pa.array(column) for name, column in self.to_columns().items()})

    def to_pandas(self) -> pd.DataFrame:
        """Return the output columns as a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame(self.to_columns())

    def to_list(self) -> list[Any]:
        """Return one plain Python value per row, as indexing gives them."""
        values: list[Any] = self.values.tolist()
        probabilities = self.probabilities
        if not self.classes:
            return values
        if probabilities is None:
            return [{"label": label} for label in values]
        names = [str(c) for c in self.classes]
        position = {label: i for i, label in enumerate(self.classes)}
        return [
            {"label": label, "probability": row[position[label]], "probabilities": dict(zip(names, row, strict=True))}
            for label, row in zip(values, probabilities.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self._outputs[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_list())

    def __getitem__(self, row: int) -> Any:
        rows = range(len(self))
        at = rows[row]
        return Predictions(self._task, [o[at : at + 1] for o in self._outputs]).to_list()[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype=dtype)

    def __repr__(self) -> str:
        shown = self.to_list() if len(self) <= 8 else [*(self[i] for i in range(5)), "..."]
        lines = "".join(f"\n  {row}" for row in shown)
        return f"<{self.task}: {len(self)} row{'s' * (len(self) != 1)}>{lines}"
