import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.bulk.encode import csv_header, encode_csv, encode_jsonl, pack, to_arrow
from foretell.errors import ConfigError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
COLUMNS = st.lists(st.tuples(TEXT, st.floats(), st.floats(width=32), st.booleans(), st.integers(-(2**63), 2**63 - 1)))


def columns_of(rows):
    types = [pa.string(), pa.float64(), pa.float32(), pa.bool_(), pa.int64()]
    columns = zip(*rows, strict=True) if rows else [[]] * 5
    return {n: pa.array(list(c), t) for n, c, t in zip("tdfbi", columns, types, strict=True)}


@given(COLUMNS)
def test_csv_reads_back_the_same(rows):
    lines = csv_header(list("tdfbi")) + encode_csv(columns_of(rows))
    found = list(csv.reader(io.StringIO(lines.decode(), newline="")))[1:]
    assert len(found) == len(rows)
    for (text, d, f, b, i), cells in zip(rows, found, strict=True):
        assert cells[0] == text
        assert np.array_equal([float(cells[1])], [d], equal_nan=True)
        assert np.array_equal([np.float32(cells[2])], [np.float32(f)], equal_nan=True)
        assert cells[3:] == [str(b).lower(), str(i)]


@given(COLUMNS)
def test_json_lines_read_back_the_same(rows):
    found = [json.loads(line) for line in encode_jsonl(columns_of(rows)).decode().split("\n")[:-1]]
    assert len(found) == len(rows)
    for (text, d, f, b, i), row in zip(rows, found, strict=True):
        assert list(row) == list("tdfbi")
        assert (row["t"], row["b"], row["i"]) == (text, b, i)
        assert row["d"] == (d if np.isfinite(d) else None)
        assert row["f"] is None if not np.isfinite(f) else np.float32(row["f"]) == np.float32(f)


def test_numbers_have_the_fewest_digits():
    found = encode_csv({"f": pa.array([0.1, 1 / 3], pa.float32()), "d": pa.array([0.1, 1 / 3])})
    assert found == b"0.1,0.1\n0.33333334,0.3333333333333333\n"


def test_a_slice_is_written_as_it_is():
    column = pa.array(["a", "b", "c", None]).slice(2)
    assert encode_csv({"k": column}) == b"c\n\n"
    assert encode_jsonl({"k": column}) == b'{"k":"c"}\n{"k":null}\n'


def test_dictionaries_dates_and_nested_values():
    import datetime

    columns = {"k": pa.array(["x", None]).dictionary_encode(), "t": pa.array([datetime.date(2026, 1, 31)] * 2)}
    assert encode_csv(columns) == b"x,2026-01-31\n,2026-01-31\n"
    nested = {"n": pa.array([[1, 2], None])}
    assert encode_jsonl(nested) == b'{"n":[1, 2]}\n{"n":null}\n'
    with pytest.raises(ConfigError, match='column "n": list<'):
        encode_csv(nested)


def test_labels_of_mixed_types_become_texts():
    found = to_arrow({"prediction": np.array(["a", 1], object), "half": np.array([0.5], np.float16)})
    assert found["prediction"].to_pylist() == ["a", "1"]
    assert found["half"].type == pa.float32()


def test_packed_blocks_are_one_archive():
    assert gzip.decompress(pack(b"1\n") + pack(b"2\n")) == b"1\n2\n"
