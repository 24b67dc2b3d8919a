"""Rows without an answer, end to end: counts, answers of the others, the quarantine file."""

import io
import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from faulty_storage import Died, FaultyStorage

from foretell.bulk import delimited, dialect, jsonl, plan, quarantine
from foretell.bulk.job import predict_files
from foretell.errors import ConfigError, InvalidInput, MachineError

BAD = {
    "x,1,z": ("a", 'got "x", expected a number'),
    "1,2": (None, "2 cells, expected 3 as in the header; quote cells that hold the delimiter"),
    '1,2,3,"4"': (None, "4 cells, expected 3 as in the header; quote cells that hold the delimiter"),
    "1,inf,z": ("b", "got inf, expected a finite number that fits float64"),
    '"1,5",1,"two\nlines"': ("a", 'got "1,5", expected a number; write decimals with a point, as in 1.5'),
}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(dialect, "_HEAD_BYTES", 64)
    monkeypatch.setattr(delimited, "_WIDE_ROWS", 1)
    monkeypatch.setitem(delimited.DelimitedSource.__init__.__kwdefaults__, "block_bytes", 128)
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 128)


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def quarantined(path):
    if path.suffix == ".jsonl":
        return read_jsonl(path)
    if path.suffix == ".parquet":
        return pa.parquet.read_table(path).to_pylist()
    options = pa.csv.ConvertOptions(
        column_types={"line": pa.int64(), "row": pa.int64(), "column": pa.string(), "text": pa.string()},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    return pa.csv.read_csv(path, parse_options=parse, convert_options=options).to_pylist()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([None, None, None, *BAD]), max_size=80),
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from(["csv", "jsonl", "parquet"]),
)
def test_counts_are_exact_and_every_bad_row_is_kept_once(
    tmp_path_factory, sum_model, small_blocks, rows, chunk_rows, threads, ending
):
    """Hypothesis: bad rows in random places, chunks of any length; against the clean file and a list made by hand."""
    folder = tmp_path_factory.mktemp("job")
    good = [f"{i},0.5,w" for i in range(len(rows))]
    lines = [good[i] if bad is None else bad for i, bad in enumerate(rows)]
    (folder / "i.csv").write_text("\n".join(["a,b,c", *lines, ""]))
    (folder / "clean.csv").write_text(
        "\n".join(["a,b,c", *(g for g, bad in zip(good, rows, strict=True) if not bad), ""])
    )
    model, bad_file = sum_model("ab"), folder / f"bad.{ending}"
    options = {"keep": ["a", "c"], "chunk_rows": chunk_rows, "threads": threads}
    summary = predict_files(
        model,
        [str(folder / "i.csv")],
        str(folder / "o.csv"),
        on_error="quarantine",
        quarantine=str(bad_file),
        **options,
    )
    clean = predict_files(model, [str(folder / "clean.csv")], str(folder / "c.csv"), **options)
    skipped = predict_files(model, [str(folder / "i.csv")], str(folder / "s.csv"), on_error="skip", **options)
    assert (folder / "o.csv").read_bytes() == (folder / "c.csv").read_bytes() == (folder / "s.csv").read_bytes()
    bad = [row for row in rows if row is not None]
    assert (summary.rows, summary.errors, summary.read_rows) == (len(rows) - len(bad), len(bad), len(rows))
    assert (skipped.rows, skipped.errors) == (summary.rows, summary.errors)
    assert summary.predictions == clean.predictions
    expected, line = [], 2
    for row in lines:
        if row in BAD:
            column, reason = BAD[row]
            told = {"file": str(folder / "i.csv"), "line": line, "row": None, "column": column}
            expected.append({**told, "reason": reason, "text": row})
        line += 1 + row.count("\n")
    assert quarantined(bad_file) == expected
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["i.csv", "clean.csv", "o.csv", "c.csv", "s.csv", bad_file.name]
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([1.0, 2.5, None, np.inf, -np.inf]), max_size=60), st.integers(1, 30), st.data())
def test_the_same_for_parquet_and_json_lines(tmp_path_factory, sum_model, small_blocks, values, chunk_rows, data):
    """Hypothesis: the same rows in two formats are answered, and left out, alike."""
    folder = tmp_path_factory.mktemp("job")
    pa.parquet.write_table(
        pa.table({"a": pa.array(values, pa.float64()), "n": range(len(values))}),
        folder / "i.parquet",
        row_group_size=data.draw(st.integers(1, 70)),
    )
    cells = [json.dumps({"a": v if v is None or np.isfinite(v) else str(v), "n": n}) for n, v in enumerate(values)]
    (folder / "i.jsonl").write_text("".join(f"{c}\n" for c in cells))
    found = {}
    for kind in ("parquet", "jsonl"):
        summary = predict_files(
            sum_model("a"),
            [str(folder / f"i.{kind}")],
            str(folder / f"{kind}.jsonl"),
            keep=["n"],
            chunk_rows=chunk_rows,
            on_error="quarantine",
            quarantine=str(folder / f"bad-{kind}.jsonl"),
        )
        found[kind] = (summary.rows, summary.errors, summary.read_rows, summary.predictions)
        bad = read_jsonl(folder / f"bad-{kind}.jsonl")
        place = [b["row"] if kind == "parquet" else b["line"] - 1 for b in bad]
        assert place == [n for n, v in enumerate(values) if v is not None and not np.isfinite(v)]
        assert [json.loads(b["text"])["n"] for b in bad] == place
    assert found["parquet"] == found["jsonl"]
    assert (folder / "parquet.jsonl").read_bytes() == (folder / "jsonl.jsonl").read_bytes()


def test_streams_are_quarantined_too(tmp_path, sum_model, monkeypatch):
    stdout = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1,2\nx,2\n3,4\n")))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stdout, write_through=True))
    bad = tmp_path / "bad.csv"
    summary = predict_files(sum_model("ab"), ["-"], None, on_error="quarantine", quarantine=str(bad))
    assert stdout.getvalue() == b"prediction\n3\n7\n"
    assert bad.read_text() == 'file,line,row,column,reason,text\n-,3,,a,"got ""x"", expected a number","x,2"\n'
    assert (summary.rows, summary.errors, summary.read_rows, summary.quarantine) == (2, 1, 3, str(bad))


def test_a_quarantine_without_rows_is_there(tmp_path, sum_model):
    (tmp_path / "i.csv").write_text("a\n1\n")
    for ending in ("csv", "jsonl", "parquet", "csv.gz"):
        bad = tmp_path / f"bad.{ending}"
        options = {"on_error": "quarantine", "quarantine": str(bad)}
        predict_files(sum_model("a"), [str(tmp_path / "i.csv")], str(tmp_path / "o.csv"), **options)
        assert bad.exists()
    assert (tmp_path / "bad.csv").read_text() == "file,line,row,column,reason,text\n"
    schema = pa.parquet.read_schema(tmp_path / "bad.parquet")
    assert schema.names == ["file", "line", "row", "column", "reason", "text"]


def test_a_file_of_bad_rows_alone_has_an_output_without_rows(tmp_path, sum_model):
    (tmp_path / "i.csv").write_text("a\n" + "x\n" * 1000)
    for ending in ("csv", "parquet", "jsonl"):
        out = tmp_path / f"o.{ending}"
        summary = predict_files(sum_model("a"), [str(tmp_path / "i.csv")], str(out), on_error="skip")
        assert (summary.rows, summary.errors) == (0, 1000)
    assert (tmp_path / "o.csv").read_text() == "prediction\n"
    assert pa.parquet.read_table(tmp_path / "o.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("i.csv", b"b\n1\n", 'column "a": it is missing'),
        ("i.csv", b'a\n1\n"x\n2\n', "never closes"),
        ("i.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03KL*\xe1", "gzip archive is damaged"),
        ("i.parquet", b"PAR1" + b"\0" * 40, "damaged or cut off"),
        ("i.csv", b"", "the file is empty"),
        ("i.csv", b"a\0\n1\n", "a NUL byte"),
    ],
)
def test_what_is_no_fault_of_a_row_ends_the_job_all_the_same(tmp_path, sum_model, name, content, problem):
    (tmp_path / name).write_bytes(content)
    bad = tmp_path / "bad.csv"
    with pytest.raises(InvalidInput, match=problem):
        predict_files(
            sum_model("a"),
            [str(tmp_path / name)],
            str(tmp_path / "o.csv"),
            on_error="quarantine",
            quarantine=str(bad),
        )
    assert not bad.exists()
    assert not (tmp_path / "o.csv").exists()


def test_the_model_at_fault_ends_the_job_all_the_same(tmp_path, sum_model):
    from foretell.errors import InferenceFailed

    class Failing(sum_model):
        def predict_arrow(self, batch, first_row=0):
            raise InferenceFailed("no")

    (tmp_path / "i.csv").write_text("a\n1\n")
    with pytest.raises(InferenceFailed):
        predict_files(Failing("a"), [str(tmp_path / "i.csv")], str(tmp_path / "o.csv"), on_error="skip")


def test_wrong_use(tmp_path, sum_model):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "i.csv").write_text("a\n1\n")
    for bad, problem in (
        ("bad.xlsx", "the ending says the format"),
        ("in/i.csv", "this is an input too"),
        ("in/bad.csv", "lies in the input folder"),
        ("o.csv", "this is an output too"),
        ("d.csv", "this is a folder"),
    ):
        (tmp_path / "d.csv").mkdir(exist_ok=True)
        with pytest.raises(ConfigError, match=problem):
            predict_files(
                sum_model("a"),
                [str(folder)],
                str(tmp_path / "o.csv"),
                on_error="quarantine",
                quarantine=str(tmp_path / bad),
            )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.csv", "in"]


def test_a_job_that_was_stopped_goes_on_with_its_quarantine(tmp_path, sum_model, small_blocks):
    """After each chunk a fault of the model ends it; the files in the end are those of a job that was not stopped."""
    from foretell.errors import InferenceFailed

    class Tired(sum_model):
        calls = 0

        def predict_arrow(self, batch, first_row=0):
            self.calls += 1
            if self.calls > 4:
                raise InferenceFailed("tired")
            return super().predict_arrow(batch, first_row)

    rows = ["x,1" if i % 7 == 3 else f"{i},1" for i in range(300)]
    (tmp_path / "i.csv").write_text("\n".join(["a,b", *rows, ""]))

    def run(model, out, bad):
        options = {"on_error": "quarantine", "quarantine": str(tmp_path / bad)}
        given = [str(tmp_path / "i.csv")]
        return predict_files(model, given, str(tmp_path / out), chunk_rows=20, threads=1, **options)

    whole = run(sum_model("ab"), "whole.csv", "whole.jsonl")
    runs = 0
    while True:
        runs += 1
        try:
            summary = run(Tired("ab"), "o.csv", "bad.jsonl")
            break
        except InferenceFailed:
            assert not (tmp_path / "bad.jsonl").exists()
    assert runs > 3
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "bad.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert (summary.rows, summary.errors, summary.read_rows) == (whole.rows, whole.errors, 300)
    assert summary.predictions == whole.predictions
    assert summary.rows_before > 0


def test_a_quarantine_that_is_gone_is_told_of(tmp_path, sum_model):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "i.csv").write_text("a\n1\nx\n")

    def run(**options):
        bad = str(tmp_path / "bad.csv")
        given, out = [str(tmp_path / "in")], str(tmp_path / "out") + "/"
        return predict_files(sum_model("a"), given, out, on_error="quarantine", quarantine=bad, **options)

    run()
    before = (tmp_path / "bad.csv").read_bytes()
    summary = run()
    assert (summary.rows_before, summary.errors) == (1, 1)
    assert (tmp_path / "bad.csv").read_bytes() == before
    (tmp_path / "bad.csv").unlink()
    with pytest.raises(ConfigError, match="put it back, or start the job anew with --overwrite"):
        run()
    run(overwrite=True)
    assert (tmp_path / "bad.csv").read_bytes() == before


def visible(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and not any(x.startswith(".") for x in p.parts)]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize(
    ("out", "bad", "is_full"),
    [
        ("o.csv", "bad.parquet", False),
        pytest.param("scored/", "bad.csv", True, marks=pytest.mark.slow),
        pytest.param("o.csv", "bad.parquet", True, marks=pytest.mark.slow),
        pytest.param("scored/", "bad.csv", False, marks=pytest.mark.slow),
    ],
)
def test_any_effect_of_a_job_with_bad_rows_may_be_the_last(
    tmp_path, sum_model, small_blocks, monkeypatch, out, bad, is_full
):
    """It is killed at each effect, or the disk is full from there on; then it goes on: all rows, each once."""

    def run(folder, storage):
        monkeypatch.setattr(plan, "storage_of", lambda path: storage)
        monkeypatch.setattr(quarantine, "storage_of", lambda path: storage)
        given = [str(tmp_path / "in")]
        options = {"on_error": "quarantine", "quarantine": f"{folder}/{bad}", "threads": 1, "chunk_rows": 1}
        return predict_files(sum_model("ab"), given, f"{folder}/{out}", **options)

    (tmp_path / "in").mkdir()
    for name in ("1.csv", "2.csv"):
        rows = ["x,1" if i % 9 == 4 else f"{i},1" for i in range(20)]
        (tmp_path / "in" / name).write_text("\n".join(["a,b", *rows, ""]))
    (tmp_path / "whole").mkdir()
    undisturbed = FaultyStorage()
    whole = run(tmp_path / "whole", undisturbed)
    expected = visible(tmp_path / "whole")
    assert whole.errors == 4
    for last in range(len(undisturbed.effects)):
        folder = tmp_path / f"{last}"
        folder.mkdir()
        with (
            suppress(MachineError) if is_full else pytest.raises(Died)
        ):  # when it is full, nothing may be left to write
            run(folder, FaultyStorage(last, is_full=is_full))
        assert visible(folder).items() <= expected.items()  # what has a name has all of its bytes
        summary = run(folder, FaultyStorage())
        assert visible(folder) == expected
        assert (summary.rows, summary.errors, summary.predictions) == (whole.rows, whole.errors, whole.predictions)
        assert not [p for p in folder.rglob("*") if p.name.endswith(".part")]
