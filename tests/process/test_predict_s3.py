"""`foretell predict` from S3 to S3: the same answers, only what is needed fetched, and killed jobs that go on."""

import gzip
import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from tests.process.s3_server import s3_lake

from foretell.bulk.far import Far, fetched_ahead, for_arrow
from foretell.bulk.job import predict_files
from foretell.bulk.sample import read_sample
from foretell.errors import ConfigError, MachineError

SLOW = """
import sys, time
sys.path.insert(0, "tests")
from conftest import SumModel
from foretell.bulk.job import predict_files
class Slow(SumModel):
    def predict_arrow(self, batch, first_row=0):
        time.sleep(float(sys.argv[1]))
        return super().predict_arrow(batch, first_row)
print("began", flush=True)
try:
    predict_files(Slow("ab"), [sys.argv[2]], sys.argv[3], keep=["k"], threads=2, chunk_rows=1000)
except Exception as e:
    sys.exit(f"{type(e).__name__}: {e}")
"""


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch, s3_lake(patch) as lake:
        yield lake


@pytest.fixture
def lake(server):
    for key in server.objects():
        del server._backend()[key]
    server.forget()
    return server


def table(rows, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table({"a": rng.standard_normal(rows), "k": np.arange(rows), "b": rng.standard_normal(rows)})


def content(found, kind):
    out = io.BytesIO()
    if kind == "parquet":
        pa.parquet.write_table(found, out, row_group_size=700)
    elif kind == "arrow":
        pa.feather.write_feather(found, out, compression="uncompressed")
    elif kind == "jsonl":
        out.write("".join(json.dumps(row) + "\n" for row in found.to_pylist()).encode())
    else:
        pa.csv.write_csv(found, out)
    return gzip.compress(out.getvalue()) if kind == "csv.gz" else out.getvalue()


def slow(seconds, given, out):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(seconds), given, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


@pytest.mark.parametrize("ending", ["parquet", *(pytest.param(e, marks=pytest.mark.slow) for e in ("csv", "jsonl.gz"))])
def test_what_is_written_is_what_a_disk_would_have(lake, tmp_path, sum_model, ending):
    for number, kind in enumerate(("parquet", "csv", "csv.gz", "jsonl", "arrow")):
        name = f"2026/{number}/part.{kind}"
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content(table(3000, number), kind))
        lake.put(name, (tmp_path / name).read_bytes())
    lake.put("2026/_SUCCESS", b"")
    lake.put("2026/notes.md", b"not read")
    options = {"keep": ["k"], "threads": 2, "chunk_rows": 1000}
    near, far = f"{tmp_path}/o.{ending}", f"s3://lake/out/o.{ending}"
    summary = predict_files(sum_model("ab"), ["s3://lake/2026/"], far, **options)
    predict_files(sum_model("ab"), [f"{tmp_path}/2026"], near, **options)
    assert (summary.rows, summary.files) == (15_000, 5)
    assert lake.objects("out/") == [f"out/o.{ending}"]
    with open(near, "rb") as file:
        assert lake.get(f"out/o.{ending}") == file.read()
    predict_files(sum_model("ab"), ["s3://lake/2026/*/part.c*"], "s3://lake/scored/", **options)
    assert [k for k in lake.objects("scored/") if ".foretell" not in k] == ["scored/1/part.csv", "scored/2/part.csv.gz"]
    assert lake.uploads() == 0


def test_of_parquet_only_the_needed_columns_are_fetched(lake):
    rng = np.random.default_rng(0)
    found = pa.table({f"c{i}": rng.standard_normal(200_000) for i in range(20)})
    out = io.BytesIO()
    pa.parquet.write_table(found, out, row_group_size=50_000, use_dictionary=False)
    lake.put("wide.parquet", out.getvalue())
    lake.forget()
    url = "s3://lake/wide.parquet"
    file, columns, rows = Far(url, len(out.getvalue())), ["c3", "c11"], 0
    with for_arrow(file) as stream, pa.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20) as reader:
        batches = reader.iter_batches(32_768, columns=columns)
        for batch in fetched_ahead(stream, reader.metadata, columns, 0, batches):
            rows += batch.num_rows
    assert rows == 200_000
    needed = 2 * 8 * 200_000
    assert needed <= lake.sent_bytes <= needed + 150_000  # and the footer
    assert len(lake.asked) <= 2 + 2 * 4


def begun(lake, kind="csv", seconds=0.2):
    """Begin a job of twelve chunks, and return once two are in the journal."""
    for number in range(12):
        lake.put(f"in/{number:02d}.{kind}", content(table(2000, number), kind))
    child = slow(seconds, "s3://lake/in/", "s3://lake/o.csv")
    while len(lake.objects(".o.csv.foretell/journal/")) < 3:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)  # the server is in this process
    return child


def killed(child):
    child.kill()
    child.communicate()


def again(out="s3://lake/o.csv"):
    child = slow(0.0, "s3://lake/in/", out)
    _, said = child.communicate(timeout=200)
    return child.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_job_that_is_killed_goes_on_to_the_same_bytes(lake, sum_model, kind):
    killed(begun(lake, kind))
    assert "o.csv" not in lake.objects()
    kept = len(lake.objects(".o.csv.foretell/journal/")) - 1
    lake.forget()
    assert again() == (0, "")
    parts = [a for a in lake.asked if a.startswith("PUT") and a.endswith(".part")]
    assert len(parts) == 12 - kept  # one for each file
    predict_files(sum_model("ab"), ["s3://lake/in/"], "s3://lake/whole.csv", keep=["k"], threads=2, chunk_rows=1000)
    assert lake.get("o.csv") == lake.get("whole.csv")
    assert [k for k in lake.objects() if not k.startswith("in/")] == ["o.csv", "whole.csv"]


@pytest.mark.slow
def test_a_second_job_is_told_at_once(lake):
    first = begun(lake, seconds=1.0)
    code, said = again()
    killed(first)
    assert code == 1
    assert f"process {first.pid} on" in said
    assert "is at work here" in said


@pytest.mark.slow
def test_an_input_that_changed_is_refused(lake):
    killed(begun(lake))
    lake.put("in/07.csv", content(table(2000, seed=70), "csv"))
    code, said = again()
    assert code == 1
    assert 'input "s3://lake/in/07.csv" has changed' in said


def test_what_is_not_there(lake, sum_model):
    for given, problem in (
        ("s3://lake/no/", "no such file or folder"),
        ("s3://lake/*.csv", "no file matches"),
        ("s3://sea/", "no such bucket"),
    ):
        with pytest.raises(ConfigError, match=problem):
            predict_files(sum_model("ab"), [given], None)
    lake.put("2026/notes.md", b"")
    with pytest.raises(ConfigError, match="a folder without data files"):
        predict_files(sum_model("ab"), ["s3://lake/2026"], None)


@pytest.mark.parametrize("kind", ["arrow", pytest.param("csv", marks=pytest.mark.slow)])
def test_an_input_that_changes_while_it_is_read_ends_the_job(lake, tmp_path, sum_model, kind):
    class Meddling(sum_model):
        def predict_arrow(self, batch, first_row=0):
            lake.put(f"i.{kind}", content(table(300_000, 1), kind))
            return super().predict_arrow(batch, first_row)

    lake.put(f"i.{kind}", content(table(300_000), kind))
    with pytest.raises(ConfigError, match=rf's3://lake/i.{kind}": was changed while it was read'):
        predict_files(Meddling("ab"), [f"s3://lake/i.{kind}"], f"{tmp_path}/o.csv", threads=1, chunk_rows=1000)


@pytest.mark.parametrize("kind", ["parquet", *(pytest.param(k, marks=pytest.mark.slow) for k in ("arrow", "csv"))])
def test_a_lost_connection_is_the_machines_fault_and_the_job_goes_on(lake, tmp_path, sum_model, monkeypatch, kind):
    import s3fs
    from botocore.exceptions import EndpointConnectionError

    for number in range(3):
        lake.put(f"in/{number}.{kind}", content(table(2000, number), kind))
    options = {"threads": 1, "chunk_rows": 1000}
    asked, real = [], s3fs.S3FileSystem._call_s3

    async def lost(fs, method, *arguments, **named):
        asked.append(method)
        if len(asked) > 10:
            raise EndpointConnectionError(endpoint_url="http://store")
        return await real(fs, method, *arguments, **named)

    out, whole = tmp_path / "o.csv", tmp_path / "whole.csv"
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", lost)
    with pytest.raises(MachineError, match="check the connection, then run the same command again"):
        predict_files(sum_model("ab"), ["s3://lake/in/"], str(out), **options)
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", real)
    assert 0 < predict_files(sum_model("ab"), ["s3://lake/in/"], str(out), **options).rows_before < 6000
    predict_files(sum_model("ab"), ["s3://lake/in/"], str(whole), **options)
    assert out.read_bytes() == whole.read_bytes()


def test_a_sample_may_lie_there(lake):
    lake.put("i.csv", b"a,b\n1,x\n2,y\n")
    assert read_sample("s3://lake/i.csv").to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
