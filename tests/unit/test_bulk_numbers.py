import math

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.bulk.numbers import BadCell, is_plain, read_numbers
from foretell.model.data.cells import MISSING_TEXTS

CELLS = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(sorted(MISSING_TEXTS)),
    st.sampled_from(
        ["+1", "-0", ".5", "5.", "1e5", "1E-3", " 7", "8 ", "1e400", "inf", "1_0", "0x1", "--1", "x", "1,5"]
    ),
)


def fast(cell):
    """Return what the fast parser makes of a cell, "refused" if it does not."""
    types = {"a": pa.float64(), "b": pa.string()}
    options = pa.csv.ConvertOptions(column_types=types, null_values=list(MISSING_TEXTS), strings_can_be_null=False)
    read = pa.csv.ReadOptions(column_names=["a", "b"], use_threads=False)
    try:
        table = pa.csv.read_csv(pa.BufferReader(f'"{cell}",z\n'.encode()), read_options=read, convert_options=options)
    except pa.ArrowInvalid:
        return "refused"
    return table["a"][0].as_py()


@given(CELLS)
def test_the_careful_way_reads_what_the_fast_way_reads(cell):
    expected = fast(cell)
    texts = pa.array([cell])
    assert is_plain(texts, "float64") == (expected != "refused")
    if expected != "refused":
        found = read_numbers(texts, "float64")[0][0].as_py()
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize(
    ("texts", "kind", "expected"),
    [
        ([" NA ", "1", " 2\t"], "float64", [None, 1.0, 2.0]),
        (["True", "false", "3"], "float64", [1.0, 0.0, 3.0]),
        (["9007199254740993", "3.0", "+4", "", "-5.00"], "int64", [9007199254740993, 3, 4, None, -5]),
        (["18446744073709551615", "1"], "uint64", [18446744073709551615, 1]),
        (["1.5", "2"], "int64", [1.5, 2.0]),
        ([], "float64", []),
    ],
)
def test_numbers(texts, kind, expected):
    found, had_truths = read_numbers(pa.array(texts, pa.string()), kind)
    assert found.to_pylist() == expected
    assert had_truths == ("True" in texts)


@pytest.mark.parametrize("kind", ["float64", "int64"])
@pytest.mark.parametrize("at", [0, 1, 6, 7, 99])
def test_the_first_bad_cell_is_found(at, kind):
    texts = ["1.5"] * 100
    texts[at:] = ["bad"] + ["worse"] * (99 - at)
    with pytest.raises(BadCell) as e:
        read_numbers(pa.array(texts), kind)
    assert e.value.row == at
    assert e.value.problem == 'got "bad", expected a number'


@pytest.mark.parametrize(
    ("text", "hint"),
    [("1,5", "with a point"), ("1.234,5", "plain number"), ("12 345", "plain number"), ("$5", "plain number")],
)
def test_what_people_write_gets_a_hint(text, hint):
    with pytest.raises(BadCell) as e:
        read_numbers(pa.array([text]), "float64")
    assert hint in e.value.problem
