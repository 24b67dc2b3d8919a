"""Where a file is cut follows from the file alone: reading on from any cut gives what reading from the start gives."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.bulk import arrow, delimited, dialect, jsonl
from foretell.bulk.blocks import START
from foretell.bulk.chunks import BrokenBlock, Known, chunks_of
from foretell.bulk.sources import open_source
from foretell.signature import Field, Signature

SIGNATURE = Signature(inputs=(), outputs=(), fields=(Field("a"),))

CELL = st.text(st.sampled_from('x ,"\n\r\té1'), max_size=6)


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "_HEAD_BYTES", 16)
        patch.setattr(delimited, "_WIDE_ROWS", 0)
        patch.setitem(delimited.DelimitedSource.__init__.__kwdefaults__, "block_bytes", 32)
        patch.setattr(jsonl, "_BLOCK_BYTES", 32)
        patch.setattr(arrow, "_batch_rows", lambda columns: 7)
        yield


def content_of(block):
    batch = getattr(block, "batch", None)
    return block.text if batch is None else batch.to_pydict()


def blocks_of(source, start=START):
    return [(b.ends, b.about_rows, content_of(b)) for b in source.blocks(start)]


def assert_can_go_on_anywhere(path):
    source = open_source(str(path), SIGNATURE, "all")
    blocks = blocks_of(source)
    for at, (ends, _, _) in enumerate(blocks[:-1]):
        assert blocks_of(source, ends) == blocks[at + 1 :]


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\n\r') else cell


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@given(rows=st.lists(st.tuples(CELL, CELL), max_size=30), newline=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
@settings(max_examples=60)
def test_delimited_text(tmp_path_factory, packed, rows, newline, bom):
    path = tmp_path_factory.mktemp("d") / "i.csv"
    text = newline.join(["a,k", *(f"{quoted(a)},{quoted(b)}" for a, b in rows)]) + newline
    raw = ("\ufeff" * bom + text).encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert_can_go_on_anywhere(path)


@given(rows=st.lists(CELL, max_size=30), bom=st.booleans(), ends=st.booleans())
@settings(max_examples=60)
def test_json_lines(tmp_path_factory, rows, bom, ends):
    path = tmp_path_factory.mktemp("j") / "i.jsonl"
    text = "\n".join(json.dumps({"a": 1, "k": cell}) if cell else "" for cell in rows)
    path.write_bytes(("\ufeff" * bom + text + "\n" * ends).encode())
    assert_can_go_on_anywhere(path)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows"])
@given(rows=st.integers(0, 60), group=st.integers(1, 30))
@settings(max_examples=30)
def test_tables(tmp_path_factory, kind, rows, group):
    path = tmp_path_factory.mktemp("t") / f"i.{kind}"
    words = pa.array([f"w{i % 3}" for i in range(rows)], pa.string() if rows else pa.null()).dictionary_encode()
    table = pa.table(
        {"a": np.arange(rows, dtype=np.float64), "k": words, "z": [None if i % 5 else i for i in range(rows)]}
    )
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=group)
    else:
        new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with new(str(path), table.schema) as writer:
            writer.write_table(table, group)
    assert_can_go_on_anywhere(path)


def make_files(folder):
    paths = []
    for at, count in enumerate((50, 0, 1, 35)):
        path = folder / f"{at}.csv"
        path.write_text("a,k\n" + "".join(f"{i},x\n" for i in range(count)))
        paths.append(open_source(str(path), SIGNATURE, ()))
    return paths


def told(chunk):
    return (chunk.number, chunk.file, chunk.begins, chunk.ends, chunk.is_last)


@given(data=st.data(), chunk_rows=st.integers(1, 40))
@settings(max_examples=60)
def test_what_is_known_is_left_out_and_the_rest_is_the_same(tmp_path_factory, data, chunk_rows):
    sources = make_files(tmp_path_factory.mktemp("c"))
    every = list(chunks_of(sources, chunk_rows))
    assert [c.number for c in every] == list(range(len(every)))
    assert [c.file for c in every if c.is_last] == [0, 1, 2, 3]
    done = data.draw(st.sets(st.sampled_from(range(len(every)))))
    known = {(c.file, c.begins.at): Known(c.ends, c.is_last) for c in every if c.number in done}
    left = list(chunks_of(sources, chunk_rows, known=known))
    assert [told(c) for c in left] == [told(c) for c in every if c.number not in done]
    assert [list(map(content_of, c.blocks)) for c in left] == [
        list(map(content_of, c.blocks)) for c in every if c.number not in done
    ]


def test_a_chunk_is_full_with_so_many_rows(tmp_path):
    sources = make_files(tmp_path)
    for chunk_rows in (1, 10, 1000):
        for chunk in chunks_of(sources, chunk_rows):
            *before, _ = chunk.blocks
            assert sum(b.about_rows for b in before) < chunk_rows
            assert chunk.is_last or sum(b.about_rows for b in chunk.blocks) >= chunk_rows


def test_what_cannot_be_read_comes_behind_the_rows_before_it(tmp_path):
    path = tmp_path / "i.csv"
    path.write_text("a,k\n" + "1,x\n" * 30 + '"')
    chunks = list(chunks_of([open_source(str(path), SIGNATURE, ())], 8))
    assert sum(b.about_rows for c in chunks for b in c.blocks) == 30
    last = chunks[-1].blocks[-1]
    assert isinstance(last, BrokenBlock)
    assert chunks[-1].is_last
    with pytest.raises(type(last.error), match="never closes"):
        last.parse()


def test_a_chunk_lets_its_rows_go(tmp_path):
    chunk = next(chunks_of(make_files(tmp_path), 8))
    assert chunk.blocks
    assert chunk.emptied().blocks == ()
    assert told(chunk.emptied()) == told(chunk)
