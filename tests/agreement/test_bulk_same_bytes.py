"""The bytes of an output do not depend on how many work on it, nor on how the rows are divided among them."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import foretell
from foretell.bulk import arrow, delimited, jsonl
from foretell.bulk.formats import FORMATS
from foretell.bulk.job import predict_files

ROWS = 10_000
DIVISIONS = ((1, 1_000), (2, 1_000), (4, 3_000), (2, 100_000))
"""Workers and rows of a chunk."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(arrow, "_MAX_ROWS", 500)
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 1 << 15)
    monkeypatch.setitem(delimited.DelimitedSource.__init__.__kwdefaults__, "block_bytes", 1 << 14)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"r{i:06d}" for i in range(ROWS)],
            "size": rng.normal(100, 30, ROWS).round(3),
            "year": rng.integers(1900, 2020, ROWS),
            "kind": rng.choice(["flat", "house", "hut, old", 'the "Villa"'], ROWS),
        }
    )


@pytest.fixture(scope="module", params=["network", pytest.param("trees", marks=pytest.mark.slow), "xgboost"])
def model(request, frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    columns = make_column_transformer((StandardScaler(), ["size", "year"]), (OneHotEncoder(), ["kind"]))
    price = frame["size"] * 3 + frame["year"] - 1900
    if request.param == "xgboost":
        import xgboost as xgb

        numbers = frame[["size", "year"]]
        booster = xgb.train({"max_depth": 3, "nthread": 1}, xgb.DMatrix(numbers, price), 10)
        booster.save_model(folder / "m.json")
        with foretell.load(folder / "m.json") as opened:
            yield opened
        return
    import joblib

    if request.param == "network":  # whose sums depend on how many rows are given at once
        fitted = make_pipeline(columns, MLPRegressor(hidden_layer_sizes=(32, 16), max_iter=3)).fit(
            frame.head(500), price.head(500)
        )
    else:
        classes = np.where(price > price.median(), "dear", "cheap")
        fitted = make_pipeline(columns, GradientBoostingClassifier(n_estimators=5)).fit(
            frame.head(2000), classes[:2000]
        )
    joblib.dump(fitted, folder / "m.joblib")
    with foretell.load(folder / "m.joblib", trust=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def inputs(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    frame.iloc[:4_000].to_csv(folder / "1.csv", index=False)
    frame.iloc[4_000:5_000].to_csv(folder / "2.csv.gz", index=False)
    pq.write_table(pa.Table.from_pandas(frame.iloc[5_000:8_000], preserve_index=False), folder / "3.parquet", 1_111)
    frame.iloc[8_000:].to_json(folder / "4.jsonl", orient="records", lines=True)
    return str(folder)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_workers_and_chunks_leave_no_trace(tmp_path, model, frame, inputs):
    for name in FORMATS:
        found = set()
        for at, (workers, chunk_rows) in enumerate(DIVISIONS):
            out = tmp_path / f"{at}.{name}"
            summary = predict_files(model, [inputs], str(out), keep=["id"], threads=workers, chunk_rows=chunk_rows)
            assert summary.rows == ROWS
            found.add(out.read_bytes())
        assert len(found) == 1, name
    answered = pq.read_table(tmp_path / "0.parquet").to_pandas()
    assert answered["id"].tolist() == frame["id"].tolist()
    expected = model.predict(frame).values
    if model.task == "regression":
        np.testing.assert_allclose(answered["prediction"], expected, rtol=1e-4)
    else:
        assert answered["prediction"].tolist() == list(expected)


def test_so_do_the_files_of_a_folder(tmp_path, sum_model, inputs):
    found = []
    for workers, chunk_rows in DIVISIONS:
        out = tmp_path / f"{workers}-{chunk_rows}"
        model = sum_model(["size", "year"])
        predict_files(model, [inputs], f"{out}/", keep="all", threads=workers, chunk_rows=chunk_rows)
        found.append({p.name: p.read_bytes() for p in out.iterdir() if p.is_file()})
    assert sorted(found[0]) == ["1.csv", "2.csv.gz", "3.parquet", "4.jsonl"]
    assert all(a == b for a, b in itertools.pairwise(found))
