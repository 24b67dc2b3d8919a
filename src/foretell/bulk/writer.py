"""Writes one output from its parts. What is written is a function of the rows alone, not of how parts divide them.

Row groups of Parquet, batches of Arrow and members of gzip are cut anew at fixed counts. Knows no model, no folder
and no thread.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from foretell.bulk.encode import csv_header, decode_part, pack
from foretell.bulk.formats import Format
from foretell.errors import InternalError, InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GROUP_ROWS", "Writer"]

GROUP_ROWS = 1 << 17
"""Rows of a row group, or of a batch, of an output of few columns."""
_GROUP_CELLS = 1 << 22
_LEAST_GROUP_ROWS = 1 << 10
_MEMBER_BYTES = 1 << 20
_LOOK_ROWS = 4096


class Writer:
    """Grows one output."""

    def __init__(self, file: BinaryIO, kind: Format) -> None:
        self._file = file
        self._kind = kind
        self._columns: tuple[str, ...] | None = None
        self._empty = b""
        self._form: _Form | None = None
        self.rows = 0

    def append(self, columns: tuple[str, ...], encoded: bytes, rows: int) -> None:
        """Write one part.

        Args:
            columns: Their names; none where the part has the columns of the part before.
            encoded: As `answering.Answer` has it.
            rows: In it.

        Raises:
            InvalidInput: Its columns are not those of the parts before.
        """
        if self._columns is None:
            self._columns, self._empty = columns, encoded
        if columns and columns != self._columns:
            raise InvalidInput(
                f"columns {', '.join(columns)} are to be written, those of the first rows are "
                f"{', '.join(self._columns)}; keep columns that all files have"
            )
        self.rows += rows
        if rows:
            # Without rows columns have no types to go by.
            self._form = self._form or self._begin()
            self._form.write(encoded)

    def finish(self) -> None:
        """Write what is left; for no rows at all, columns without rows."""
        if self._form is None:
            self._form = self._begin()
            if self._empty:
                self._form.write(self._empty)
        form, self._form = self._form, None
        form.close()

    def abandon(self) -> None:
        """Let go of an output that will not be finished."""
        if self._form is not None:
            self._form.abandon()

    def _begin(self) -> _Form:
        if self._columns is None:
            raise InternalError("no part was given. This is a bug.")
        if self._kind.part == "arrow":
            return _Batches(self._file, is_parquet=self._kind.name == "parquet")
        lines = _Packed(self._file) if self._kind.is_packed else _Lines(self._file)
        if self._kind.part == "csv":
            lines.write(csv_header(list(self._columns)))
        return lines


class _Form(Protocol):
    def write(self, encoded: bytes) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


class _Lines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, encoded: bytes) -> None:
        self._file.write(encoded)

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _Packed(_Lines):
    """Packs so many bytes at a time."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._waiting = bytearray()

    def write(self, encoded: bytes) -> None:
        self._waiting += encoded
        while len(self._waiting) >= _MEMBER_BYTES:
            self._file.write(pack(bytes(self._waiting[:_MEMBER_BYTES])))
            del self._waiting[:_MEMBER_BYTES]

    def close(self) -> None:
        if self._waiting:
            self._file.write(pack(bytes(self._waiting)))


class _Batches:
    """Writes Parquet or Arrow IPC, so many rows at a time."""

    def __init__(self, file: BinaryIO, *, is_parquet: bool) -> None:
        self._file = file
        self._is_parquet = is_parquet
        self._schema: pa.Schema | None = None
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._group_rows = GROUP_ROWS

    def write(self, encoded: bytes) -> None:
        for batch in decode_part(encoded):
            if self._schema is None:
                self._open(batch.schema)
            self._waiting.append(_like(batch, self._schema))
            self._rows += batch.num_rows
            while self._rows >= self._group_rows:
                self._write_group(self._group_rows)

    def close(self) -> None:
        if self._rows:
            self._write_group(self._rows)
        elif self._writer is None:
            self._begin_parquet(None)
        self._writer.close()

    def abandon(self) -> None:
        import pyarrow as pa

        if self._writer is not None:
            with suppress(OSError, ValueError, pa.ArrowException):  # the file is removed, whatever it thinks of it
                self._writer.close()

    def _open(self, schema: pa.Schema) -> None:
        import pyarrow as pa

        if not self._is_parquet:  # a file of Arrow IPC has one dictionary for all batches
            schema = pa.schema([f.with_type(_plain(f.type)) for f in schema])
            self._writer = pa.ipc.new_file(self._file, schema)
        self._schema = schema
        self._group_rows = max(_LEAST_GROUP_ROWS, min(GROUP_ROWS, _GROUP_CELLS // max(len(schema), 1)))

    def _begin_parquet(self, first: pa.Table | None) -> None:
        import pyarrow.parquet as pq

        repeating: bool | list[str] = True if first is None else _repeating(first)
        self._writer = pq.ParquetWriter(self._file, self._schema, use_dictionary=repeating)

    def _write_group(self, rows: int) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(self._waiting)
        # In one piece: how pages are cut depends on the pieces.
        group = table.slice(0, rows).combine_chunks()
        self._waiting = table.slice(rows).to_batches()
        self._rows -= rows
        if self._is_parquet:
            if self._writer is None:
                self._begin_parquet(group)
            self._writer.write_table(group, row_group_size=rows)
        else:
            for batch in group.to_batches():
                self._writer.write_batch(batch)


def _repeating(table: pa.Table) -> list[str]:
    """Return the columns for which Parquet's dictionaries pay: not floats that are hardly ever alike."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for name, column in zip(table.column_names, table.slice(0, _LOOK_ROWS).columns, strict=True):
        if not pa.types.is_floating(column.type) or pc.count_distinct(column).as_py() * 2 <= len(column):
            found.append(name)
    return found


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _like(block: pa.RecordBatch, schema: Any) -> pa.RecordBatch:
    """Return a block with the types of the first one: those of a text file may differ from block to block."""
    import pyarrow as pa

    if block.schema.equals(schema):
        return block
    columns = []
    for column, field in zip(block.columns, schema, strict=True):
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise InvalidInput(
                f"column {quote(field.name)}: {column.type} here, {field.type} in the first rows; write CSV instead",
                column=field.name,
            ) from e
    return pa.RecordBatch.from_arrays(columns, schema=schema)
