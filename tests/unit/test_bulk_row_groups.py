"""Batches of Parquet are cut by rows alone; a block on its way elsewhere takes its own rows with it and no others."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretell.bulk.arrow import ParquetSource
from foretell.bulk.blocks import Mark
from foretell.bulk.row_groups import batches_from

ROWS = 1_000


@pytest.fixture
def table():
    texts = pa.array([f"t{i % 7}" for i in range(ROWS)]).dictionary_encode()
    return pa.table({"a": np.arange(ROWS, dtype=np.float32), "t": texts, "b": np.arange(ROWS)})


@pytest.mark.parametrize("group_rows", [7, 100, 333, ROWS])
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("columns", [["a"], ["b", "t"]])
def test_batches_have_their_rows_whatever_the_row_groups_and_the_way(tmp_path, table, group_rows, at_once, columns):
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=group_rows)
    for row in (0, 100, 900):
        with pq.ParquetFile(tmp_path / "t.parquet") as file:
            found = list(batches_from(file, row, 100, columns, at_once))
        assert [b.num_rows for b in found] == [100] * ((ROWS - row) // 100)
        expected = table.select(columns).slice(row).to_pydict()
        assert pa.Table.from_batches(found).to_pydict() == expected


def test_the_last_batch_has_what_is_left(tmp_path, table):
    pq.write_table(table, tmp_path / "t.parquet")
    with pq.ParquetFile(tmp_path / "t.parquet") as file:
        assert [b.num_rows for b in batches_from(file, 0, 300, ["a"], 4)] == [300, 300, 300, 100]


def test_a_block_on_its_way_takes_its_own_rows_alone(tmp_path, monkeypatch, sum_model):
    monkeypatch.setattr("foretell.bulk.arrow._MAX_ROWS", 256)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": np.arange(4096.0), "b": np.ones(4096)}), path)
    source = ParquetSource(path, "t.parquet", sum_model("ab").signature, "all")
    blocks = list(source.blocks(Mark(1024)))
    assert len(blocks) == 12
    travelled = pickle.dumps(blocks[3], protocol=5)
    assert len(travelled) < 2 * blocks[3].batch.nbytes
    arrived = pickle.loads(travelled)
    assert arrived.parse().data.equals(blocks[3].parse().data)
    assert (arrived.first_row, arrived.ends) == (blocks[3].first_row, blocks[3].ends)
