"""Ray Data with a model of Foretell: ray_foretell.py CORES MODEL OUT INPUT...

As `ray_data.py` in all else: one actor for each core, OUT is a folder of Parquet files.
"""

import sys

import ray

import foretell.ray

cores, model, out, *inputs = sys.argv[1:]

# As many again for those that read: their tasks start tasks of their own, and wait for them without giving way.
ray.init(address="local", num_cpus=2 * int(cores), include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
ray.data.DataContext.get_current().execution_options.preserve_order = True
scored = ray.data.read_parquet(inputs).map_batches(
    foretell.ray.predictor(model), batch_format="pyarrow", batch_size=65_536, concurrency=int(cores), num_cpus=0.5
)
scored.write_parquet(out)
