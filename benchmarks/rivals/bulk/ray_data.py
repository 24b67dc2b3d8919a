"""Ray Data with the original library: ray_data.py CORES MODEL OUT INPUT...

One actor for each core, each with the model loaded once and one thread. OUT is a folder of Parquet files. Actors that
asked for whole cores would leave none to the tasks that read, and wait for those.
"""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import xgboost

cores, model, out, *inputs = sys.argv[1:]
names = pq.read_schema(inputs[0]).names


class Predictor:
    """An actor's model."""

    def __init__(self) -> None:
        self.booster = xgboost.Booster(model_file=model)
        self.booster.set_param({"nthread": 1})

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.select(names).combine_chunks().to_batches()[0]
        found = self.booster.inplace_predict(rows.to_tensor().to_numpy())
        return pa.table(
            {
                "prediction": (found > 0.5).astype(np.int64),
                "probability": np.maximum(found, 1 - found),
                "probability_0": 1 - found,
                "probability_1": found,
            }
        )


# As many again for those that read: their tasks start tasks of their own, and wait for them without giving way.
ray.init(address="local", num_cpus=2 * int(cores), include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
ray.data.DataContext.get_current().execution_options.preserve_order = True
scored = ray.data.read_parquet(inputs).map_batches(
    Predictor, batch_format="pyarrow", batch_size=65_536, concurrency=int(cores), num_cpus=0.5
)
scored.write_parquet(out)
