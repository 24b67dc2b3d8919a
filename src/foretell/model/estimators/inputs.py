"""What a fitted estimator is fed: its columns, the values its encoders know, and the matrix a graph takes instead.

Each use of a raw column is a column of one matrix: its number, or the code of its category. Codes follow the
vocabulary of the column: the values of all encoders that read it. Knows numpy, and no estimator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.estimators.graph import Raw
from foretell.signature import Column, Encoding, Field, Label

__all__ = ["Inputs", "is_missing", "plain"]


def is_missing(value: Any) -> bool:
    """Return whether a value of an encoder stands for a missing one: None, NaN, pandas.NA or NaT."""
    return value is None or value != value or type(value).__name__ in ("NAType", "NaTType")


def plain(value: Any) -> Label:
    """Return a value of an encoder as a plain label; whole floats become integers.

    Raises:
        TypeError: It is not a string, a number or a boolean.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"a category of type {type(value).__name__}, expected a string, a number or a boolean")


@dataclass
class Inputs:
    """Columns of the table that the estimator was fitted on, and what is learned of them on the way."""

    names: tuple[str, ...]
    named: bool
    """Whether the estimator was fitted on a frame, and so wants one."""
    flat: bool = False
    """Whether it takes a list of texts, as text vectorizers do, not a table."""
    vocabulary: dict[int, list[Label]] = field(default_factory=dict)
    """Known values by column, in the order of their codes."""
    none_missing: set[int] = field(default_factory=set)
    """Columns whose missing values were None in training, not NaN: encoders tell them apart."""
    texts: set[int] = field(default_factory=set)
    """Columns that hold strings, vocabulary or not."""
    closed: set[int] = field(default_factory=set)
    required: set[int] = field(default_factory=set)
    low: dict[int, float] = field(default_factory=dict)
    high: dict[int, float] = field(default_factory=dict)
    uses: dict[tuple[int, Encoding], int] = field(default_factory=dict)
    """Position in the matrix of each use of a column."""
    grown: bool = False
    """A vocabulary has grown since this was last set to False."""

    def position(self, column: int, encoding: Encoding) -> int:
        """Return where in the matrix a use of a column stands."""
        return self.uses.setdefault((column, encoding), len(self.uses))

    def learn(self, column: int, values: Iterable[Any]) -> None:
        """Add values of an encoder to the vocabulary of a column."""
        known = self.vocabulary.setdefault(column, [])
        seen = {(type(v) is str, v) for v in known}
        for value in values:
            if is_missing(value):
                if value is None:
                    self.none_missing.add(column)
                continue
            label = plain(value)
            if (type(label) is str, label) not in seen:
                seen.add((type(label) is str, label))
                known.append(label)
                self.grown = True

    def span(self, columns: Sequence[int], low: Sequence[float], high: Sequence[float]) -> None:
        """Remember the range that a step saw in training, for columns where none is known yet."""
        for column, least, most in zip(columns, low, high, strict=True):
            if math.isfinite(least) and math.isfinite(most):
                self.low.setdefault(column, float(least))
                self.high.setdefault(column, float(most))

    def missing(self, column: int) -> Any:
        """Return what stands for a missing value of a column in a frame."""
        return None if column in self.none_missing else np.nan

    def unknown(self, column: int) -> Label:
        """Return a value that the vocabulary of a column does not hold."""
        known = self.vocabulary[column]
        if any(isinstance(v, str) for v in known):
            return "\x1funknown"
        return max((float(v) for v in known), default=0.0) + 1.5

    def is_text(self, column: int) -> bool:
        """Return whether a column holds strings."""
        return column in self.texts or any(isinstance(v, str) for v in self.vocabulary.get(column, ()))

    def frame(self, columns: Mapping[int, Sequence[Any] | NDArray[Any]], rows: int) -> Any:
        """Return rows as the estimator takes them: a frame with its names, or an array.

        Args:
            columns: Values by column; a column that is not here is all missing.
            rows: How many rows there are.
        """
        empty = np.full(rows, np.nan)
        filled = {c: self._typed(c, columns.get(c, empty)) for c in range(len(self.names))}
        if self.flat:
            return [value if isinstance(value, str) else "" for value in filled[0].tolist()]
        if self.named:
            import pandas as pd

            return pd.DataFrame({self.names[c]: v for c, v in filled.items()}, index=range(rows))
        mixed = any(v.dtype == object for v in filled.values())
        out = np.empty((rows, len(filled)), object if mixed else np.float64)
        for c, v in filled.items():
            out[:, c] = v
        return out

    def select(self, table: Any, columns: Raw) -> Any:
        """Return some columns of what `frame` made, by position."""
        return table.iloc[:, list(columns.columns)] if self.named else table[:, list(columns.columns)]

    def _typed(self, column: int, values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
        if isinstance(values, np.ndarray) and values.dtype != object:
            return values
        known = self.vocabulary.get(column, ())
        if self.is_text(column) or any(isinstance(v, (str, bool)) for v in known) or column in self.none_missing:
            return _objects(values)
        try:
            return np.array([np.nan if v is None else v for v in values], np.float64)
        except (TypeError, ValueError):
            return _objects(values)

    def fields(self) -> tuple[Field, ...]:
        """Return the fields that the matrix is made of, in the order of the columns."""
        used = sorted({column for column, _ in self.uses})
        return tuple(self.field(c) for c in used)

    def field(self, column: int) -> Field:
        """Return one column as a field."""
        category = (column, "code") in self.uses
        return Field(
            self.names[column],
            "category" if category else "number",
            nullable=column not in self.required,
            categories=tuple(self.vocabulary.get(column, ())) if category else (),
            closed=column in self.closed,
            low=self.low.get(column),
            high=self.high.get(column),
        )

    def columns(self) -> tuple[Column, ...]:
        """Return the columns of the matrix, in order."""
        return tuple(Column(self.names[c], encoding) for c, encoding in self.uses)


def _objects(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    out = np.empty(len(values), object)
    out[:] = values
    return out
