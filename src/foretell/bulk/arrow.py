"""Reads Parquet and Arrow IPC: only the columns that are wanted, a bounded number of rows at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.bulk.blocks import START, Block, Fault, Mark, Origin, Rows
from foretell.bulk.columns import Chosen, Keep, choose
from foretell.bulk.far import Far, fetched_ahead, for_arrow, length_of
from foretell.bulk.row_groups import batches_from
from foretell.errors import InvalidInput, MachineError
from foretell.model.data.cells import quote
from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ArrowSource", "ParquetSource"]

_CELLS = 1 << 20
_MAX_ROWS = 1 << 15
_BUFFER_BYTES = 1 << 18
"""Of each column that is read."""
_AT_ONCE = 4
"""So many blocks are decoded in one go: each go has a cost for every column."""


class ParquetSource:
    """One Parquet file."""

    def __init__(self, path: Path | Far, name: str, signature: Signature, keep: Keep) -> None:
        self.name = name
        self.size_bytes = length_of(path)
        self._path = path
        self._signature = signature
        self._keep = keep

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Yield batches of at most 32,768 rows.

        Raises:
            InvalidInput: Damaged, or its columns do not fit the model.
        """
        import pyarrow.parquet as pq

        # Without pre_buffer and with a small buffer, a row group need not fit into memory as a whole.
        with (
            _reading(self.name, "Parquet"),
            for_arrow(self._path) as stored,
            pq.ParquetFile(stored, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file,
        ):
            schema = file.schema_arrow
            names = schema.names  # each look makes the list anew
            chosen = _choose(schema, self._signature, self._keep, self.name)
            columns = [names[at] for at in chosen.positions]
            batch_rows = _batch_rows(len(columns))
            row, total = start.at, max(file.metadata.num_rows, 1)
            batches = batches_from(file, start.at, batch_rows, columns, 1 if isinstance(self._path, Far) else _AT_ONCE)
            for batch in fetched_ahead(stored, file.metadata, columns, row, batches):
                yield _BatchBlock(self, chosen, columns, batch, row, self.size_bytes * batch.num_rows // total)
                row += batch.num_rows
            if not row:
                yield _BatchBlock(self, chosen, columns, _empty(schema, columns), 0, 0)

    def count_rows(self) -> int:
        """Return how many rows it has, as it says itself.

        Raises:
            InvalidInput: Damaged.
        """
        import pyarrow.parquet as pq

        with _reading(self.name, "Parquet"), for_arrow(self._path) as stored, pq.ParquetFile(stored) as file:
            return int(file.metadata.num_rows)


class ArrowSource:
    """One file of the Arrow IPC file or stream format; Feather is the former."""

    def __init__(self, path: Path | Far, name: str, signature: Signature, keep: Keep, *, is_stream: bool) -> None:
        self.name = name
        self.size_bytes = length_of(path)
        self._path = path
        self._signature = signature
        self._keep = keep
        self._is_stream = is_stream

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Yield batches of at most 32,768 rows.

        Raises:
            InvalidInput: Damaged, or its columns do not fit the model.
        """
        import pyarrow as pa

        with _reading(self.name, "Arrow"), for_arrow(self._path, mapped=True) as stored:
            reader = pa.ipc.open_stream(stored) if self._is_stream else pa.ipc.open_file(stored)
            chosen = _choose(reader.schema, self._signature, self._keep, self.name)
            names = reader.schema.names
            columns = [names[at] for at in chosen.positions]
            width = 1.0
            if isinstance(self._path, Far) and not self._is_stream:  # what is not wanted is not fetched
                wanted = pa.ipc.IpcReadOptions(included_fields=sorted(chosen.positions))
                reader = pa.ipc.open_file(stored, options=wanted)
                width = len(names) / max(len(columns), 1)
            row = 0
            for batch in self._batches(reader):
                batch.validate(full=True)  # a file can point anywhere: Arrow takes its offsets on trust
                share = int(batch.nbytes * width) // max(batch.num_rows, 1)
                narrow = batch.select(columns)
                step = _batch_rows(len(columns))
                for at in range(0, batch.num_rows, step):
                    part = narrow.slice(at, step)
                    if row >= start.at:
                        yield _BatchBlock(self, chosen, columns, part, row, share * part.num_rows)
                    row += part.num_rows
            if not row:
                yield _BatchBlock(self, chosen, columns, _empty(reader.schema, columns), 0, 0)

    def count_rows(self) -> int | None:
        """Return how many rows it has; None where all of it would have to be read for that.

        Raises:
            InvalidInput: Damaged.
        """
        import pyarrow as pa

        if self._is_stream or isinstance(self._path, Far):
            return None
        with _reading(self.name, "Arrow"), for_arrow(self._path, mapped=True) as stored:
            reader = pa.ipc.open_file(stored)
            return int(sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches)))

    def _batches(self, reader: Any) -> Iterator[pa.RecordBatch]:
        if self._is_stream:
            yield from reader
        else:
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


@dataclass(frozen=True)
class _BatchBlock:
    source: ParquetSource | ArrowSource
    chosen: Chosen
    columns: Sequence[str]
    batch: pa.RecordBatch
    first_row: int
    size_bytes: int

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"batch": _alone(self.batch)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import pyarrow as pa

        with pa.ipc.open_stream(state["batch"]) as stream:
            self.__dict__.update(state | {"batch": stream.read_next_batch()})

    @property
    def ends(self) -> Mark:
        return Mark(self.first_row + self.batch.num_rows)

    @property
    def about_rows(self) -> int:
        rows: int = self.batch.num_rows
        return rows

    def parse(self) -> Rows:
        import pyarrow as pa

        at = {position: i for i, position in enumerate(self.chosen.positions)}
        fields = [self.batch.column(at[position]) for position, _ in self.chosen.fields]
        data = pa.RecordBatch.from_arrays(fields, [name for _, name in self.chosen.fields])
        kept = {name: self.batch.column(at[position]) for position, name in self.chosen.kept}
        return Rows(data, kept, self.batch.num_rows, self.chosen.notes)

    def place(self, row: int | None) -> str:
        return self.source.name

    def faults(self) -> list[Fault]:
        return []

    def without(self, rows: Sequence[int]) -> Block:
        import pyarrow as pa

        left = np.ones(self.batch.num_rows, np.bool_)
        left[list(rows)] = False
        return replace(self, batch=self.batch.filter(pa.array(left)))

    def origins(self, rows: Sequence[int]) -> list[Origin]:
        found = self.batch.take(list(rows)).to_pylist() if rows else []
        return [
            Origin(None, self.first_row + row, json.dumps(_plain(cells), ensure_ascii=False, default=str))
            for row, cells in zip(rows, found, strict=True)
        ]


@contextmanager
def _reading(name: str, what: str) -> Iterator[None]:
    """Translate what pyarrow raises while it reads."""
    import pyarrow as pa

    try:
        yield
    except MemoryError as e:
        raise MachineError(f"{name}: out of memory while reading; free some") from e
    except (pa.ArrowException, OSError, ValueError) as e:
        line = (str(e) or type(e).__name__).splitlines()[0]
        raise InvalidInput(f"{name}: damaged or cut off, expected a whole {what} file ({line})") from e


def _choose(schema: pa.Schema, signature: Signature, keep: Keep, name: str) -> Chosen:
    import pyarrow as pa

    names = schema.names
    chosen = choose(names, signature, keep, name)
    for at in chosen.positions:
        if isinstance(schema.field(at).type, pa.BaseExtensionType):
            kind = schema.field(at).type
            raise InvalidInput(
                f"{name}: column {quote(names[at])} has the extension type {kind}, expected a plain one; "
                "write the column as numbers or text"
            )
    return chosen


def _plain(cells: dict[str, Any]) -> dict[str, Any]:
    """Return cells with the numbers that JSON has none for as texts."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in cells.items()}


def _alone(batch: pa.RecordBatch) -> pa.Buffer:
    """Return a batch for a way to elsewhere: pickled, a slice would take all with it that it was cut from."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _batch_rows(columns: int) -> int:
    return max(256, min(_MAX_ROWS, _CELLS // max(columns, 1)))


def _empty(schema: pa.Schema, columns: Sequence[str]) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([pa.nulls(0, schema.field(c).type) for c in columns], list(columns))
