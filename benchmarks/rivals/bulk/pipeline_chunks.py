"""The fitted pipeline's own `predict` in pandas chunks: pipeline_chunks.py MODEL OUT INPUT..."""

import sys

import joblib
import pandas as pd

model, out, *inputs = sys.argv[1:]
pipeline = joblib.load(model)
first = True
for name in inputs:
    for chunk in pd.read_csv(name, chunksize=50_000):
        answers = pd.DataFrame({"prediction": pipeline.predict(chunk)})
        answers.to_csv(out, mode="w" if first else "a", header=first, index=False)
        first = False
