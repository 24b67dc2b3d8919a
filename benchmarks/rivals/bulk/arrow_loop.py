"""A careful user's loop: arrow_loop.py CORES MODEL OUT INPUT...

Arrow batches, one row-major matrix each, `inplace_predict` with all cores, one Parquet file. Of batches of 16,384 to
262,144 rows, and of `column_stack`, `to_pandas` and `to_tensor`, what is here was the fastest.
"""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

cores, model, out, *inputs = sys.argv[1:]
booster = xgboost.Booster(model_file=model)
booster.set_param({"nthread": int(cores)})
writer = None
for name in inputs:
    for batch in pq.ParquetFile(name).iter_batches(131_072):
        found = booster.inplace_predict(batch.to_tensor().to_numpy())
        columns = {
            "prediction": (found > 0.5).astype(np.int64),
            "probability": np.maximum(found, 1 - found),
            "probability_0": 1 - found,
            "probability_1": found,
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(out, table.schema)
        writer.write_table(table)
if writer is not None:
    writer.close()
