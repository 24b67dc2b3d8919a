"""Numbers and truths: a value itself, in a tensor of floats, integers or truths.

Knows no category by its code, and no table.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.data.cells import (
    BOOLEAN_TEXTS,
    MISSING_TEXTS,
    Unfit,
    as_number,
    as_text,
    is_missing,
    parse_number,
    quote,
    shown,
)
from foretell.model.data.reader import Cell, Known, Reader
from foretell.model.data.vocabulary import Notes, Vocabulary
from foretell.signature import Field

__all__ = ["NumberReader", "limits"]


class NumberReader(Reader):
    """The value itself, in a tensor of floats, integers or truths."""

    def __init__(self, field: Field, dtype: np.dtype[Any]) -> None:
        super().__init__(field, dtype, math.nan)
        self.is_float = dtype.kind == "f"
        self.nullable = field.nullable and self.is_float
        self.vocabulary = Vocabulary(field) if field.categories else None
        self.plain = field.kind in ("number", "integer") and not (field.closed and field.categories)
        """Any number that fits the tensor will do."""
        self._kind = "true or false" if field.kind == "boolean" else "a number"
        self.low, self.high = limits(dtype)
        """Least and greatest integer; for floats the least magnitude that rounds to infinity, on both sides."""
        self.safe = self.high * self.high if self.is_float else 0.0
        """A sum of squares below this proves every float to be finite, present and in range."""

    def read(self, value: Any, notes: Notes) -> Cell:
        """Return the number; see `Reader.read`."""
        number = self._number(value)
        if number is None:
            return self.none()
        if self.field.kind == "boolean" and number not in (0, 1):
            raise Unfit("expected true or false, or 1 or 0")
        if self.field.closed and self.vocabulary and number not in self.vocabulary.numbers:
            raise Unfit(self.vocabulary.expected())
        return self._as_float(number, notes) if self.is_float else self._as_integer(number)

    def known(self) -> Known | None:
        """Return the two truths and their spellings; None for other numbers."""
        if self.field.kind != "boolean":
            return None
        one: tuple[Cell, Cell] = (0.0, 1.0) if self.is_float else (0, 1)
        table: dict[Any, Cell] = {False: one[0], True: one[1]} | {t: one[v] for t, v in BOOLEAN_TEXTS.items()}
        return Known(self._missing_table() | table)

    def _number(self, value: Any) -> int | float | None:
        text = as_text(value)
        if text is None:
            if is_missing(value):
                return None
            number = as_number(value)
            if number is None:
                raise Unfit(f"expected {self._kind}")
            return number
        if text in MISSING_TEXTS:
            return None
        number = self._parse(text)
        if number is None:
            raise Unfit(f"expected {self._kind}, this is text; send a number")
        return number

    def _parse(self, text: str) -> int | float | None:
        if self.field.kind == "boolean":
            return BOOLEAN_TEXTS.get(text)
        return parse_number(text) if self.field.kind == "category" else None

    def _as_float(self, number: int | float, notes: Notes) -> float:
        try:
            near = float(number)
        except OverflowError:
            near = math.inf
        if not abs(near) < self.high:
            raise Unfit(f"expected a finite number that fits {self.dtype}")
        if near != number:
            notes.setdefault(
                f"rounded {self.field.name}",
                f"column {quote(self.field.name)}: {shown(number)} was rounded to {near!r}, the nearest float64",
            )
        return near

    def _as_integer(self, number: int | float) -> int:
        if isinstance(number, float) and not number.is_integer():
            raise Unfit("expected a whole number")
        if not self.low <= number <= self.high:
            raise Unfit(f"expected a whole number from {self.low} to {self.high}")
        return int(number)

    def misfits(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where an array has numbers that the tensor cannot hold, or none where it must have one.

        Args:
            values: (rows,) floats, integers or truths; integers only for tensors of integers.
        """
        if self.is_float:
            inside: NDArray[np.bool_] = np.abs(values, dtype=np.float64) < self.high
            return ~(inside | np.isnan(values)) if self.nullable else ~inside
        bad: NDArray[np.bool_] = np.zeros(values.shape, np.bool_)
        if values.dtype.kind == "f":
            # The greatest integers are not floats; the powers of two beyond them are.
            inside = (values >= float(self.low)) & (values < float(self.high + 1))
            bad = ~(inside & (np.floor(values) == values))
        elif values.dtype.kind in "iu":
            info = np.iinfo(values.dtype)
            if info.min < self.low:
                bad |= values < self.low
            if info.max > self.high:
                bad |= values > self.high
        return bad


def limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the least and greatest integer; for floats the least number that rounds to infinity, twice."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if dtype.itemsize == 8:
        return -math.inf, math.inf
    info = np.finfo(dtype)
    # The greatest number plus half a step: from here on rounding gives infinity.
    over = math.ldexp(2 - 2.0 ** -(info.nmant + 1), int(info.maxexp) - 1)
    return -over, over
