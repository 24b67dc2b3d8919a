"""Score a CSV file with Ray Data: score_ray.py BUNDLE IN.csv OUT, a folder of Parquet files."""

import sys

import ray.data

import foretell.ray

bundle, given, out = sys.argv[1:]
predictor = foretell.ray.predictor(bundle, keep=["Id"])
homes = ray.data.read_csv(given)
actors = ray.data.ActorPoolStrategy(size=1)  # one processor each: leave some to those that read and write
scored = homes.map_batches(predictor, compute=actors, batch_format="pyarrow")
scored.write_parquet(out)
