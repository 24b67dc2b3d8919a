"""Parses one block of delimited text into the columns that are wanted.

1. fast      by types, in one pass, only the columns that are read
2. careful   where that fails: the cells as bytes, then texts, then numbers; the first one at fault is named

The careful way reads whatever the fast way reads, the same. Columns it was needed for are read its way
from then on. Safe to call from several threads.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from foretell.bulk.blocks import Fault, Rows
from foretell.bulk.columns import Chosen, TextType
from foretell.bulk.cut import row_starts
from foretell.bulk.dialect import Dialect, cells_of
from foretell.bulk.numbers import BadCell, arrow_type, is_plain, read_numbers
from foretell.bulk.text_faults import NUL, not_text, ragged, shape_of, text_faults
from foretell.errors import InvalidInput
from foretell.model.data.cells import MISSING_TEXTS, quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TextParser"]


class TextParser:
    """Parses the blocks of one file."""

    def __init__(self, dialect: Dialect, chosen: Chosen, types: dict[str, TextType]) -> None:
        self.dialect = dialect
        self._chosen = chosen
        self._types = types
        self._names = [str(at) for at in range(len(dialect.names))]  # the file's own may be empty or alike
        kept = {at for at, _ in chosen.kept}
        self._kinds = {at: types[name] for at, name in chosen.fields}
        self._as_text = {at for at, name in chosen.fields if at in kept or types[name] == "text"} | kept
        self._notes = (*dialect.notes, *chosen.notes)

    def parse(self, text: bytes) -> Rows:
        """Return the rows of a block.

        Raises:
            InvalidInput: A row with too few or too many cells, a cell that is no number, bytes that are no text.
        """
        import pyarrow as pa

        if not text.strip(b"\r\n"):
            return self._rows({at: pa.array([], self._type(at)) for at in self._chosen.positions}, 0)
        if b"\0" in text:
            self._refuse_nul(text)
        try:
            columns = self._read(text, {at: self._type(at) for at in self._chosen.positions})
            return self._rows(columns, len(next(iter(columns.values()))))
        except (pa.ArrowInvalid, BadCell):
            return self._parse_carefully(text)

    def faults(self, text: bytes) -> list[Fault]:
        """Return all rows that `parse` would refuse; see `text_faults`."""
        return text_faults(text, self.dialect, self._chosen, self._types, self._cells)

    def _cells(self, text: bytes, on_invalid: Any) -> dict[int, pa.Array]:
        import pyarrow as pa

        return self._read(text, dict.fromkeys(self._chosen.positions, pa.binary()), on_invalid)

    def _type(self, at: int) -> Any:
        if at in self._as_text:
            return arrow_type("text")
        return arrow_type(self._kinds[at])

    def _read(self, text: bytes, types: dict[int, Any], on_invalid: Any = None) -> dict[int, pa.Array]:
        import pyarrow as pa
        from pyarrow import csv

        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(use_threads=False, column_names=self._names, block_size=len(text) + 1),
            parse_options=csv.ParseOptions(
                delimiter=self.dialect.delimiter.decode(),
                newlines_in_values=b'"' in text,
                invalid_row_handler=on_invalid,
            ),
            convert_options=csv.ConvertOptions(
                column_types={str(at): kind for at, kind in types.items()},
                include_columns=[str(at) for at in types],
                null_values=list(MISSING_TEXTS),
                strings_can_be_null=False,
            ),
        )
        return {at: _whole(table.column(i)) for i, at in enumerate(types)}

    def _rows(self, columns: dict[int, pa.Array], count: int, notes: tuple[str, ...] = ()) -> Rows:
        import pyarrow as pa

        said = [*self._notes, *notes]
        fields = []
        for at, name in self._chosen.fields:
            column = columns[at]
            if self._types[name] != "text" and pa.types.is_string(column.type):
                column, had_truths = read_numbers(column, self._types[name])
                if had_truths:
                    said.append(f"column {quote(name)}: true and false were read as 1 and 0")
            fields.append(column)
        batch = pa.RecordBatch.from_arrays(fields, [name for _, name in self._chosen.fields])
        kept = {name: columns[at] for at, name in self._chosen.kept}
        return Rows(batch, kept, count, tuple(said))

    def _parse_carefully(self, text: bytes) -> Rows:
        import pyarrow as pa

        ragged_rows: list[Any] = []

        def on_ragged(row: Any) -> str:
            ragged_rows.append(row)
            return "skip"

        try:
            cells = self._cells(shape_of(text), on_ragged)
            if not ragged_rows:
                cells = self._cells(text, on_ragged)
        except pa.ArrowInvalid as e:
            raise InvalidInput(f"{str(e).splitlines()[0]}; check the quotes and the delimiter") from e
        if ragged_rows:
            raise self._ragged(text, ragged_rows[0])
        columns = {at: self._text_of(cells[at], at) for at in cells}
        self._find_bad(columns)
        return self._rows(columns, len(next(iter(columns.values()))))

    def _find_bad(self, columns: dict[int, pa.Array]) -> None:
        """Raise for the first cell that is no number; remember columns that the fast way cannot read."""
        bad: list[tuple[int, str, str]] = []
        for at, name in self._chosen.fields:
            kind = self._types[name]
            if kind == "text" or is_plain(columns[at], kind):
                continue
            self._as_text = self._as_text | {at}  # a new set: other threads may be reading the old one
            try:
                read_numbers(columns[at], kind)
            except BadCell as e:
                bad.append((e.row, name, e.problem))
        if bad:
            row, name, problem = min(bad, key=lambda b: b[0])
            raise fault(name, row, problem)

    def _text_of(self, cells: pa.Array, at: int) -> pa.Array:
        import pyarrow as pa

        try:
            return cells.cast(pa.string())
        except pa.ArrowInvalid as e:
            for row, cell in enumerate(cells.to_pylist()):
                try:
                    cell.decode()
                except UnicodeDecodeError as wrong:
                    raise fault(self.dialect.names[at], row, not_text(cell, wrong.start)) from e
            raise

    def _refuse_nul(self, text: bytes) -> None:
        starts = row_starts(text, self.dialect.newline, self.dialect.delimiter)
        row = max(bisect_right(starts, text.index(b"\0")) - 1, 0)
        raise InvalidInput(NUL, row=row)

    def _ragged(self, text: bytes, found: Any) -> InvalidInput:
        """Return the fault of the first row whose cells are too few or too many."""
        starts = row_starts(text, self.dialect.newline, self.dialect.delimiter)
        row = next(
            (
                i
                for i, (a, b) in enumerate(zip(starts, [*starts[1:], len(text)], strict=True))
                if len(cells_of(text[a:b], self.dialect.delimiter)) != len(self.dialect.names)
            ),
            None,
        )
        return InvalidInput(ragged(found.actual_columns, found.expected_columns), row=row)


def fault(name: str, row: int, problem: str) -> InvalidInput:
    """Return the fault of a cell; its row counts from the first one of the block."""
    return InvalidInput(f"column {quote(name)}: {problem}", column=name, row=row)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
