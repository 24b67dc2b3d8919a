"""Score a CSV file with polars, streaming: score_polars.py BUNDLE IN.csv OUT.parquet."""

import sys

import polars as pl

import foretell

bundle, given, out = sys.argv[1:]
model = foretell.load(bundle)


def predict(homes: pl.DataFrame) -> pl.DataFrame:
    return homes.select("Id").hstack(pl.from_arrow(model.predict(homes).to_arrow()))


scored = pl.scan_csv(given).map_batches(predict, streamable=True, schema={"Id": pl.Int64, "prediction": pl.Float64})
scored.sink_parquet(out)
