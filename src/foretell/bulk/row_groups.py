"""Decodes Parquet into batches of a fixed number of rows, which do not depend on its row groups.

Knows no model and no file system.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from foretell import machine

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["batches_from"]

_FEW_CORES = 4


def batches_from(
    file: Any, row: int, batch_rows: int, columns: Sequence[str], at_once: int
) -> Iterator[pa.RecordBatch]:
    """Yield batches of so many rows, from a row on at which one of them begins; earlier row groups are not read.

    The reader ends its batches where row groups end, if they have dictionaries: those are put together.

    Args:
        file: A `pyarrow.parquet.ParquetFile`.
        row: From which on.
        batch_rows: Of each batch but the last.
        columns: Names of those that are wanted.
        at_once: How many batches are decoded in one go; they share their memory.
    """
    group, groups = 0, file.metadata.num_row_groups
    while group < groups and row >= (here := file.metadata.row_group(group).num_rows):
        row -= here
        group += 1
    waiting: list[pa.RecordBatch] = []
    # On few cores the workers have use for all of them, and handing columns out to threads costs a fifth.
    threads = machine.cores() > _FEW_CORES
    decoded = file.iter_batches(
        batch_rows * at_once, row_groups=range(group, groups), columns=columns, use_threads=threads
    )
    for batch in decoded:
        if not row and not waiting and batch.num_rows % batch_rows == 0:
            yield from (batch.slice(at, batch_rows) for at in range(0, batch.num_rows, batch_rows))
            continue
        skipped = min(row, batch.num_rows)
        row -= skipped
        if skipped < batch.num_rows:
            waiting.append(batch.slice(skipped))
        while sum(b.num_rows for b in waiting) >= batch_rows:
            whole, waiting = _parted(waiting, batch_rows)
            yield whole
    if waiting:
        yield _parted(waiting, batch_rows)[0]


def _parted(batches: list[pa.RecordBatch], rows: int) -> tuple[pa.RecordBatch, list[pa.RecordBatch]]:
    """Return the first rows in one batch, and the others."""
    import pyarrow as pa

    table = pa.Table.from_batches(batches)
    return pa.concat_batches(table.slice(0, rows).to_batches()), table.slice(rows).to_batches()
