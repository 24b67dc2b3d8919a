"""What every reader is: the rule by which one value of a field becomes one element of a tensor.

A reader is compiled once for each column of each tensor. Knows no table; `columns` and `row` apply it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from foretell.model.data.cells import MISSING_TEXTS, Unfit
from foretell.model.data.vocabulary import Notes
from foretell.signature import Field

__all__ = ["Cell", "Known", "Reader"]

Cell = float | int | bool | str | None


class Known(dict[Any, Cell]):
    """Elements of values by lookup. What is not in it is looked at once more if it is text or NaN; else KeyError."""

    def __init__(self, table: Mapping[Any, Cell], other: Callable[[str], Cell] | None = None) -> None:
        super().__init__(table)
        self._other = other

    def __missing__(self, value: Any) -> Cell:
        if type(value) is str and self._other is not None:
            return self._other(value)
        if type(value) is float and value != value and None in self:
            return self[None]
        raise KeyError(value)


class Reader:
    """Reads values of one field for one column of a tensor."""

    def __init__(self, field: Field, dtype: np.dtype[Any], missing: Cell) -> None:
        self.field = field
        self.dtype = dtype
        self.missing = missing
        """What a missing value becomes in the tensor."""
        self.nullable = field.nullable
        """Whether a value may be missing: the field allows it and the tensor can say it."""

    def read(self, value: Any, notes: Notes) -> Cell:
        """Return the element that a value becomes.

        Raises:
            Unfit: The model cannot take it.
        """
        raise NotImplementedError

    def known(self) -> Known | None:
        """Return elements of values that can be looked up; None where a lookup is no use.

        It gives what `read` gives and never for a value that `read` notes; it raises KeyError, TypeError or Unfit
        where `read` must look.
        """
        raise NotImplementedError

    def _missing_table(self) -> dict[Any, Cell]:
        return dict.fromkeys((None, *MISSING_TEXTS), self.missing) if self.nullable else {}

    def none(self) -> Cell:
        """Return the element of a missing value, or refuse it."""
        if not self.nullable:
            raise Unfit("expected a value: the model takes none missing here")
        return self.missing
