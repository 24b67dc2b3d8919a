"""What the job costs without anything between its parts: floor.py CORES MODEL OUT INPUT...

Prints JSON: processor time, in seconds, of reading all rows alone, of predicting as many rows that lie ready in memory
in the better of two ways, and of writing as many answers alone. Knows nothing of Foretell.
"""

import json
import resource
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

_SAMPLE_ROWS = 500_000
"""Predicted, and written: answers take the same time whatever the row, so the rest is multiplied."""


def main(cores: int, model: str, out: str, inputs: list[str]) -> None:
    rows = sum(pq.read_metadata(name).num_rows for name in inputs)
    read_s = min(_spent_s(lambda step=step: _read(inputs, step)) for step in (65_536, 131_072))
    sample = pq.read_table(inputs[0]).slice(0, _SAMPLE_ROWS)
    matrix = np.column_stack([column.to_numpy() for column in sample.columns])
    times = rows / len(matrix)
    del sample
    booster = xgboost.Booster(model_file=model)
    ways = {}
    for threads, step in ((1, 16_384), (cores, len(matrix))):
        booster.set_param({"nthread": threads})
        spent = _spent_s(lambda step=step: _predict(booster, matrix, step))
        ways[f"nthread={threads}, {step:,} rows a call"] = spent * times
    best = min(ways, key=ways.__getitem__)
    found = booster.inplace_predict(matrix)
    write_s = _spent_s(lambda: _write(out, found)) * times
    print(json.dumps({"rows": rows, "read_s": read_s, "predict_s": ways[best], "write_s": write_s, "best": best}))


def _spent_s(call: Callable[[], object]) -> float:
    """Return the processor time of a call, its kernel's part too: the smaller of two calls."""
    spent = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF)
        call()
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(spent)


def _read(inputs: list[str], step: int) -> None:
    for name in inputs:
        for _ in pq.ParquetFile(name).iter_batches(step):
            pass


def _predict(booster: xgboost.Booster, matrix: np.ndarray, step: int) -> None:
    for at in range(0, len(matrix), step):
        booster.inplace_predict(matrix[at : at + step])


def _write(out: str, found: np.ndarray) -> None:
    columns = {
        "prediction": (found > 0.5).astype(np.int64),
        "probability": np.maximum(found, 1 - found),
        "probability_0": 1 - found,
        "probability_1": found,
    }
    pq.write_table(pa.table(columns), out, row_group_size=131_072)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
