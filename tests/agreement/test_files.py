"""The same rows through every kind of file, cut anywhere, give what the same rows give in Python."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_wine

from foretell.bulk import delimited, dialect
from foretell.bulk.job import predict_files
from foretell.bulk.sample import read_sample
from foretell.signature import Field


@pytest.fixture(scope="module")
def homes():
    """Mixed columns as people have them: categories with commas and quotes, missing values, integers, floats."""
    rng = np.random.default_rng(0)
    wine = load_wine(as_frame=True).frame
    frame = wine[["alcohol", "proline", "hue"]].copy()
    frame["proline"] = frame["proline"].astype(int)
    frame["flavour"] = rng.choice(["Typ, dry", 'Half "dry"', "None", "a\nb", "é"], len(frame))
    frame.loc[rng.random(len(frame)) < 0.2, "hue"] = np.nan
    frame["id"] = [f"{i:05d}" for i in range(len(frame))]
    return frame


FIELDS = (
    Field("flavour", "category", categories=("None", "Typ, dry", "a\nb", "é")),
    Field("hue"),
    Field("proline", "integer"),
    Field("alcohol"),
)

WRITERS = {
    "i.csv": lambda f, p: f.to_csv(p, index=False),
    "semicolon.txt": lambda f, p: f.to_csv(p, index=False, sep=";"),
    "i.tsv": lambda f, p: f.to_csv(p, index=False, sep="\t", quoting=1),
    "crlf.csv": lambda f, p: f.to_csv(p, index=False, lineterminator="\r\n", encoding="utf-8-sig"),
    "i.csv.gz": lambda f, p: f.to_csv(p, index=False),
    "i.parquet": lambda f, p: f.to_parquet(p, row_group_size=50),
    "categories.parquet": lambda f, p: f.astype({"flavour": "category"}).to_parquet(p),
    "i.jsonl": lambda f, p: f.to_json(p, orient="records", lines=True),
    "i.ndjson.gz": lambda f, p: p.write_bytes(gzip.compress(f.to_json(orient="records", lines=True).encode())),
    "i.feather": lambda f, p: pa.feather.write_feather(pa.table(f), str(p)),
    "i.arrows": lambda f, p: stream(pa.table(f), p),
}


def stream(table, path):
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, 40)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block_bytes", [50, 1000, 1 << 20])
@pytest.mark.parametrize("name", WRITERS)
def test_files_agree_with_the_frame(tmp_path, sum_model, homes, monkeypatch, name, block_bytes, threads):
    monkeypatch.setitem(delimited.DelimitedSource.__init__.__kwdefaults__, "block_bytes", block_bytes)
    monkeypatch.setattr(delimited, "_WIDE_ROWS", 0)
    monkeypatch.setattr(dialect, "_HEAD_BYTES", 100)
    model = sum_model(FIELDS)
    WRITERS[name](homes, tmp_path / name)
    out = tmp_path / "out.parquet"
    summary = predict_files(model, [str(tmp_path / name)], str(out), keep=["id"], threads=threads)
    found = pa.parquet.read_table(out)
    assert summary.rows == len(homes)
    assert found["id"].to_pylist() == homes["id"].tolist()
    assert found["prediction"].to_pylist() == model.predict(homes).values.tolist()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "arrow"])
def test_kept_columns_come_through_every_format_unchanged(tmp_path, sum_model, homes, ending):
    homes.to_parquet(tmp_path / "i.parquet")
    out = tmp_path / f"o.{ending}"
    predict_files(sum_model(FIELDS), [str(tmp_path / "i.parquet")], str(out), keep="all")
    again = tmp_path / "again.parquet"
    predict_files(sum_model([*FIELDS, "prediction"]), [str(out)], str(again), keep=[*homes.columns])
    found = pa.parquet.read_table(again).to_pandas()
    for name in ("flavour", "id"):
        assert found[name].tolist() == homes[name].tolist()
    for name in ("alcohol", "proline", "hue"):
        assert np.array_equal(found[name].replace("", np.nan).astype(float), homes[name], equal_nan=True)


CELL = st.one_of(
    st.floats(allow_infinity=False, width=64),
    st.integers(-(2**60), 2**60).map(float),
    st.none(),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20), st.integers(1, 99))
def test_any_numbers_agree_in_text_and_in_python(tmp_path, sum_model, rows, block_bytes):
    model = sum_model("ab")
    dicts = [dict(zip("ab", row, strict=True)) for row in rows]
    expected = model.predict(dicts).values.tolist()
    texts = ["" if v is None else repr(v) for row in rows for v in row]
    csv = "a,b\n" + "".join(f"{a},{b}\n" for a, b in zip(texts[::2], texts[1::2], strict=True))
    (tmp_path / "i.csv").write_text(csv)
    (tmp_path / "i.jsonl").write_text("".join(json.dumps(d) + "\n" for d in dicts))
    pa.parquet.write_table(
        pa.Table.from_pylist(dicts, pa.schema({"a": pa.float64(), "b": pa.float64()})), tmp_path / "i.parquet"
    )
    for name in ("i.csv", "i.jsonl", "i.parquet"):
        predict_files(model, [str(tmp_path / name)], str(tmp_path / "o.parquet"))
        assert pa.parquet.read_table(tmp_path / "o.parquet")["prediction"].to_pylist() == expected


def test_a_careful_block_changes_no_answer(tmp_path, sum_model):
    """One cell that only the careful way reads, among many that the fast way reads."""
    rng = np.random.default_rng(0)
    rows = [f"{a!r},{b}" for a, b in zip(rng.normal(size=500).tolist(), rng.integers(0, 9, 500).tolist(), strict=True)]
    plain, careful = tmp_path / "plain.csv", tmp_path / "careful.csv"
    plain.write_text("\n".join(["a,b", *rows, "NA,1"]))
    careful.write_text("\n".join(["a,b", *rows, " NA,True"]))
    found = []
    for path in (plain, careful):
        predict_files(sum_model("ab"), [str(path)], str(tmp_path / "o.csv"))
        found.append((tmp_path / "o.csv").read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["i.csv", "i.jsonl", "i.parquet", "i.arrows"])
def test_a_sample_has_the_types_of_the_frame(tmp_path, homes, name):
    frame = homes.assign(truth=homes["proline"] > 700)
    WRITERS[name](frame, tmp_path / name)
    found = read_sample(str(tmp_path / name))
    assert found.column_names == frame.columns.tolist()
    assert pa.types.is_boolean(found["truth"].type)
    assert pa.types.is_integer(found["proline"].type)
    assert pa.types.is_floating(found["hue"].type)
    assert found["id"].to_pylist() == frame["id"].tolist()
    assert found["flavour"].to_pylist() == frame["flavour"].tolist()
    pd.testing.assert_series_equal(found["hue"].to_pandas(), frame["hue"], check_names=False)
    assert read_sample(str(tmp_path / name), max_rows=10).num_rows == 10


def test_the_real_data_keeps_its_spellings(tmp_path):
    path = Path(tmp_path / "codes.csv")
    path.write_text("code,zip,empty,word\n020,01234,,None\n120,99999,NA,x\n")
    found = read_sample(str(path))
    assert found["code"].to_pylist() == ["020", "120"]
    assert found["zip"].to_pylist() == ["01234", "99999"]
    assert found["empty"].to_pylist() == [None, None]
    assert found["word"].to_pylist() == ["None", "x"]
