import gzip
import io
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet
import pytest

from foretell.bulk import delimited, dialect
from foretell.bulk.job import predict_files
from foretell.errors import ConfigError, InferenceFailed, InvalidInput, MachineError


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(dialect, "_HEAD_BYTES", 64)
    monkeypatch.setitem(delimited.DelimitedSource.__init__.__kwdefaults__, "block_bytes", 64)


def write(path, text):
    path.write_text(text, newline="")
    return str(path)


def numbers(count, start=0):
    return "a,b\n" + "".join(f"{i},0.5\n" for i in range(start, start + count))


def test_rows_keep_their_order_whatever_their_block_takes(tmp_path, sum_model, small_blocks):
    class Uneven(sum_model):
        def predict_arrow(self, batch, first_row=0):
            time.sleep(0.002 * (batch.column(0)[0].as_py() * 7 % 3))
            return super().predict_arrow(batch, first_row)

    out = tmp_path / "o.csv"
    summary = predict_files(Uneven("ab"), [write(tmp_path / "i.csv", numbers(500))], str(out), threads=4)
    assert pa.csv.read_csv(out)["prediction"].to_pylist() == [i + 0.5 for i in range(500)]
    assert (summary.rows, summary.files, summary.notes) == (500, 1, ())
    assert summary.seconds > 0


def test_few_blocks_are_in_memory_at_once(tmp_path, sum_model, small_blocks):
    class Counting(sum_model):
        lock, begun, most = threading.Lock(), 0, 0

        def predict_arrow(self, batch, first_row=0):
            with self.lock:
                self.begun += 1
            if batch.column(0)[0].as_py() == 0:
                time.sleep(0.2)  # the first block of the file holds the writer up; the reader must wait for it
                Counting.most = self.begun
            return super().predict_arrow(batch, first_row)

    predict_files(Counting("ab"), [write(tmp_path / "i.csv", numbers(2000))], str(tmp_path / "o.csv"), threads=2)
    assert Counting.most <= 4


def test_files_folders_and_globs_in_the_order_of_their_names(tmp_path, sum_model, small_blocks):
    folder = tmp_path / "parts" / "deep"
    folder.mkdir(parents=True)
    write(folder / "2.csv", numbers(100, 100))
    write(folder / "1.csv", numbers(100))
    write(folder / "_SUCCESS.csv", "not read")
    write(folder / "readme.md", "not read")
    with gzip.open(tmp_path / "3.csv.gz", "wt") as f:
        f.write(numbers(100, 200))
    out = tmp_path / "o.csv"
    summary = predict_files(sum_model("ab"), [str(tmp_path / "parts"), str(tmp_path / "3*")], str(out))
    assert (summary.rows, summary.files) == (300, 3)
    assert pa.csv.read_csv(out)["prediction"].to_pylist() == [i + 0.5 for i in range(300)]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet", ".arrow", ".feather"])
def test_outputs(tmp_path, sum_model, small_blocks, ending):
    given = write(
        tmp_path / "i.csv", 'PID,b,a\n007,1,2\n"8,""x""\ny",3,\n' * 1 + "".join(f"k{i},1,{i}\n" for i in range(99))
    )
    out = tmp_path / f"o{ending}"
    predict_files(sum_model("ab"), [given], str(out), keep=["PID", "a"])
    if ending.endswith(".gz"):
        assert out.read_bytes()[:2] == b"\x1f\x8b"
        out = io.BytesIO(gzip.decompress(out.read_bytes()))
    if ending.startswith(".csv"):
        options = pa.csv.ConvertOptions(column_types={"PID": pa.string(), "a": pa.string()})
        found = pa.csv.read_csv(
            out, parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=options
        )
    elif ending.startswith(".jsonl"):
        found = pa.json.read_json(out)
    else:
        found = pa.parquet.read_table(out) if ending == ".parquet" else pa.feather.read_table(out)
    assert found.column_names == ["PID", "a", "prediction"]
    assert found["PID"].to_pylist()[:3] == ["007", '8,"x"\ny', "k0"]
    assert found["a"].to_pylist()[:3] == ["2", "", "0"]
    assert found["prediction"].to_pylist() == [3, 3, *(i + 1 for i in range(99))]


def test_a_classification_has_the_columns_of_the_contract(tmp_path, sum_model):
    given = write(tmp_path / "i.csv", "a\n1\n-1\n")
    out = tmp_path / "o.csv"
    predict_files(sum_model("a", classes=("no", "yes")), [given], str(out), keep="all")
    assert out.read_text() == "a,prediction,probability,probability_no,probability_yes\n1,yes,1,0,1\n-1,no,1,1,0\n"


def test_types_of_kept_columns_are_those_of_the_input(tmp_path, sum_model):
    table = pa.table(
        {"a": [1.5, 2.5], "k": pa.array(["x", "y"]).dictionary_encode(), "d": pa.array([1, 2], pa.date32())}
    )
    pa.parquet.write_table(table, tmp_path / "i.parquet")
    predict_files(sum_model("a"), [str(tmp_path / "i.parquet")], str(tmp_path / "o.parquet"), keep="all")
    found = pa.parquet.read_table(tmp_path / "o.parquet")
    assert found.drop_columns(["prediction"]).equals(table)


def test_parquet_has_few_row_groups_and_all_rows(tmp_path, sum_model, small_blocks):
    given = write(tmp_path / "i.csv", numbers(3000))
    predict_files(sum_model("ab"), [given], str(tmp_path / "o.parquet"))
    assert pa.parquet.ParquetFile(tmp_path / "o.parquet").num_row_groups == 1


def test_standard_streams(tmp_path, sum_model, monkeypatch):
    outputs = []
    for text in ("a,b\n1,2\n3,4\n", '{"a":1,"b":2}\n{"a":3,"b":4}\n'):
        for raw in (text.encode(), gzip.compress(text.encode())):
            stdout = io.BytesIO()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
            monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stdout, write_through=True))
            predict_files(sum_model("ab"), ["-"], None)
            outputs.append(stdout.getvalue())
    assert outputs == [b"prediction\n3\n7\n"] * 4


@pytest.mark.parametrize("kind", ["csv", "stdin"])
@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("x,1,z", 'column "a": got "x", expected a number'),
        ("1,2,3,4", "4 cells, expected 3 as in the header"),
        ("inf,1,z", 'column "a", row 700: got inf'),
        ("1,2,\0", "a NUL byte"),
    ],
)
def test_a_fault_is_placed_by_line_and_row(tmp_path, sum_model, small_blocks, monkeypatch, kind, bad, problem):
    rows = ['1,2,"x\ny"', ""] + [f"{i},1,z" for i in range(699)] + [bad] + [f"{i},1,z" for i in range(99)]
    path = write(tmp_path / "i.csv", "\n".join(["a,b,c", *rows]))
    line = 1 + 2 + 1 + 699 + 1
    if kind == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(path).read_bytes())))
    with pytest.raises(InvalidInput) as e:
        predict_files(sum_model("ab"), ["-" if kind == "stdin" else path], str(tmp_path / "o.csv"), threads=3)
    name = "stdin" if kind == "stdin" else "i.csv"
    assert str(e.value).startswith(f"{name} line {line}: {problem}")
    assert e.value.row == 700
    assert [p.name for p in tmp_path.iterdir()] == ["i.csv"]


def test_a_fault_of_json_lines_is_placed_by_line_and_row(tmp_path, sum_model):
    rows = ['{"a": 1}', ""] * 30_000 + ['{"a": [1]}']
    with pytest.raises(
        InvalidInput, match=r'^i.jsonl line 60001: column "a", row 30000: got \[1\], expected a number'
    ) as e:
        predict_files(sum_model("a"), [write(tmp_path / "i.jsonl", "\n".join(rows))], str(tmp_path / "o.csv"))
    assert (e.value.row, e.value.column) == (30_000, "a")


def test_a_fault_of_parquet_is_placed_by_row(tmp_path, sum_model):
    values = np.zeros(100_000)
    values[77_777] = np.inf
    pa.parquet.write_table(pa.table({"a": values}), tmp_path / "i.parquet")
    with pytest.raises(InvalidInput, match=r'^i.parquet: column "a", row 77777: got inf') as e:
        predict_files(sum_model("a"), [str(tmp_path / "i.parquet")], str(tmp_path / "o.csv"))
    assert e.value.row == 77_777


def test_the_first_fault_of_several_is_told(tmp_path, sum_model, small_blocks):
    text = "a\n" + "1\n" * 300 + "x\n" + "1\n" * 50 + "y\n" + '"' + "1\n" * 99
    with pytest.raises(InvalidInput, match=r'^i\.csv line 302: column "a": got "x"'):
        predict_files(sum_model("a"), [write(tmp_path / "i.csv", text)], str(tmp_path / "o.csv"), threads=4)


@pytest.mark.parametrize("error", [KeyboardInterrupt, InferenceFailed("no"), OSError(28, "No space left on device")])
def test_nothing_half_written_stays(tmp_path, sum_model, small_blocks, monkeypatch, error):
    from foretell.bulk import writer

    given = write(tmp_path / "i.csv", numbers(2000))
    out = tmp_path / "o.csv"
    out.write_text("old")
    taken = []

    def write_or_fail(self, encoded):
        taken.append(encoded)
        if len(taken) == 5:
            raise error
        self._file.write(encoded)

    with monkeypatch.context() as failing:
        failing.setattr(writer._Lines, "write", write_or_fail)
        with pytest.raises(
            MachineError if isinstance(error, OSError) else type(error) if isinstance(error, Exception) else error
        ):
            predict_files(sum_model("ab"), [given], str(out), chunk_rows=1)
    assert len(taken) == 5
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".o.csv.foretell", "i.csv", "o.csv"]
    assert not [t for t in threading.enumerate() if t.name.startswith("foretell-bulk")]
    assert predict_files(sum_model("ab"), [given], str(out), chunk_rows=1).rows == 2000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.csv", "o.csv"]


def test_wrong_use(tmp_path, sum_model):
    given = write(tmp_path / "i.csv", "a,prediction\n1,2\n")
    for inputs, out, keep, problem in (
        ([str(tmp_path / "no.csv")], None, (), "there is no such file"),
        ([str(tmp_path / "*.nothing")], None, (), "no file matches"),
        ([given], str(tmp_path / "o.xlsx"), (), "the ending says the format"),
        ([given], str(tmp_path / "no" / "o.csv"), (), "there is no folder"),
        ([given, given], str(tmp_path / "dir.csv"), (), "would both be written"),
        ([given], given, (), "this is an input too"),
        ([given], str(tmp_path / "o.csv"), "all", 'column "prediction": it is to be kept'),
        ([given], str(tmp_path / "o.csv"), ["z"], 'no column "z" to keep'),
        (["-", "-"], None, (), "once only"),
    ):
        (tmp_path / "dir.csv").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match=problem):
            predict_files(sum_model("a"), inputs, out, keep=keep)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir.csv", "i.csv"]


def test_files_whose_kept_columns_differ_are_refused(tmp_path, sum_model):
    first, second = write(tmp_path / "1.csv", "a,k\n1,2\n"), write(tmp_path / "2.csv", "a,l\n1,2\n")
    with pytest.raises(InvalidInput, match="columns a, l, prediction are to be written"):
        predict_files(sum_model("a"), [first, second], str(tmp_path / "o.csv"), keep="all")


def test_what_was_coerced_is_said_once(tmp_path, sum_model, small_blocks):
    text = "a,b,z\n" + "True, NA,1\n1, 2,1\n" * 200
    out = tmp_path / "o.csv"
    summary = predict_files(sum_model("ab"), [write(tmp_path / "i.csv", text)], str(out))
    assert summary.notes == (
        'ignored columns that the model does not take: "z"',
        'column "a": true and false were read as 1 and 0',
    )
    assert pa.csv.read_csv(out)["prediction"].to_pylist() == [1, 3] * 200


def test_a_bar_is_shown_only_when_asked(tmp_path, sum_model, capsys):
    given = write(tmp_path / "i.csv", numbers(10))
    predict_files(sum_model("ab"), [given], str(tmp_path / "o.csv"))
    assert capsys.readouterr().err == ""
    predict_files(sum_model("ab"), [given], str(tmp_path / "o.csv"), progress="bar")
    assert "predict" in capsys.readouterr().err


def test_integers_of_wide_tensors_are_exact(tmp_path, sum_model):
    class Whole(sum_model):
        def predict_arrow(self, batch, first_row=0):
            seen.append(batch.column(0).to_pylist())
            return super().predict_arrow(batch, first_row)

    seen = []
    given = write(tmp_path / "i.csv", "a\n9007199254740993\n-9223372036854775807\n")
    predict_files(Whole("a", datatype="INT64"), [given], str(tmp_path / "o.csv"))
    assert seen == [[9007199254740993, -9223372036854775807]]


def test_a_device_is_written_to_and_not_replaced(tmp_path, sum_model):
    target = tmp_path / "null.csv"
    target.symlink_to("/dev/null")
    predict_files(sum_model("ab"), [write(tmp_path / "i.csv", numbers(5))], str(target))
    assert target.is_symlink()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
