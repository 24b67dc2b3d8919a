"""Every row of a block of delimited text that cannot be parsed, where `text` names the first one only.

What is told of a row depends on the row alone: not on its neighbours, nor on where a block ends.
Knows dialects and cells; of what a model takes it knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.bulk.blocks import Fault
from foretell.bulk.columns import Chosen, TextType
from foretell.bulk.cut import row_starts
from foretell.bulk.dialect import Dialect
from foretell.bulk.numbers import all_bad_cells

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NUL", "not_text", "ragged", "shape_of", "text_faults", "text_without"]

Reads = Callable[[bytes, Callable[[Any], str]], "dict[int, pa.Array]"]
"""Returns the cells of a text as bytes, by column; rows with too few or too many go to a function and are left out."""

NUL = "a NUL byte, expected text in UTF-8; is the file damaged?"


_PLAIN = bytes(range(128)) + b"?" * 128


def not_text(cell: bytes, at: int) -> str:
    """Return what is wrong with a cell whose byte `at` is not UTF-8."""
    return f"byte 0x{cell[at]:02x} is not UTF-8, expected text in UTF-8; save the file as UTF-8"


def ragged(got: int, expected: int) -> str:
    """Return what is wrong with a row of another number of cells."""
    return f"{got} cell{'s' * (got != 1)}, expected {expected} as in the header; quote cells that hold the delimiter"


def shape_of(text: bytes) -> bytes:
    """Return a text with the same cells that is UTF-8, itself if it is: Arrow cannot tell of a row that is not."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.translate(_PLAIN)
    return text


def text_without(text: bytes, dialect: Dialect, rows: Sequence[int]) -> bytes:
    """Return a text without some of its rows, given in rising order."""
    starts = row_starts(text, dialect.newline, dialect.delimiter)
    ends = [*starts[1:], len(text)]
    cuts = [0, *(place for row in rows for place in (starts[row], ends[row])), len(text)]
    return b"".join(text[a:b] for a, b in zip(cuts[::2], cuts[1::2], strict=True))


def text_faults(text: bytes, dialect: Dialect, chosen: Chosen, types: dict[str, TextType], read: Reads) -> list[Fault]:
    """Return all rows that cannot be parsed, in their order.

    Of several faults of a row the one told is: a NUL byte, the number of cells, bytes that are no text, a number.
    """
    starts = row_starts(text, dialect.newline, dialect.delimiter)
    look = _Look(text, [*starts, len(text)], dialect, chosen, types, read)
    nul = np.flatnonzero(np.frombuffer(text, np.uint8) == 0)
    for row in np.unique(np.searchsorted(starts, nul, "right") - 1).tolist():
        look.found[max(row, 0)] = Fault(max(row, 0), None, NUL)
    look.at(np.array([row for row in range(len(starts)) if row not in look.found], np.intp))
    return [look.found[row] for row in sorted(look.found)]


@dataclass
class _Look:
    """What is found in one block."""

    text: bytes
    bounds: list[int]
    dialect: Dialect
    chosen: Chosen
    types: dict[str, TextType]
    read: Reads
    found: dict[int, Fault] = field(default_factory=dict)

    def at(self, rows: NDArray[np.intp]) -> None:
        """Look at some rows; what cannot be read together is read by halves."""
        import pyarrow as pa

        if not len(rows):
            return
        bad: list[Any] = []

        def take(row: Any) -> str:
            bad.append(row)
            return "skip"

        piece = b"".join(self.text[self.bounds[row] : self.bounds[row + 1]] for row in rows.tolist())
        try:
            cells = self.read(shape_of(piece), take)
            if shape_of(piece) is not piece and not bad:
                cells = self.read(piece, take)
        except pa.ArrowInvalid:
            self._halve(rows)
            return
        wrong = [row.number - 1 for row in bad]
        if len(next(iter(cells.values()))) + len(wrong) != len(rows):
            self._halve(rows)
            return
        for row, told in zip(rows[wrong].tolist(), bad, strict=True):
            self.found[row] = Fault(row, None, ragged(told.actual_columns, told.expected_columns))
        if bad:
            self.at(np.delete(rows, wrong))
        else:
            self._cells(rows, cells)

    def _halve(self, rows: NDArray[np.intp]) -> None:
        if len(rows) > 1:
            for half in np.array_split(rows, 2):
                self.at(half)
        else:
            row = int(rows[0])
            self.found[row] = Fault(row, None, "it cannot be read; check the quotes and the delimiter")

    def _cells(self, rows: NDArray[np.intp], cells: dict[int, pa.Array]) -> None:
        """Look at the cells of rows that have the right number of them."""
        import pyarrow as pa

        texts = {at: _texts(column) for at, column in cells.items()}
        for at in self.chosen.positions:
            if texts[at] is None:
                self._not_text(rows, cells[at], self.dialect.names[at])
        good = np.array([row not in self.found for row in rows.tolist()], np.bool_)
        left = rows[good].tolist()
        for at, name in self.chosen.fields:
            if self.types[name] == "text":
                continue
            for cell in all_bad_cells(cells[at].filter(pa.array(good)).cast(pa.string())):
                row = left[cell.row]
                self.found.setdefault(row, Fault(row, name, cell.problem))

    def _not_text(self, rows: NDArray[np.intp], cells: pa.Array, name: str) -> None:
        for row, cell in zip(rows.tolist(), cells.to_pylist(), strict=True):
            try:
                cell.decode()
            except UnicodeDecodeError as e:
                self.found.setdefault(row, Fault(row, name, not_text(cell, e.start)))


def _texts(cells: pa.Array) -> pa.Array | None:
    """Return cells as texts, None where one of them is no UTF-8."""
    import pyarrow as pa

    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        return None
