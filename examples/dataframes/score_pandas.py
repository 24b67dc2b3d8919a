"""Score a CSV file with pandas, some rows at a time: score_pandas.py BUNDLE IN.csv OUT.csv."""

import sys

import pandas as pd

import foretell

bundle, given, out = sys.argv[1:]
model = foretell.load(bundle)
with pd.read_csv(given, chunksize=100_000) as chunks:
    for at, homes in enumerate(chunks):
        scored = homes[["Id"]].assign(**model.predict(homes).to_columns())
        scored.to_csv(out, index=False, header=at == 0, mode="w" if at == 0 else "a")
