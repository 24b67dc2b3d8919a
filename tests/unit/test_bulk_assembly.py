"""An output is a function of its rows: parts may hold any share of them, and come in any order."""

import io
import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.bulk import writer
from foretell.bulk.answering import encode_rows
from foretell.bulk.assembly import Assembly
from foretell.bulk.blocks import Mark
from foretell.bulk.formats import FORMATS
from foretell.bulk.journal import ChunkLine, Journal
from foretell.bulk.local import LocalStorage
from foretell.bulk.parts import Parts
from foretell.bulk.targets import Target, Targets
from foretell.bulk.writer import Writer

TYPES = {
    "t": pa.string(),
    "d": pa.float64(),
    "b": pa.bool_(),
    "i": pa.int64(),
    "k": pa.dictionary(pa.int32(), pa.string()),
}
ROW = st.tuples(
    st.none() | st.text(st.sampled_from('a,"\né'), max_size=3),
    st.none() | st.floats(),
    st.none() | st.booleans(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.sampled_from(["x", "y", "z"]),
)
BLOCKS = st.lists(st.lists(ROW, min_size=1, max_size=9), min_size=1, max_size=6)


@pytest.fixture(scope="module", autouse=True)
def small_cuts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "GROUP_ROWS", 7)
        patch.setattr(writer, "_LEAST_GROUP_ROWS", 1)
        patch.setattr(writer, "_MEMBER_BYTES", 40)
        yield


def columns_of(rows):
    found = {}
    for at, (name, kind) in enumerate(TYPES.items()):
        cells = [row[at] for row in rows]
        found[name] = pa.array(cells, pa.string()).dictionary_encode() if name == "k" else pa.array(cells, kind)
    return found


def parts_of(blocks, kind, cuts):
    """Return blocks encoded as parts that begin at `cuts`, and the rows of each."""
    bounds = sorted({0, len(blocks), *(c for c in cuts if c < len(blocks))})
    shares = [blocks[a:b] for a, b in itertools.pairwise(bounds)]
    return [(encode_rows(kind.part, list(map(columns_of, share))), sum(map(len, share))) for share in shares]


@pytest.mark.parametrize("name", FORMATS)
@given(blocks=BLOCKS, cuts=st.sets(st.integers(1, 5)))
@settings(max_examples=25)
def test_parts_leave_no_trace(name, blocks, cuts):
    written = []
    for divided in (set(), cuts):
        file = io.BytesIO()
        grown = Writer(file, FORMATS[name])
        for encoded, rows in parts_of(blocks, FORMATS[name], divided):
            grown.append(tuple(TYPES), encoded, rows)
        grown.finish()
        assert grown.rows == sum(map(len, blocks))
        written.append(file.getvalue())
    assert written[0] == written[1]


def line_of(number, file, count, encoded, rows, sha256):
    begins = Mark(number)
    columns = tuple(TYPES) if number == 0 or file else ()
    return ChunkLine(
        number, file, begins, Mark(number + 1), number == count - 1, rows, rows, len(encoded), sha256, 1, columns
    )


@given(blocks=BLOCKS, data=st.data())
@settings(max_examples=25)
def test_parts_may_come_in_any_order(tmp_path_factory, blocks, data):
    folder = tmp_path_factory.mktemp("job")
    storage, out = LocalStorage(), str(folder / "o.csv")
    journal, parts = Journal(storage, str(folder / "j")), Parts(storage, str(folder / "parts"))
    targets = Targets((Target(out, FORMATS["csv"], (0,)),), str(folder), is_folder=False)
    assembly = Assembly(storage, targets, journal, parts, {})
    found = parts_of(blocks, FORMATS["csv"], range(1, len(blocks)))
    order = data.draw(st.permutations(range(len(found))))
    for at, number in enumerate(order):
        assert not (folder / "o.csv").exists()
        encoded, rows = found[number]
        line = line_of(number, 0, len(found), encoded, rows, parts.write(number, encoded))
        assembly.take(line, encoded if at % 2 else None)
    assert (folder / "o.csv").read_bytes() == b"t,d,b,i,k\n" + b"".join(e for e, _ in found)
    (line,) = assembly.complete.values()
    assert line.rows == sum(map(len, blocks))
    assert line.file_bytes == (folder / "o.csv").stat().st_size
    assert journal.read().outputs == assembly.complete
    assert list((folder / "parts").iterdir()) == []


def test_an_output_that_is_let_go_leaves_nothing_but_its_parts(tmp_path):
    storage = LocalStorage()
    journal, parts = Journal(storage, str(tmp_path / "j")), Parts(storage, str(tmp_path / "parts"))
    targets = Targets((Target(str(tmp_path / "o.parquet"), FORMATS["parquet"], (0,)),), str(tmp_path), is_folder=False)
    assembly = Assembly(storage, targets, journal, parts, {})
    encoded, rows = parts_of([[("a", 1.0, True, 1, "x")]], FORMATS["parquet"], ())[0]
    assembly.take(line_of(0, 0, 2, encoded, rows, parts.write(0, encoded)), encoded)
    assembly.abandon()
    assembly.abandon()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts"]
    assert parts.path(0).endswith("parts/00000000.part")
