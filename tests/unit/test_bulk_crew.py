"""Threads share chunks piece by piece, and what pieces make is what the whole chunk makes."""

import threading
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from foretell.bulk import delimited, dialect, pieces
from foretell.bulk.answering import Answer, How, Refusal, answer
from foretell.bulk.blocks import START
from foretell.bulk.chunks import Chunk, chunks_of
from foretell.bulk.crew import ThreadCrew
from foretell.bulk.delimited import DelimitedSource
from foretell.bulk.encode import decode_part
from foretell.bulk.pieces import joined, pieces_of
from foretell.bulk.sources import open_source
from foretell.errors import InferenceFailed

WAIT_S = 20


class Rows:
    """A block of so many rows, without any."""

    size_bytes = 0
    ends = START

    def __init__(self, name="", about_rows=pieces.PIECE_ROWS):
        self.name = name
        self.about_rows = about_rows


def chunk(number, *blocks):
    return Chunk(number, 0, START, START, False, 0, blocks)


def found(rows=1, **more):
    return Answer(b"x" * rows, ("a",), rows, rows, **more)


def test_a_piece_has_blocks_until_it_has_enough_rows():
    blocks = [Rows(name, rows) for name, rows in (("a", 16_000), ("b", 500), ("c", 20_000), ("d", 1), ("e", 1))]
    cut = pieces_of(chunk(7, *blocks))
    assert [[b.name for b in piece.blocks] for piece in cut] == [["a", "b"], ["c"], ["d", "e"]]
    assert {piece.number for piece in cut} == {7}


def test_all_workers_are_at_work_on_the_oldest_chunk():
    together = threading.Barrier(3)

    def work(piece, stop):
        together.wait(WAIT_S)  # broken, and an error, unless three pieces run at once
        return found()

    with closing(ThreadCrew(work, 3).run(iter([chunk(0, *[Rows()] * 6)]))) as done:
        assert [(c.number, a.rows) for c, a in done] == [(0, 6)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_chunks_are_begun_and_not_done_with_than_there_are_workers(workers):
    begun, lock, most = set(), threading.Lock(), []
    given = iter([chunk(i, Rows(), Rows()) for i in range(12)])

    def work(piece, stop):
        with lock:
            begun.add(piece.number)
            most.append(len(begun))
        return found()

    with closing(ThreadCrew(work, workers).run(given)) as done:
        seen = []
        for one, _ in done:
            seen.append(one.number)
            assert one.blocks == ()
            with lock:
                begun.discard(one.number)  # asking for the next one says so to the crew, a moment later
    assert sorted(seen) == list(range(12))
    assert max(most) <= workers


def test_reading_waits_for_room():
    read, go_on = [], threading.Event()

    def given():
        for i in range(50):
            read.append(i)
            yield chunk(i, Rows())

    def work(piece, stop):
        assert go_on.wait(WAIT_S)
        return found()

    crew = ThreadCrew(work, 2).run(given())
    with closing(crew) as done:
        timer = threading.Timer(0.2, go_on.set)
        timer.start()
        next(done)
        assert len(read) <= 4
        timer.join()


def test_an_error_is_raised_when_all_chunks_before_it_are_yielded():
    late = threading.Event()

    def work(piece, stop):
        if piece.number == 1:
            raise InferenceFailed("of the second chunk")
        assert late.wait(WAIT_S)
        return found()

    with closing(ThreadCrew(work, 2).run(iter([chunk(i, Rows()) for i in range(4)]))) as done:
        threading.Timer(0.1, late.set).start()
        assert next(done)[0].number == 0
        with pytest.raises(InferenceFailed, match="of the second chunk"):
            next(done)


def test_closing_ends_what_is_under_way():
    seen = []

    def work(piece, stop):
        seen.append(piece.number)
        assert stop.wait(WAIT_S) or piece.number == 0
        return found()

    first = ThreadCrew(lambda piece, stop: found() if piece.number == 0 else work(piece, stop), 2)
    with closing(first.run(iter([chunk(i, Rows()) for i in range(9)]))) as done:
        next(done)
    assert not [t for t in threading.enumerate() if t.name.startswith("foretell-bulk")]
    assert max(seen, default=0) <= 3


def test_a_refusal_counts_the_rows_of_the_pieces_before_it_and_hides_those_behind():
    refusal = Refusal("column a, row 3: bad", "x.csv line 9", 3, 3, "a")
    whole = joined([found(10, errors=2), Answer(b"", (), 0, 0, refusal=refusal), found(5)])
    assert whole.refusal == Refusal("column a, row 3: bad", "x.csv line 9", 13, 3, "a")
    assert joined([found(10), Answer(b"", (), 0, 0, refusal=Refusal("t", "", None, None, None))]).refusal.row is None


@pytest.mark.parametrize("kind", ["csv", "jsonl", "arrow"])
@pytest.mark.parametrize("bad", [frozenset(), frozenset({3, 40, 41}), frozenset(range(100))])
def test_pieces_make_what_the_whole_chunk_makes(tmp_path, monkeypatch, sum_model, kind, bad):
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)
    monkeypatch.setattr(dialect, "_HEAD_BYTES", 64)
    monkeypatch.setattr(delimited, "_WIDE_ROWS", 1)
    monkeypatch.setitem(DelimitedSource.__init__.__kwdefaults__, "block_bytes", 64)
    path = tmp_path / "i.csv"
    path.write_text("a,b\n" + "".join("x,1\n" if i in bad else f"{i},0.5\n" for i in range(100)))
    model = sum_model("ab")
    (one,) = chunks_of([open_source(str(path), model.signature, "all")])
    how = How((kind,), "quarantine")
    cut = pieces_of(one)
    whole, of_pieces = answer(model, how, one), joined([answer(model, how, piece) for piece in cut])
    assert len(cut) > 3
    for name in ("columns", "rows", "read_rows", "errors", "notes", "tally", "refusal", "quarantined"):
        assert getattr(of_pieces, name) == getattr(whole, name), name
    if kind == "arrow":
        tables = [pa.Table.from_batches(decode_part(a.encoded)) for a in (whole, of_pieces)]
        assert tables[0].equals(tables[1])
        assert tables[0].num_rows == 100 - len(bad)
    else:
        assert of_pieces.encoded == whole.encoded


def test_pieces_of_one_chunk_are_not_mixed_with_those_of_another():
    random = np.random.default_rng(0)
    sizes = random.integers(1, 6, 40).tolist()

    def work(piece, stop):
        name = piece.blocks[0].name
        return Answer(f"{name} ".encode(), ("a",), 1, 1)

    given = iter([chunk(i, *[Rows(f"{i}.{j}") for j in range(size)]) for i, size in enumerate(sizes)])
    with closing(ThreadCrew(work, 4).run(given)) as done:
        answers = {c.number: a.encoded.decode().split() for c, a in done}
    assert answers == {i: [f"{i}.{j}" for j in range(size)] for i, size in enumerate(sizes)}


def test_a_chunk_of_long_rows_is_full_by_its_bytes(tmp_path, monkeypatch, sum_model):
    path = tmp_path / "i.csv"
    path.write_text("a,b,long\n" + f"1,2,{'x' * 1000}\n" * 4_000)
    source = open_source(str(path), sum_model("ab").signature, ())
    monkeypatch.setattr("foretell.bulk.chunks._CHUNK_BYTES", 1 << 20)
    cut = list(chunks_of([source]))
    assert len(cut) > 2
    assert max(one.size_bytes for one in cut) < 4 << 20
    assert sum(one.size_bytes for one in cut) == path.stat().st_size - len("a,b,long\n")
