"""A row's answer does not depend on the rows beside it: bad ones among them, other blocks, other chunks."""

import json

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from foretell import load
from foretell.bulk.job import predict_files

ROWS = 30_000
LENGTH = (1 << 20) + 20_000
"""Of the file without bad rows: its last block has so few rows that alone they would go the way for few."""
NAMES = [f"f{i}" for i in range(6)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Boosters whose ways for few and for many rows round differently, and a file with bad rows and one without."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(ROWS, len(NAMES))).round(6), columns=NAMES)
    target = rows.f0 * 3 + np.sin(rows.f1) + rng.normal(size=ROWS) / 10
    data = lightgbm.Dataset(rows[:5000], target[:5000])
    lightgbm.train({"verbose": -1, "num_threads": 2}, data, 60).save_model(folder / "l.txt")
    matrix = xgboost.DMatrix(rows[:5000], target[:5000])
    xgboost.train({"base_score": 0.5, "nthread": 2}, matrix, 60).save_model(folder / "x.json")
    lines = rows.to_csv(index=False).splitlines(keepends=True)
    lines = lines[: int(np.searchsorted(np.cumsum([len(line) for line in lines]), LENGTH))]
    (folder / "clean.csv").write_text("".join(lines))
    bad = [
        line for i, line in enumerate(lines[1:]) for line in ([line, "x,1\n", "x" + line] if i % 50 == 7 else [line])
    ]
    (folder / "bad.csv").write_text("".join([lines[0], *bad]))
    records = "".join(
        json.dumps(dict(zip(NAMES, r, strict=True))) + "\n" for r in rows[: len(lines) - 1].to_numpy().tolist()
    )
    (folder / "clean.jsonl").write_text(records)
    return folder


@pytest.mark.parametrize("name", ["l.txt", "x.json"])
def test_bad_rows_leave_no_trace_in_the_answers_of_others(home, tmp_path, name):
    rows = (home / "clean.jsonl").read_text().count("\n")
    with load(home / name) as model:
        clean = predict_files(model, [str(home / "clean.csv")], str(tmp_path / "clean.csv"))
        bad = predict_files(model, [str(home / "bad.csv")], str(tmp_path / "bad.csv"), on_error="skip", threads=2)
        lines = predict_files(model, [str(home / "clean.jsonl")], str(tmp_path / "lines.csv"))
    assert (clean.rows, bad.rows, lines.rows) == (rows, rows, rows)
    assert bad.errors == 2 * len(range(7, rows, 50))
    assert (tmp_path / "bad.csv").read_bytes() == (tmp_path / "clean.csv").read_bytes()
    assert (tmp_path / "lines.csv").read_bytes() == (tmp_path / "clean.csv").read_bytes()
    assert bad.predictions == clean.predictions
