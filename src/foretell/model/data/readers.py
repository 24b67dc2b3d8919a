"""Categories, texts and dates: how one value becomes a code, a text or nanoseconds; and which reader a column gets.

Knows no table.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from foretell.dtypes import dtype_of
from foretell.errors import ArtifactInvalid
from foretell.model.data.cells import (
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
from foretell.model.data.numbers import NumberReader, limits
from foretell.model.data.reader import Cell, Known, Reader
from foretell.model.data.vocabulary import MISSING, UNKNOWN, Notes, Vocabulary
from foretell.signature import Column, Field

__all__ = ["DateReader", "reader_of"]


class CodeReader(Reader):
    """The index of the value among the categories."""

    def __init__(self, field: Field, dtype: np.dtype[Any]) -> None:
        super().__init__(field, dtype, math.nan if dtype.kind == "f" else limits(dtype)[0])
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
        self._is_free = not field.categories
        """Any text may come, so one that spells a missing value may have meant itself: that is noted."""

    def read(self, value: Any, notes: Notes) -> Cell:
        """Return the text; see `Reader.read`."""
        index = self.vocabulary.find(value, notes)
        if index == MISSING:
            if self._is_free and isinstance(value, str) and value.strip():
                name = self.field.name
                notes.setdefault(f"missing {name}", f"column {quote(name)}: {shown(value)} was read as a missing value")
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
        if self._is_free:
            return Known({None: self.missing}, self._free_text)
        return Known(table, lambda text: text)

    def _free_text(self, text: str) -> Cell:
        if text in MISSING_TEXTS:
            raise KeyError(text)  # to be noted
        return text


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
