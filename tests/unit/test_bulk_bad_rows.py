import io
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretell.bulk.arrow import ParquetSource
from foretell.bulk.bad_rows import sift
from foretell.bulk.bad_search import reason_of
from foretell.bulk.delimited import DelimitedSource
from foretell.bulk.jsonl import JsonLinesSource
from foretell.errors import InvalidInput
from foretell.signature import Field


def opens(text):
    @contextmanager
    def opened():
        yield io.BytesIO(text)

    return opened


class Asked:
    """A model that counts how often it is asked, and how many rows it is shown."""

    def __init__(self, model):
        self.model, self.calls, self.rows = model, 0, 0

    def __call__(self, rows):
        self.calls += 1
        self.rows += rows.count
        is_list = isinstance(rows.data, list)
        return self.model.predict(rows.data) if is_list else self.model.predict_arrow(rows.data)


def csv_block(model, text, keep=(), **options):
    source = DelimitedSource("i.csv", opens(text), len(text), model.signature, keep, **options)
    (block,) = source.blocks()
    return block


def jsonl_block(text, keep=()):
    (block,) = JsonLinesSource("i.jsonl", opens(text), len(text), keep).blocks()
    return block


def told(bad):
    return [(b.line, b.column, b.reason, b.text) for b in bad]


def answers(sifted):
    return sifted.answered.to_columns()["prediction"].tolist()


def test_each_kind_of_bad_row_of_a_csv_is_told(sum_model):
    model = sum_model(["a", "b", Field("c", "category", categories=("x", "y", "\n"), closed=True)])
    rows = [
        b"1,2,x",
        b"1,2",
        b"1,2,x,4",
        b'1,2,"\n"',
        b"",
        b"z,2,\xff",
        b"z,w,x",
        b"1,2\0,x",
        b"1,inf,q",
        b"1,1,q",
        b"1,1,\xe9",
        b'3,"1,5",y',
        b"4,5,y",
    ]
    sifted = sift(csv_block(model, b"a,b,c\n" + b"\n".join(rows)), Asked(model), "i.csv")
    assert answers(sifted) == [3, 5, 10]
    number, category = "expected a number", 'expected one of "x", "y", "\\n"; the model takes no other category'
    assert told(sifted.bad) == [
        (3, None, "2 cells, expected 3 as in the header; quote cells that hold the delimiter", "1,2"),
        (4, None, "4 cells, expected 3 as in the header; quote cells that hold the delimiter", "1,2,x,4"),
        (8, "c", "byte 0xff is not UTF-8, expected text in UTF-8; save the file as UTF-8", "z,2,\\xff"),
        (9, "a", f'got "z", {number}', "z,w,x"),
        (10, None, "a NUL byte, expected text in UTF-8; is the file damaged?", "1,2\0,x"),
        (11, "b", "got inf, expected a finite number that fits float64", "1,inf,q"),
        (12, "c", f'got "q", {category}', "1,1,q"),
        (13, "c", "byte 0xe9 is not UTF-8, expected text in UTF-8; save the file as UTF-8", "1,1,\\xe9"),
        (14, "b", f'got "1,5", {number}; write decimals with a point, as in 1.5', '3,"1,5",y'),
    ]
    assert {b.file for b in sifted.bad} == {"i.csv"}


def test_a_quoted_number_over_two_lines_is_a_number_and_lines_are_counted(sum_model):
    model = sum_model("ab")
    sifted = sift(csv_block(model, b'a,b,c\n1,2,"x\n\ny"\n1,q,"x\ny"\n\n3,4,z\n'), Asked(model), "i.csv")
    assert answers(sifted) == [3, 7]
    assert told(sifted.bad) == [(5, "b", 'got "q", expected a number', '1,q,"x\ny"')]


def test_each_kind_of_bad_row_of_json_lines_is_told(sum_model):
    model = sum_model("ab")
    rows = ['{"a": 1, "b": 2, "k": 5}', "", "{", '{"a": [1], "b": 2, "k": 1}', "[1]", '{"a": 1, "k": 1}']
    rows += ['{"a": 1, "b": 1}', '{"a": 1, "b": 1, "k": "x"}']
    sifted = sift(jsonl_block("\n".join(rows).encode() + b"\n\xff\n", keep=["k"]), Asked(model), "i.jsonl")
    assert answers(sifted) == [3, 2]
    assert sifted.rows.kept["k"].to_pylist() == ["5", "x"]
    assert [(b.line, b.column, b.text) for b in sifted.bad] == [
        (3, None, "{"),
        (4, "a", rows[3]),
        (5, None, "[1]"),
        (6, "b", rows[5]),
        (7, "k", rows[6]),
        (9, None, "\\xff"),
    ]
    assert [b.reason.split(";")[0] for b in sifted.bad[1:5]] == [
        "got [1], expected a number",
        'got list, expected an object such as {"column": 1.5}',
        "it is missing",
        "it is to be kept and missing here",
    ]


def test_a_kept_column_is_what_it_would_be_without_the_bad_rows(sum_model):
    model = sum_model("a")
    sifted = sift(jsonl_block(b'{"a": 1}\n{"a": "x"}\n{"a": 3}\n', keep="all"), Asked(model), "i.jsonl")
    assert sifted.rows.kept["a"].equals(pa.array([1, 3]))


def test_bad_rows_of_parquet_are_told_by_row_with_their_columns(tmp_path, sum_model):
    table = pa.table({"a": [1.0, np.inf, 2.0, np.nan, np.inf], "k": ["x", "é", None, "z", "w"], "not read": [1] * 5})
    pa.parquet.write_table(table, tmp_path / "i.parquet")
    model = sum_model([Field("a", nullable=False)])
    (block,) = ParquetSource(tmp_path / "i.parquet", "i.parquet", model.signature, ["k"]).blocks()
    sifted = sift(block, asked := Asked(model), "i.parquet")
    assert answers(sifted) == [1, 2]
    assert sifted.rows.kept["k"].to_pylist() == ["x", None]
    assert [(b.row, b.line, b.column, b.text) for b in sifted.bad] == [
        (1, None, "a", '{"a": "inf", "k": "é"}'),
        (3, None, "a", '{"a": "nan", "k": "z"}'),
        (4, None, "a", '{"a": "inf", "k": "w"}'),
    ]
    assert asked.calls == 4  # all, without infinities, without what is missing, and the answer


def test_what_is_no_fault_of_a_row_is_raised(sum_model):
    def predict(rows):
        raise InvalidInput("columns of another kind")

    with pytest.raises(InvalidInput, match="another kind"):
        sift(csv_block(sum_model("a"), b"a\n1\n"), predict, "i.csv")


@pytest.mark.parametrize("column", [[f"v{i}" for i in range(500)], [[float(i)] for i in range(500)]])
def test_a_column_of_the_wrong_type_is_told_row_by_row(tmp_path, sum_model, column):
    pa.parquet.write_table(pa.table({"a": column}), tmp_path / "i.parquet")
    model = sum_model("a")
    (block,) = ParquetSource(tmp_path / "i.parquet", "i.parquet", model.signature, ()).blocks()
    found = [sift(block, asked := Asked(model), "i.parquet", tells) for tells in (model.refusals, None)]
    assert found[0].bad == found[1].bad
    assert [b.row for b in found[0].bad] == list(range(500))
    assert "expected a number" in found[0].bad[7].reason
    assert asked.calls <= 2 * 500 + 1


@pytest.mark.parametrize("bad_share", [0.0, 0.01, 0.5, 1.0])
def test_the_model_is_asked_few_times_though_no_two_bad_values_are_alike(tmp_path, sum_model, bad_share):
    """Integers with a fraction: refused by the model, each different."""
    rows = 4096
    values = np.arange(rows) + np.where(np.random.default_rng(0).random(rows) < bad_share, 0.5, 0)
    pa.parquet.write_table(pa.table({"a": values}), tmp_path / "i.parquet")
    model = sum_model([Field("a", "integer", nullable=False)], datatype="INT64")
    (block,) = ParquetSource(tmp_path / "i.parquet", "i.parquet", model.signature, ()).blocks()
    sifted = sift(block, asked := Asked(model), "i.parquet")
    bad = int((values % 1 > 0).sum())
    assert len(sifted.bad) == bad
    assert asked.calls <= 2 * bad + 1
    assert asked.rows <= rows * (np.log2(rows) + 8)  # not quadratic
    told_at_once = sift(block, asked := Asked(model), "i.parquet", model.refusals)
    assert told_at_once.bad == sifted.bad
    assert asked.calls == 1 + (bad > 0)


def test_a_block_of_bad_rows_that_are_alike_is_asked_for_twice(sum_model):
    model = sum_model([Field("c", "category", categories=("x",), closed=True)])
    sifted = sift(csv_block(model, b"c\n" + b"q\n" * 5000), asked := Asked(model), "i.csv")
    assert (answers(sifted), len(sifted.bad), asked.calls) == ([], 5000, 2)


def test_a_block_that_does_not_parse_at_all_is_asked_for_once(sum_model):
    model = sum_model("a")
    text = b"a\n" + b"".join(b"v%d\n" % i for i in range(5000))
    sifted = sift(csv_block(model, text), asked := Asked(model), "i.csv")
    assert (answers(sifted), len(sifted.bad), asked.calls) == ([], 5000, 1)


CELLS = st.sampled_from(["1", "2.5", "", "inf", "x", "y,z", "True", "1e400", "\udcff", "NA", "-7"])
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_is_told_of_a_row_depends_on_the_row_alone(sum_model, rows, newline, at_once):
    """Hypothesis: each row alone, all of them together, and the good ones without the bad."""
    model = sum_model([Field("a"), Field("b", nullable=False), Field("c", "category", categories=("1", "x"))])
    lines = [",".join(f'"{c}"' if "," in c else c for c in row).encode("utf-8", "surrogateescape") for row in rows]
    lines = [line for line in lines if line]
    end = newline.encode()

    def block_of(some):
        return csv_block(model, end.join([b"a,b,c", *some, b""]))

    together = sift(block_of(lines), Asked(model), "i.csv", model.refusals if at_once else None)
    alone = [sift(block_of([line]), Asked(model), "i.csv") for line in lines]
    good = [line for line, one in zip(lines, alone, strict=True) if not one.bad]
    bad = [(at + 2, *told(one.bad)[0][1:]) for at, one in enumerate(alone) if one.bad]
    assert told(together.bad) == bad
    assert answers(together) == answers(sift(block_of(good), Asked(model), "i.csv"))
    assert answers(together) == [a for one in alone for a in answers(one)]
    assert together.rows.count == len(good)


def test_reasons_do_not_name_column_and_row_again():
    assert reason_of(InvalidInput('column "a", row 5: got 1', column="a", row=5)) == "got 1"
    assert reason_of(InvalidInput('column "a": got 1', column="a", row=5)) == "got 1"
    assert reason_of(InvalidInput("data, row 5: got 1", row=5)) == "got 1"
    assert reason_of(InvalidInput("a NUL byte", row=5)) == "a NUL byte"
