"""A file that is not on this machine, for readers that know columns: what they will read is fetched ahead of them.

Knows where Parquet keeps its columns; not which of them are wanted, nor what is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from foretell.bulk.places import storage_of
from foretell.bulk.ranged import RangedFile

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Far", "fetched_ahead", "for_arrow", "length_of"]

_AHEAD_BYTES = 1 << 25
_AHEAD_ROWS = 1 << 16


@dataclass(frozen=True)
class Far:
    """A file by its URL; it can be pickled."""

    path: str
    size_bytes: int

    def open(self) -> BinaryIO:
        """Open it at its start.

        Raises:
            ConfigError: There is no such file.
            MachineError: It may not be read, or the connection is lost.
        """
        return storage_of(self.path).open(self.path)


def length_of(file: Path | Far) -> int:
    """Return the length of a file in bytes."""
    return file.size_bytes if isinstance(file, Far) else file.stat().st_size


@contextmanager
def for_arrow(file: Path | Far, *, mapped: bool = False) -> Iterator[Any]:
    """Give what pyarrow reads a file by: of this machine its path, or its memory map; else a stream.

    Raises:
        ConfigError: The file was changed while it was read.
        MachineError: The connection is lost.
    """
    if isinstance(file, Far):
        with file.open() as stream:
            try:
                yield stream
            except Exception as e:
                failure = stream.failure if isinstance(stream, RangedFile) else None
                if failure is None or failure is e:
                    raise
                raise failure from e
    elif mapped:
        import pyarrow as pa

        with pa.memory_map(str(file)) as stored:
            yield stored
    else:
        yield file


def fetched_ahead(
    stream: Any, metadata: Any, columns: Sequence[str], row: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Yield batches of a Parquet file, while the columns of the row groups that follow are on their way.

    Args:
        stream: What `for_arrow` gave; of a file of this machine nothing is done.
        metadata: A `pyarrow.parquet.FileMetaData`.
        columns: Names of the columns that are read.
        row: Of the first batch.
        batches: All from there on.
    """
    if not isinstance(stream, RangedFile):
        yield from batches
        return
    groups = _groups(metadata, columns, row)
    group = next(groups, None)
    reading = iter(batches)
    while True:
        while group is not None and (
            group[0] < row + _AHEAD_ROWS or stream.waiting_bytes + sum(b - a for a, b in group[1]) <= _AHEAD_BYTES
        ):
            stream.will_need(group[1])
            group = next(groups, None)
        batch = next(reading, None)
        if batch is None:
            return
        row += batch.num_rows
        yield batch


def _groups(metadata: Any, columns: Sequence[str], row: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield the first row of each row group that has rows behind `row`, and where the columns are in the file."""
    paths = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
    wanted = set(columns)
    leaves = [at for at, path in enumerate(paths) if path in wanted or any(path.startswith(f"{c}.") for c in columns)]
    begins = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if begins + group.num_rows > row:
            yield begins, [_range(group.column(at)) for at in leaves]
        begins += group.num_rows


def _range(chunk: Any) -> tuple[int, int]:
    begin = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None and chunk.dictionary_page_offset > 0:
        begin = min(begin, chunk.dictionary_page_offset)
    return begin, begin + chunk.total_compressed_size
