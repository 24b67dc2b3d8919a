"""Outputs are written from parts: which columns of Parquet get a dictionary, and what an empty one has."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretell.bulk.encode import encode_part
from foretell.bulk.formats import FORMATS
from foretell.bulk.writer import GROUP_ROWS, Writer


def written(columns: dict[str, pa.Array], cuts: list[int]) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, FORMATS["parquet"])
    names = tuple(columns)
    for begin, end in zip([0, *cuts], [*cuts, len(next(iter(columns.values())))], strict=True):
        part = encode_part([{name: column.slice(begin, end - begin) for name, column in columns.items()}])
        writer.append(names, part, end - begin)
    writer.finish()
    return file.getvalue()


def encodings(content: bytes) -> dict[str, set[str]]:
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return {column.path_in_schema: set(column.encodings) for column in columns}


def test_floats_that_are_hardly_ever_alike_get_no_dictionary() -> None:
    random = np.random.default_rng(0)
    rows = 10_000
    columns = {
        "label": pa.array(random.integers(0, 2, rows)),
        "probability": pa.array(random.random(rows, np.float32)),
        "price": pa.array(np.round(random.random(rows), 2)),
    }
    content = written(columns, [])
    found = encodings(content)
    assert "PLAIN_DICTIONARY" in found["label"] or "RLE_DICTIONARY" in found["label"]
    assert "RLE_DICTIONARY" in found["price"] or "PLAIN_DICTIONARY" in found["price"]
    assert not {"RLE_DICTIONARY", "PLAIN_DICTIONARY"} & found["probability"]
    assert pq.read_table(io.BytesIO(content)).to_pydict() == pa.table(columns).to_pydict()


@pytest.mark.parametrize("cuts", [[1], [5000], [100, 200, GROUP_ROWS, GROUP_ROWS + 1]])
def test_the_bytes_do_not_depend_on_the_parts(cuts: list[int]) -> None:
    random = np.random.default_rng(0)
    values = random.random(GROUP_ROWS + 5000)
    values[GROUP_ROWS // 2 :] = 0.5  # the whole first group decides, not the first part
    columns = {"prediction": pa.array(values)}
    assert written(columns, cuts) == written(columns, [])


def test_an_output_of_floats_alone_has_no_dictionary_at_all() -> None:
    columns = {"prediction": pa.array(np.arange(1000) / 7)}
    assert "PLAIN" in encodings(written(columns, []))["prediction"]


def test_no_rows_are_columns_without_rows() -> None:
    content = written({"prediction": pa.array([], pa.float32())}, [])
    assert pq.read_table(io.BytesIO(content)).to_pydict() == {"prediction": []}
