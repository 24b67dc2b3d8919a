"""One row of plain Python values into tensors, in a few microseconds.

1. pick     the values, in the order of the tensors
2. look up  categories, truths and dates in tables made beforehand; numbers pass
3. pack     all tensors of one datatype at once
4. prove    by one sum of squares that every number is finite, present and not rounded

Where a step does not succeed, the readers read value by value: they know why. Knows no table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InvalidInput
from foretell.model.data.cells import Unfit, quote, shown
from foretell.model.data.columns import PLAIN_TYPES
from foretell.model.data.numbers import NumberReader
from foretell.model.data.reader import Reader
from foretell.model.data.vocabulary import Notes

__all__ = ["RowEncoder", "Slot"]

Tensors = dict[str, NDArray[Any]]

_EXACT_SQUARED = 2.0**106
"""A sum of squares below this proves that no integer was rounded."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One column of a tensor: the name and position of its field, and how it is read."""

    field: str
    at: int
    reader: Reader


class RowEncoder:
    """Encodes one row for all tensors of a signature."""

    def __init__(self, tensors: Sequence[tuple[str, tuple[int, ...], Sequence[Slot]]]) -> None:
        by_dtype: dict[Any, list[tuple[str, tuple[int, ...], Sequence[Slot]]]] = {}
        for name, shape, slots in tensors:
            by_dtype.setdefault(slots[0].reader.dtype, []).append((name, shape, slots))
        self._groups = [_Group(members) for members in by_dtype.values()]
        self._slots = [slot for _, _, slots in tensors for slot in slots]

    def by_name(self, row: Mapping[str, Any]) -> Tensors | None:
        """Return tensors of one row by name, or None where a closer look is needed."""
        return self._quick(row, by_name=True)

    def by_position(self, row: Sequence[Any]) -> Tensors | None:
        """Return tensors of one row by position, or None where a closer look is needed."""
        return self._quick(row, by_name=False)

    def careful(self, value_of: Callable[[Slot], Any], notes: Notes, row: int = 0) -> Tensors:
        """Return tensors of one row, value by value.

        Raises:
            InvalidInput: The first value that the model cannot take.
        """
        cells: dict[int, Any] = {}
        for slot in self._slots:
            value = value_of(slot)
            try:
                cells[id(slot)] = slot.reader.read(value, notes)
            except Unfit as unfit:
                name = slot.field
                line = f"column {quote(name)}, row {row}: got {shown(value)}, {unfit}"
                raise InvalidInput(line, column=name, row=row) from None
        inputs: Tensors = {}
        for group in self._groups:
            inputs.update(group.place([cells[id(slot)] for slot in group.slots]))
        return inputs

    def _quick(self, row: Any, *, by_name: bool) -> Tensors | None:
        groups = self._groups
        try:
            if len(groups) == 1:
                return groups[0].quick(row, by_name)
            inputs: Tensors = {}
            for group in groups:
                found = group.quick(row, by_name)
                if found is None:
                    return None
                inputs.update(found)
        except (KeyError, TypeError, Unfit, OverflowError, struct.error):
            return None  # a column is absent, or a value is not as plain as it should be
        return inputs


class _Group:
    """All tensors of one datatype."""

    def __init__(self, members: Sequence[tuple[str, tuple[int, ...], Sequence[Slot]]]) -> None:
        self.slots = [slot for _, _, slots in members for slot in slots]
        self.dtype = self.slots[0].reader.dtype
        self._tables = [slot.reader.known() for slot in self.slots]
        plain = [s.reader for s, t in zip(self.slots, self._tables, strict=True) if t is None]
        self._lookup = len(plain) < len(self.slots)
        self._nullable = all(reader.nullable for reader in plain)
        simple = all(isinstance(reader, NumberReader) and reader.plain for reader in plain)
        self._is_quick = simple and not (plain and self.dtype.kind in "bO")
        safe = min((reader.safe for reader in plain if isinstance(reader, NumberReader)), default=np.inf)
        self._safe = min(safe, _EXACT_SQUARED)
        self._by_name = _pick([slot.field for slot in self.slots])
        self._by_position = _pick([slot.at for slot in self.slots])
        width = len(self.slots)
        self._pack = None if self.dtype.kind == "O" else struct.Struct(f"{width}{self.dtype.char}").pack_into
        self._names = [name for name, _, _ in members]
        self._shape, self._parts = _layout(members, width)

    def quick(self, row: Any, by_name: bool) -> Tensors | None:
        if not self._is_quick:
            return None
        cells = self._by_name(row) if by_name else self._by_position(row)
        if self._lookup:
            cells = [v if table is None else table[v] for v, table in zip(cells, self._tables, strict=True)]
        if self._pack is None:
            return self.place(cells)
        if not PLAIN_TYPES.issuperset(map(type, cells)):
            if self.dtype.kind != "f" or not (set(map(type, cells)) - PLAIN_TYPES) <= {type(None)}:
                return None
            cells = [np.nan if v is None else v for v in cells]
        out = np.empty(self._shape, self.dtype)
        self._pack(out.data, 0, *cells)
        if self.dtype.kind == "f" and not self._is_proven(out):
            return None
        return self._split(out)

    def place(self, cells: Sequence[Any]) -> Tensors:
        """Return tensors of elements that the readers gave."""
        out = np.empty(len(cells), self.dtype)
        out[:] = cells
        return self._split(out.reshape(self._shape))

    def _is_proven(self, out: NDArray[Any]) -> bool:
        if out.dtype == np.float16:
            out = out.astype(np.float64)
        squares = float(np.vdot(out, out))
        if squares < self._safe:
            return True
        if squares == squares or not self._nullable:
            return False
        present = out[out == out]
        return float(np.vdot(present, present)) < self._safe

    def _split(self, out: NDArray[Any]) -> Tensors:
        if self._parts is None:
            return dict(zip(self._names, out, strict=True)) if len(self._names) > 1 else {self._names[0]: out}
        flat = out.reshape(-1)
        return {name: flat[start:stop].reshape(shape) for name, start, stop, shape in self._parts}


def _layout(
    members: Sequence[tuple[str, tuple[int, ...], Sequence[Slot]]], width: int
) -> tuple[tuple[int, ...], list[tuple[str, int, int, tuple[int, ...]]] | None]:
    """Return the shape of all elements of a group, and the parts of its tensors where iterating does not give them."""
    shapes = {shape for _, shape, _ in members}
    if len(members) == 1:
        return (1, *members[0][1]), None
    if len(shapes) == 1:
        return (len(members), 1, *shapes.pop()), None
    parts, start = [], 0
    for name, shape, slots in members:
        parts.append((name, start, start + len(slots), (1, *shape)))
        start += len(slots)
    return (width,), parts


def _pick(keys: Sequence[Any]) -> Callable[[Any], Sequence[Any]]:
    """Return a function that picks these keys of a row, always as a sequence."""
    if len(keys) == 1:
        (key,) = keys
        return lambda row: (row[key],)
    found: Callable[[Any], Sequence[Any]] = itemgetter(*keys)
    return found
