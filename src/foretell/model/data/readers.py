"""How one value of a field becomes one element of a tensor: the rule that every door obeys.

A reader is compiled once for each column of each tensor. Knows no table; `columns` and `row` apply it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from foretell.dtypes import dtype_of
from foretell.errors import ArtifactInvalid
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
    spellings,
)
from foretell.model.data.dates import MISSING_DATE, nanoseconds
from foretell.model.data.vocabulary import MISSING, UNKNOWN, Notes, Vocabulary
from foretell.signature import Column, Field

__all__ = ["Cell", "DateReader", "Known", "NumberReader", "Reader", "reader_of"]

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


class NumberReader(Reader):
    """The value itself, in a tensor of floats, integers or truths."""

    def __init__(self, field: Field, dtype: np.dtype[Any]) -> None:
        super().__init__(field, dtype, math.nan)
        self.is_float = dtype.kind == "f"
        self.nullable = field.nullable and self.is_float
        self.vocabulary = Vocabulary(field) if field.categories else None
        self.plain = field.kind in ("number", "integer") and not (field.closed and field.categories)
        """Any number that fits the tensor will do."""
        low, high = _limits(dtype)
        self.low, self.high = low, high
        """Least and greatest integer; for floats the least magnitude that rounds to infinity, on both sides."""
        self.safe = high * high if self.is_float else 0.0
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
                raise Unfit(f"expected {_KINDS[self.field.kind]}")
            return number
        if text in MISSING_TEXTS:
            return None
        number = self._parse(text)
        if number is None:
            raise Unfit(f"expected {_KINDS[self.field.kind]}, this is text; send a number")
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


class CodeReader(Reader):
    """The index of the value among the categories."""

    def __init__(self, field: Field, dtype: np.dtype[Any]) -> None:
        super().__init__(field, dtype, math.nan if dtype.kind == "f" else _limits(dtype)[0])
        self.vocabulary = Vocabulary(field)
        self.nullable = field.nullable and dtype.kind in "fi"
        self.closed = field.closed or dtype.kind not in "fi"
        self.as_cell: type[float] | type[int] = float if dtype.kind == "f" else int

    def read(self, value: Any, notes: Notes) -> Cell:
        """Return the code; see `Reader.read`."""
        index = self.vocabulary.find(value, notes)
        if index == MISSING:
            return self.none()
        if index == UNKNOWN and self.closed:
            raise Unfit(self.vocabulary.expected())
        return self.as_cell(index)

    def known(self) -> Known | None:
        """Return the codes."""
        found = self.vocabulary.texts | self.vocabulary.numbers
        table = self._missing_table() | {value: self.as_cell(index) for value, index in found.items()}
        if self.closed or self.vocabulary.numbers or not self.nullable:
            return Known(table, lambda text: self.read(text, {}))
        unknown = self.as_cell(UNKNOWN)
        return Known(table, lambda text: unknown)


class TextReader(Reader):
    """The value as text, a known category in its own spelling."""

    def __init__(self, field: Field, dtype: np.dtype[Any], missing_text: str | None) -> None:
        super().__init__(field, dtype, missing_text)
        self.vocabulary = Vocabulary(field)

    def read(self, value: Any, notes: Notes) -> Cell:
        """Return the text; see `Reader.read`."""
        index = self.vocabulary.find(value, notes)
        if index == MISSING:
            return self.none()
        if index != UNKNOWN:
            return self.vocabulary.text_of(index)
        if self.field.closed:
            raise Unfit(self.vocabulary.expected())
        text = as_text(value)
        number = as_number(value) if text is None else parse_number(text) if self.vocabulary.numbers else None
        if number is None:
            return text
        truth = isinstance(value, (bool, np.bool_))
        spelled = spellings(bool(number) if truth else number)[0]
        if text is None:
            name = quote(self.field.name)
            line = f'column {name}: {shown(value)} was read as the text "{spelled}"'
            notes.setdefault(f"spelling {self.field.name}", line)
        return spelled

    def known(self) -> Known | None:
        """Return the categories in their own spelling."""
        found = self.vocabulary.texts | self.vocabulary.numbers
        table = self._missing_table() | {value: self.vocabulary.text_of(index) for value, index in found.items()}
        if self.field.closed or self.vocabulary.numbers or not self.nullable:
            return Known(table, lambda text: self.read(text, {}))
        return Known(table, lambda text: text)


class DateReader(Reader):
    """Nanoseconds since 1970-01-01 UTC."""

    def __init__(self, field: Field, dtype: np.dtype[Any]) -> None:
        super().__init__(field, dtype, MISSING_DATE)

    def read(self, value: Any, notes: Notes) -> Cell:
        """Return the nanoseconds; see `Reader.read`."""
        text = as_text(value)
        if text in MISSING_TEXTS or (text is None and is_missing(value)):
            return self.none()
        return nanoseconds(value if text is None else text)

    def known(self) -> Known | None:
        """Return the spellings of missing; any other text is parsed."""
        return Known(self._missing_table(), lambda text: self.read(text, {}))


def reader_of(field: Field, column: Column, datatype: str, missing_text: str | None) -> Reader:
    """Return the reader of one column of a tensor.

    Raises:
        ArtifactInvalid: The encoding does not fit the datatype of the tensor.
    """
    dtype = dtype_of(datatype)
    if column.encoding == "number" and dtype.kind in "fiub":
        return NumberReader(field, dtype)
    if column.encoding == "code" and dtype.kind in "fiu":
        return CodeReader(field, dtype)
    if column.encoding == "text" and dtype.kind == "O":
        return TextReader(field, dtype, missing_text)
    if column.encoding == "date" and datatype == "INT64":
        return DateReader(field, dtype)
    raise ArtifactInvalid(
        f'signature: column {quote(field.name)} as "{column.encoding}" does not fit a {datatype} tensor'
    )


_KINDS = {
    "number": "a number",
    "integer": "a number",
    "boolean": "true or false",
    "category": "a number",
    "text": "a number",
    "date": "a number",
}


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
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
