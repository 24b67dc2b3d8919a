"""Whether two files of answers agree, row by row, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

_STEP = 131_072


def agree(ours: Path, theirs: Path, relative: float = 1e-6, *, in_order: bool = True) -> None:
    """Check that each answer is there, in its place; or where rows lost their order, that each is there.

    Raises:
        SystemExit: Rows are missing, or more than one label in 10,000 or a number differs.
    """
    name = "probability_1" if ours.suffix == ".parquet" else "prediction"
    rows, differ, worst = 0, 0, 0.0
    mine, other = _numbers(ours, name), _numbers(theirs, name)
    if not in_order:
        mine, other = (iter([np.sort(np.concatenate(list(arrays)))]) for arrays in (mine, other))
    for one, two in zip(_cut(mine), _cut(other), strict=True):
        if len(one) != len(two):
            raise SystemExit(f"{ours.name}: {rows + len(one):,} rows, {theirs.name}: {rows + len(two):,}")
        rows += len(one)
        moved = np.abs(one - two) / np.maximum(np.abs(two), 1e-3)
        worst, differ = max(worst, float(moved.max())), differ + int((moved > relative).sum())
    if differ * 10_000 > rows:
        raise SystemExit(f"{differ:,} of {rows:,} answers differ, by up to {worst:.2g} of their size")
    print(f"{rows:,} answers checked: {differ} differ by more than {relative:g} of their size, the most {worst:.2g}\n")


def _numbers(path: Path, name: str) -> Iterator[np.ndarray]:
    if path.suffix == ".csv":
        options = csv.ConvertOptions(include_columns=[name])
        for batch in csv.open_csv(path, convert_options=options):
            yield _plain(batch)
        return
    for file in sorted(path.rglob("*.parquet")) if path.is_dir() else [path]:
        for batch in pq.ParquetFile(file).iter_batches(_STEP, columns=[name]):
            yield _plain(batch)


def _plain(batch: pa.RecordBatch) -> np.ndarray:
    return batch.column(0).to_numpy(zero_copy_only=False).astype(np.float64)


def _cut(arrays: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same numbers in arrays of one length, but for the last."""
    rest = np.empty(0)
    for array in arrays:
        rest = np.concatenate([rest, array])
        while len(rest) >= _STEP:
            yield rest[:_STEP]
            rest = rest[_STEP:]
    if len(rest):
        yield rest
