"""What the job costs without anything between its parts: floor.py CORES MODEL OUT INPUT...

Prints JSON: processor time, in seconds, of reading all rows alone, of predicting as many rows that lie ready in memory,
and of writing as many answers alone. Of several ways to read and to predict, short tries in turn choose one; then all
rows go that way, so that a moment in which the machine is fast is worth no more here than in the job. Knows nothing of
Foretell.
"""

import json
import resource
import sys
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

_SAMPLE_ROWS = 500_000
"""Predicted, and written, over and over: answers take the same time whatever the row."""
_TRIES = 3


def main(cores: int, model: str, out: str, inputs: list[str]) -> None:
    rows = sum(pq.read_metadata(name).num_rows for name in inputs)
    steps = {f"{step:,} rows a batch": lambda n, step=step: _read(inputs[:n], step) for step in (65_536, 131_072)}
    read = steps[_best(steps)]
    sample = pq.read_table(inputs[0]).slice(0, _SAMPLE_ROWS)
    matrix = np.column_stack([column.to_numpy() for column in sample.columns])
    times = -(-rows // len(matrix))
    del sample
    ways = {}
    for threads, step in ((1, 16_384), (cores, len(matrix))):
        booster = xgboost.Booster(model_file=model)
        booster.set_param({"nthread": threads})
        ways[f"nthread={threads}, {step:,} rows a call"] = lambda n, b=booster, step=step: _predict(b, matrix, step, n)
    best = _best(ways)
    found = booster.inplace_predict(matrix)
    spent = {
        "read_s": _spent_s(lambda: read(len(inputs))),
        "predict_s": _spent_s(lambda: ways[best](times)) * rows / (times * len(matrix)),
        "write_s": _spent_s(lambda: _write(out, found, times)) * rows / (times * len(matrix)),
    }
    print(json.dumps({"rows": rows, **spent, "best": best}))


def _best(ways: Mapping[str, Callable[[int], object]]) -> str:
    """Return the name of the way that takes the least processor time, by the smallest of some tries in turn."""
    tries = [{name: _spent_s(lambda way=way: way(1)) for name, way in ways.items()} for _ in range(_TRIES)]
    return min(ways, key=lambda name: min(spent[name] for spent in tries))


def _spent_s(call: Callable[[], object]) -> float:
    """Return the processor time of a call, its kernel's part too."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    call()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _read(inputs: list[str], step: int) -> None:
    for name in inputs:
        for _ in pq.ParquetFile(name).iter_batches(step):
            pass


def _predict(booster: xgboost.Booster, matrix: np.ndarray, step: int, times: int) -> None:
    for _ in range(times):
        for at in range(0, len(matrix), step):
            booster.inplace_predict(matrix[at : at + step])


def _write(out: str, found: np.ndarray, times: int) -> None:
    for _ in range(times):
        columns = {
            "prediction": (found > 0.5).astype(np.int64),
            "probability": np.maximum(found, 1 - found),
            "probability_0": 1 - found,
            "probability_1": found,
        }
        pq.write_table(pa.table(columns), out, row_group_size=131_072)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
