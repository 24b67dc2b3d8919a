import gzip

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from foretell.bulk import dry_run
from foretell.bulk.dry_run import forecast, plan_for
from foretell.bulk.job import predict_files
from foretell.errors import ConfigError, InferenceFailed, InvalidInput


def look(model, inputs, out, *, keep=(), overwrite=False, **options):
    settings = {"format_name": None, "chunk_rows": None, "model_digest": "m", "on_error": "fail"} | options
    plan = plan_for(model, [str(i) for i in inputs], str(out), keep=keep, **settings)
    return forecast(model, plan, keep, 2, overwrite=overwrite)


@pytest.fixture
def folder(tmp_path):
    """The same 5,000 rows in each format, with a column that no model takes."""
    given = tmp_path / "in"
    given.mkdir()
    table = pa.table({"a": [float(i) for i in range(5000)], "b": [0.5] * 5000, "z": ["w"] * 5000})
    pa.parquet.write_table(table, given / "1.parquet")
    pa.feather.write_feather(table, str(given / "2.feather"))
    text = "a,b,z\n" + "".join(f"{i},0.5,w\n" for i in range(5000))
    (given / "3.csv").write_text(text)
    (given / "4.csv.gz").write_bytes(gzip.compress(text.encode()))
    (given / "5.jsonl").write_text("".join(f'{{"a":{i},"b":0.5,"z":"w"}}\n' for i in range(5000)))
    return given


def test_it_says_what_the_job_then_does(folder, tmp_path, sum_model):
    model, out = sum_model("ab"), tmp_path / "out"
    before = sorted(tmp_path.rglob("*"))
    found = look(model, [folder], f"{out}/", keep=["z"], chunk_rows=2000)
    assert sorted(tmp_path.rglob("*")) == before
    summary = predict_files(model, [str(folder)], f"{out}/", keep=["z"], chunk_rows=2000, model_digest="m")
    assert (found.rows, found.state, found.done_rows) == (summary.rows, "new", 0)
    assert [f.output for f in found.files] == sorted(str(p) for p in out.iterdir() if p.name != ".foretell")
    assert (found.columns.used, found.columns.ignored, found.columns.kept) == (["a", "b"], [], ["z"])
    assert found.columns.output == ("z", "prediction")
    assert found.chunks == 15
    assert found.sample_rows == 25_000
    real = sum(p.stat().st_size for p in out.iterdir() if p.is_file())
    assert found.output_bytes == pytest.approx(real, rel=0.01)
    after = look(model, [folder], f"{out}/", keep=["z"], chunk_rows=2000)
    assert (after.state, after.done_rows, after.seconds) == ("complete", 25_000, 0)
    assert "takes" not in "\n".join(after.lines())
    assert look(model, [folder], f"{out}/", keep=["z"], chunk_rows=2000, overwrite=True).state == "new"
    assert look(model, [folder], f"{out}/", chunk_rows=2000).state.startswith("refused: --keep was")


def test_of_a_sample_that_is_not_all_the_rest_is_estimated(folder, tmp_path, sum_model, monkeypatch):
    monkeypatch.setattr(dry_run, "_SAMPLE_S", 0.0)  # one block
    model = sum_model("ab")
    rows = {name: look(model, [folder / name], tmp_path / "o.csv").files[0] for name in ("1.parquet", "2.feather")}
    assert {(f.rows, f.is_exact) for f in rows.values()} == {(5000, True)}
    (tmp_path / "long.csv").write_text("a,b\n" + "12345,0.5\n" * 300_000)
    long = look(model, [tmp_path / "long.csv"], tmp_path / "o.csv")
    assert long.sample_rows < 300_000
    assert not long.files[0].is_exact
    assert long.rows == pytest.approx(300_000, rel=0.01)
    assert "about 300," in long.lines()[0]
    (tmp_path / "long.csv.gz").write_bytes(gzip.compress((tmp_path / "long.csv").read_bytes()))
    packed = look(model, [tmp_path / "long.csv.gz"], tmp_path / "o.csv")
    assert (packed.rows, packed.chunks, packed.seconds, packed.output_bytes) == (None, None, None, None)
    assert "how many rows is not known" in packed.lines()[0]


def test_it_says_how_far_a_job_is(tmp_path, sum_model):
    class Tired(sum_model):
        calls = 0

        def predict_arrow(self, batch, first_row=0):
            self.calls += 1
            if self.calls > 3:
                raise InferenceFailed("tired")
            return super().predict_arrow(batch, first_row)

    (tmp_path / "i.csv").write_text("a,b\n" + "12345,0.5\n" * 900_000)
    given, out = [str(tmp_path / "i.csv")], str(tmp_path / "o.csv")
    with pytest.raises(InferenceFailed):
        predict_files(Tired("ab"), given, out, model_digest="m", chunk_rows=50_000, threads=1)
    found = look(sum_model("ab"), given, out, chunk_rows=50_000)
    assert found.state == "goes on"
    assert 0 < found.done_rows < 900_000
    assert f"goes on behind {found.done_rows:,} rows that are done" in "\n".join(found.lines())


def test_a_fault_is_told_as_the_job_would(folder, tmp_path, sum_model):
    (folder / "6.csv").write_text("a,c\n1,2\n")
    with pytest.raises(InvalidInput, match=r'^6\.csv: column "b": it is missing'):
        look(sum_model("ab"), [folder], tmp_path / "o.csv")
    (folder / "6.csv").write_text("a,b\n1,2\n1,x\n")
    with pytest.raises(InvalidInput, match=r'^6\.csv line 3: column "b": got "x"'):
        look(sum_model("ab"), [folder / "6.csv"], tmp_path / "o.csv")
    found = look(sum_model("ab"), [folder / "6.csv"], tmp_path / "o.csv", on_error="skip")
    assert (found.rows, found.sample_rows) == (2, 2)


def test_columns_that_go_by_position(tmp_path, sum_model):
    (tmp_path / "i.csv").write_text("x,y,k\n1,2,3\n")
    found = look(sum_model("ab", named=False), [tmp_path / "i.csv"], tmp_path / "o.csv", keep=["k"])
    assert (found.columns.used, found.columns.ignored) == (["x", "y"], [])


def test_no_row_to_try(tmp_path, sum_model):
    (tmp_path / "i.csv").write_text("a,b\n")
    found = look(sum_model("ab"), [tmp_path / "i.csv"], tmp_path / "o.csv")
    assert (found.rows, found.rows_per_s, found.seconds) == (0, None, None)
    assert "takes: not known, there was no row to try" in found.lines()


def test_what_can_be_read_once_is_refused(tmp_path, sum_model):
    with pytest.raises(ConfigError, match='"-" can be read or written once only'):
        look(sum_model("ab"), ["-"], tmp_path / "o.csv")
