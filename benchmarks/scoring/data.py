"""The data of the benchmark, made once: ten million rows of floats as Parquet, two million homes as CSV."""

from collections.abc import Iterator
from pathlib import Path

import models
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from common import DATA, many, saved
from pyarrow import csv

FILE_ROWS = 1_000_000
"""Of one Parquet file: as pandas writes them, one row group of at most 1,048,576 rows, packed with snappy."""
_HOME_ROWS = 100_000


def floats(rows: int, kind: str) -> list[Path]:
    """Return Parquet files of so many rows of 30 floats, of `float32` or `float64`, none of them twice."""
    found = []
    for at in range(0, rows, FILE_ROWS):
        count = min(FILE_ROWS, rows - at)
        name = f"bulk/{kind}/{count}/{at // FILE_ROWS:03}.parquet"
        found.append(saved(name, lambda path, at=at, count=count: _write_floats(path, at, count, kind)))
    return found


def homes(rows: int) -> Path:
    """Return a CSV of homes sampled from those of examples/ames, as `DataFrame.to_csv` writes them."""
    return saved(f"bulk/homes/{rows}.csv", lambda path: _write_homes(path, rows))


def batches(files: list[Path], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of files."""
    for file in files:
        yield from pq.ParquetFile(file).iter_batches(rows)


def _write_floats(path: Path, seed: int, rows: int, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = many(rows, seed=seed + 1)
    part = path.with_suffix(".part")
    pd.DataFrame(table.astype(kind), columns=[f"x{i}" for i in range(table.shape[1])]).to_parquet(part)
    part.replace(path)


def _write_homes(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    models.ames()
    known = pd.concat([pd.read_csv(DATA / name) for name in ("homes.csv", "new_homes.csv")], ignore_index=True)
    known = known.drop(columns="Sale_Price")
    random = np.random.default_rng(2)
    part = path.with_suffix(".part")
    style = csv.WriteOptions(quoting_style="needed")
    schema = pa.Table.from_pandas(known, preserve_index=False).schema
    with csv.CSVWriter(part, schema, write_options=style) as writer:
        for at in range(0, rows, _HOME_ROWS):
            picked = _jittered(known.iloc[random.integers(0, len(known), min(_HOME_ROWS, rows - at))], random)
            writer.write(pa.Table.from_pandas(picked, schema, preserve_index=False))
    part.replace(path)


def _jittered(homes: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Change areas by up to a tenth, so that hardly any row is there twice."""
    homes = homes.reset_index(drop=True)
    for name in homes.columns:
        if name.endswith(("SF", "_Area")):
            homes[name] = (homes[name] * random.uniform(0.9, 1.1, len(homes))).round().astype(homes[name].dtype)
    homes["Id"] = random.integers(1, 1 << 40, len(homes))
    return homes
