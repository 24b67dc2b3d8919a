"""Encodes a whole column for a tensor, at the speed of arrays, as its reader would value by value.

A fast path may only pass what the reader would take unchanged. Whatever it does not understand goes
to the reader, which also words every refusal. Knows no table and no door.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InternalError, InvalidInput
from foretell.model.data.cells import Unfit, quote, shown
from foretell.model.data.dates import nanoseconds_of
from foretell.model.data.numbers import NumberReader
from foretell.model.data.reader import Reader
from foretell.model.data.readers import DateReader
from foretell.model.data.vocabulary import Notes

__all__ = ["PLAIN_TYPES", "Coded", "ColumnEncoder", "Numbers", "Source"]

PLAIN_TYPES = frozenset({float, int, bool, np.bool_, np.float16, np.float32, np.float64}) | {
    np.dtype(code).type for code in "bhilqBHILQ"
}
"""Types whose values are numbers and nothing else."""
_WHOLE_TYPES = PLAIN_TYPES - {float, np.float16, np.float32, np.float64}
_NONE = frozenset({type(None)})
_EXACT = float(1 << 53)


class Numbers(NamedTuple):
    """A column of numbers or truths, and where it has none."""

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None


class Coded(NamedTuple):
    """A column as indices into its distinct values; a negative index is a missing value."""

    codes: NDArray[Any]
    values: Sequence[Any]


Source = Numbers | Coded | NDArray[Any] | Sequence[Any]


class ColumnEncoder:
    """Encodes columns of one field for one column of a tensor."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.name = reader.field.name
        self._known = reader.known()
        self._plain = reader if isinstance(reader, NumberReader) and reader.plain else None

    def encode(self, source: Source, notes: Notes, first_row: int = 0) -> NDArray[Any]:
        """Return the column as an array that casts to the tensor's dtype without loss of range.

        Args:
            source: Values of any kind: objects, an array, numbers with a mask, or codes.
            notes: Gets a line for what was coerced.
            first_row: Index of the first value in the whole input, for messages.

        Raises:
            InvalidInput: The first value that the model cannot take, with its column and row.
        """
        if isinstance(source, Coded):
            return self._encode_codes(source, notes, first_row)
        if isinstance(source, Numbers):
            return self._encode_numbers(source, notes, first_row)
        if isinstance(source, np.ndarray):
            if source.dtype.kind in "biuf" and source.dtype.itemsize <= 8:
                return self._encode_numbers(Numbers(source), notes, first_row)
            if source.dtype.kind == "M":
                return self._encode_dates(source, notes, first_row)
            source = source.tolist() if source.dtype.kind in "OUS" else list(source)  # list keeps numpy's types
        return self._encode_objects(source, notes, first_row)

    def _encode_objects(self, values: Sequence[Any], notes: Notes, first_row: int) -> NDArray[Any]:
        if self._plain is not None:
            found = self._plain_objects(values, notes, first_row)
            if found is not None:
                return found
        elif self._known is not None:
            known = self._known
            try:
                return self._array([known[v] for v in values])
            except (KeyError, TypeError, Unfit):
                pass  # not in the table, or of a type that no table holds: the reader knows
        cells = []
        read = self.reader.read
        for row, value in enumerate(values):
            try:
                cells.append(read(value, notes))
            except Unfit as unfit:
                raise self._refusal(value, row + first_row, unfit) from None
        return self._array(cells)

    def _plain_objects(self, values: Sequence[Any], notes: Notes, first_row: int) -> NDArray[Any] | None:
        """Encode plain numbers and None; None where a value is anything else, or too large."""
        kinds = frozenset(map(type, values))
        try:
            if self.reader.dtype.kind == "f" and kinds <= PLAIN_TYPES | _NONE:
                numbers = np.array(values, np.float64)
                if kinds & _WHOLE_TYPES and _beyond(numbers):
                    return None
                return self._encode_numbers(Numbers(numbers), notes, first_row, values)
            if kinds <= _WHOLE_TYPES:
                return self._encode_numbers(Numbers(np.array(values, np.int64)), notes, first_row, values)
        except OverflowError:
            pass
        return None

    def _encode_numbers(
        self, source: Numbers, notes: Notes, first_row: int, shown_as: Sequence[Any] | None = None
    ) -> NDArray[Any]:
        values, missing = source
        if values.dtype == np.float16:  # its sums overflow early
            values = values.astype(np.float32)
        plain = self._plain
        if plain is None:
            return self._encode_distinct(Numbers(values, missing), notes, first_row)
        if plain.is_float:
            found = values if values.dtype.kind == "f" else values.astype(np.float64)
            if missing is not None:
                found = np.where(missing, np.nan, found)
            if _is_safe(found, plain.safe) and (found is values or not _beyond(found)):
                return found
            bad = plain.misfits(found)
        else:
            found, bad = values, plain.misfits(values)
            if missing is not None:
                bad |= missing
        if bad.any():
            row = int(bad.argmax())
            value = None if missing is not None and missing[row] else values[row] if shown_as is None else shown_as[row]
            self._refuse(value, row + first_row)
        if values.dtype.kind in "iu" and found is not values:
            self._note_rounded(values, found, missing, notes)
        return found

    def _note_rounded(
        self, values: NDArray[Any], found: NDArray[Any], missing: NDArray[np.bool_] | None, notes: Notes
    ) -> None:
        large = np.abs(found) >= _EXACT
        if missing is not None:
            large &= ~missing
        for value in values[large].tolist():
            if int(float(value)) != value:
                self.reader.read(value, notes)
                return

    def _encode_distinct(self, source: Numbers, notes: Notes, first_row: int) -> NDArray[Any]:
        """Encode numbers that mean categories, truths or texts: each distinct one once."""
        values, missing = source
        distinct, codes = np.unique(values, return_inverse=True) if len(values) < _HASH_ROWS else _distinct(values)
        if missing is not None:
            codes = np.where(missing, -1, codes)
        return self._encode_codes(Coded(codes, distinct.tolist()), notes, first_row)

    def _encode_codes(self, source: Coded, notes: Notes, first_row: int) -> NDArray[Any]:
        codes, values = source
        used = np.zeros(len(values) + 1, np.bool_)
        used[codes] = True  # a negative code is the last place
        used[-1] = used[-1] or bool(len(codes) and codes.min() < 0)
        cells: list[Any] = []
        unfit = []
        for at, value in enumerate((*values, None)):
            try:
                cells.append(self._cell(value, notes) if used[at] else self._filler)
            except Unfit:
                cells.append(self._filler)
                unfit.append(at if at < len(values) else -1)
        if unfit:
            row = int(np.isin(codes, unfit).argmax())
            code = int(codes[row])
            self._refuse(values[code] if code >= 0 else None, row + first_row)
        return self._array(cells).take(codes, mode="wrap")

    def _encode_dates(self, values: NDArray[Any], notes: Notes, first_row: int) -> NDArray[Any]:
        if not isinstance(self.reader, DateReader):
            return self._encode_objects(list(values), notes, first_row)
        found, good = nanoseconds_of(values)
        bad = ~good if self.reader.nullable else ~good | np.isnat(values)
        if bad.any():
            row = int(bad.argmax())
            self._refuse(values[row], row + first_row)
        return found

    def _cell(self, value: Any, notes: Notes) -> Any:
        if self._known is not None:
            try:
                return self._known[value]
            except (KeyError, TypeError):
                pass
        return self.reader.read(value, notes)

    def _array(self, cells: list[Any]) -> NDArray[Any]:
        dtype = self.reader.dtype
        if dtype.kind == "O":
            out = np.empty(len(cells), object)
            out[:] = cells
            return out
        return np.array(cells, np.float64 if dtype.kind == "f" else dtype)

    @property
    def _filler(self) -> Any:
        return "" if self.reader.dtype.kind == "O" else 0

    def _refuse(self, value: Any, row: int) -> None:
        try:
            self.reader.read(value, {})
        except Unfit as unfit:
            raise self._refusal(value, row, unfit) from None
        raise InternalError(
            f"column {quote(self.name)}, row {row}: {shown(value)} was refused for no reason. This is a bug."
        )

    def _refusal(self, value: Any, row: int, unfit: Unfit) -> InvalidInput:
        return InvalidInput(
            f"column {quote(self.name)}, row {row}: got {shown(value)}, {unfit}", column=self.name, row=row
        )


_HASH_ROWS = 512
"""From so many rows on, hashing beats sorting."""


def _is_safe(values: NDArray[Any], safe: float) -> bool:
    """Whether floats are surely all finite, not missing and within the tensor's range; False where it is not sure.

    One pass, by the sum of squares: NaN and infinity survive in it, and no square exceeds it.
    """
    return float(np.vdot(values, values)) < safe


def _beyond(values: NDArray[Any]) -> bool:
    """Whether any of these floats is as large as integers that float64 cannot hold."""
    return bool(len(values) and (np.fmax.reduce(values) >= _EXACT or np.fmin.reduce(values) <= -_EXACT))


def _distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return distinct values and the code of each, by hashing."""
    import pyarrow as pa

    found = pa.array(values.astype(values.dtype.newbyteorder("="), copy=False)).dictionary_encode()
    return found.dictionary.to_numpy(zero_copy_only=False), found.indices.to_numpy()
