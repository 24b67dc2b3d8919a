"""Data that is damaged, absurd or hostile: one clear error, or the right answer; never a traceback, never a file."""

import contextlib
import gzip
import io
import json
import resource
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from foretell.bulk.job import predict_files
from foretell.errors import ConfigError, InvalidInput, MachineError


@pytest.fixture
def predict(tmp_path, sum_model):
    def run(name, content, fields="ab", **options):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        out = tmp_path / "out.parquet"
        try:
            predict_files(sum_model(fields), [str(path)], str(out), **options)
        finally:
            assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []
        return pa.parquet.read_table(out)["prediction"].to_pylist()

    return run


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "empty"),
        ("a,b\n1,2\n3\n", "line 3: 1 cell, expected 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3: 3 cells, expected 2"),
        ("a,b,a\n1,2,3\n", 'column "a": two columns'),
        (b"a,b\n1,2\n3,\xff\n", "line 3: column .b.: byte 0xff is not UTF-8"),
        (b"a,b\n1,2\n3,\0\n", "line 3: a NUL byte"),
        (b"\0" * 100_000, "NUL byte"),
        ("a,b\n1,inf\n", "got inf, expected a finite number"),
        ("a,b\n1,-Infinity\n", "got -inf, expected a finite number"),
        ("a,b\n1,1e999\n", "got inf, expected a finite number"),
        ('a,b\n1,2\n3,"4\n', "line 3: a quote opens a cell and never closes"),
        ("a,b\n1,2,5\n", "line 2: 3 cells"),
        ("a;b\n1;2,5\n", "write decimals with a point"),
        ("a,b\n1,0x10\n", 'got "0x10"'),
        ("a,b\n1,1_000\n", 'got "1_000"'),
        ("a,b\n1,\u0661\n", "expected a number"),
        ("a,b\n1,=1+1\n", 'got "=1'),
        ("a,b\n1," + "9" * 10_000 + "\n", "expected a"),
        ("<html><body>404</body></html>\n", "is missing"),
        ("a,b\n" + "(" * 100_000 + ",1\n", "expected a number"),
    ],
)
def test_csv_at_fault(predict, content, problem):
    with pytest.raises(InvalidInput, match=problem):
        predict("i.csv", content)


@pytest.mark.parametrize("content", ["a,b", "a,b\n", "a,b\r\n\r\n", "\ufeffa;b\n"])
def test_a_header_alone_gives_no_rows(predict, content):
    assert predict("i.csv", content) == []


def test_a_header_alone_gives_a_header(tmp_path, sum_model):
    (tmp_path / "i.csv").write_text("a,b\n")
    predict_files(sum_model("ab", classes=("x", "y")), [str(tmp_path / "i.csv")], str(tmp_path / "o.csv"), keep=["b"])
    assert (tmp_path / "o.csv").read_text() == "b,prediction,probability,probability_x,probability_y\n"


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4",
        "a,b\n\n1,2\n\n\n3,4\n\n",
        "a,b\r\n1,2\r\n3,4\r\n",
        "a,b\r1,2\r3,4\r",
        '"a","b"\n"1","2"\n"3","4"\n',
        "b,a\n 2 ,\t1\n+4,3.0\n",
        'b,a,note\n2,1,"x,""\n""y"\n4,3,5" pipe\n',
        "a,b,note\n1,2,\u00e9\n3,4,\U0001f600\n",
        "a,b,,\n1,2,,\n3,4,,\n",
    ],
)
def test_unusual_csv_that_is_right(predict, content):
    assert predict("i.csv", content) == [3, 7]


def test_ten_thousand_columns(predict):
    names = [f"c{i}" for i in range(10_000)]
    row = ",".join(map(str, range(10_000)))
    assert predict("i.csv", ",".join(names) + f"\n{row}\n" * 20, fields=names) == [sum(range(10_000))] * 20
    table = pa.table({n: [float(i)] * 300 for i, n in enumerate(names)})
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink)
    assert predict("i.parquet", sink.getvalue(), fields=names) == [sum(range(10_000))] * 300


@pytest.mark.parametrize("cell", ["x" * (1 << 21), '"' + "x\n" * (1 << 20) + '"'])
@pytest.mark.parametrize("name", ["i.csv", "i.csv.gz"])
def test_a_huge_cell_is_refused(predict, cell, name):
    content = f"a,b,c\n1,2,{cell}\n".encode()
    with pytest.raises(InvalidInput, match="line 2: a row of more than 4,000 bytes, the most that is read"):
        predict(name, gzip.compress(content) if name.endswith("gz") else content, max_row_bytes=4000)
    assert predict(name, gzip.compress(content) if name.endswith("gz") else content) == [3]


def test_a_huge_line_of_json_is_refused(predict):
    with pytest.raises(InvalidInput, match="line 2: a line of more than 4,000 bytes"):
        predict("i.jsonl", '{"a":1,"b":2}\n{"a":1,"b":"' + "x" * 600_000, max_row_bytes=4000)


@pytest.mark.slow
def test_a_cell_of_one_gigabyte_is_refused_in_little_memory(tmp_path):
    """The limit of the address space is below the size of the cell."""
    script = """
        import resource, sys
        from foretell.bulk.sources import open_source
        from foretell.errors import InvalidInput
        from foretell.signature import Field, Signature
        import pyarrow.csv
        resource.setrlimit(resource.RLIMIT_DATA, (700 << 20, 700 << 20))
        try:
            list(open_source(sys.argv[1], Signature((), (), (Field("a"),)), ()).blocks())
        except InvalidInput as e:
            print(e)
    """
    path = tmp_path / "big.csv"
    with path.open("wb") as f:
        f.write(b'a,b\n1,"')
        for _ in range(1024):
            f.write(b"x" * (1 << 20))
        f.write(b'"\n')
    code = "\n".join(line.strip(" ") if not line.startswith(" " * 12) else line[8:] for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("big.csv line 2: a row of more than 16,777,216 bytes"), done.stderr


def test_integers_beyond_float64(predict):
    assert predict("i.csv", "a,b\n9007199254740993,0\n") == [9007199254740992.0]
    assert predict("i.jsonl", '{"a":9007199254740993,"b":0}\n') == [9007199254740992.0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a":1,"b":2', "line 2: not JSON"),
        ("[1,2]", "line 2: got list, expected an object"),
        ("null", "line 2: got NoneType, expected an object"),
        ('{"a":1}', 'line 2: column "b", row 1: it is missing'),
        ('{"a":1,"b":"2"}', 'line 2: column "b", row 1: got "2", expected a number'),
        ('{"a":1,"b":{"c":1}}', 'line 2: column "b", row 1: got {'),
        ('{"a":1,"b":1e999}', "got inf, expected a finite number"),
        ('{"a":1,"b":Infinity}', "got inf, expected a finite number"),
        ('{"a":1,"b":' + "9" * 400 + "}", "expected a finite number"),
        ('{"a":1,"b":' + "9" * 5000 + "}", "line 2: not JSON"),
        ('{"a":1,"b":' + "[" * 200_000, "line 2: (JSON nested too deep|not JSON)"),
        (b'{"a":1,"b":"\xff"}', "line 2: byte 0xff is not UTF-8"),
        ("not json", "line 2: not JSON"),
    ],
)
def test_json_lines_at_fault(predict, line, problem):
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(InvalidInput, match=problem):
        predict("i.jsonl", b'{"a":1,"b":2}\n' + line + b"\n")


def test_json_lines_that_are_right(predict):
    assert predict("i.txt", '\ufeff{"a":1,"b":2}\r\n\r\n{"b":null,"a":7,"c":[1]}') == [3, 7]
    assert predict("e.jsonl", "") == []


def test_a_json_list_is_refused(predict):
    with pytest.raises(InvalidInput, match="expected an object a line"):
        predict("i.json", json.dumps([{"a": 1, "b": 2}]))


def parquet(**options):
    sink = io.BytesIO()
    rng = np.random.default_rng(0)
    pa.parquet.write_table(pa.table({"a": rng.random(500), "b": rng.random(500)}), sink, **options)
    return sink.getvalue()


def test_parquet_cut_at_every_tenth_byte(predict, tmp_path):
    whole = parquet()
    assert len(predict("whole.parquet", whole)) == 500
    (tmp_path / "out.parquet").unlink()
    (tmp_path / "whole.parquet").unlink()
    for length in range(0, len(whole), 10):
        with pytest.raises(InvalidInput, match=r"^cut\.parquet: (damaged or cut off|the name says Parquet)"):
            predict("cut.parquet", whole[:length])


@pytest.mark.parametrize("seed", range(40))
def test_damaged_parquet_is_an_error_or_an_answer(predict, seed):
    whole = bytearray(parquet(compression="none", write_page_checksum=True))
    rng = np.random.default_rng(seed)
    for at in rng.integers(4, len(whole) - 4, 3):
        whole[at] ^= int(rng.integers(1, 256))
    with contextlib.suppress(InvalidInput):
        assert len(predict("i.parquet", bytes(whole))) <= 500


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("length", [0.1, 0.5, 0.9, 0.99])
def test_arrow_cut_off(predict, is_stream, length):
    table = pa.table({"a": np.arange(500.0), "b": np.arange(500.0)})
    sink = io.BytesIO()
    with (pa.ipc.new_stream if is_stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, 100)
    whole = sink.getvalue()
    assert len(predict("i.arrow", whole)) == 500
    if is_stream and length == 0.99:
        return  # only the mark of the end is gone
    with pytest.raises(InvalidInput, match="damaged or cut off"):
        predict("i.arrow", whole[: int(len(whole) * length)])


def test_arrow_that_points_outside_itself_is_refused(predict):
    batch = pa.record_batch({"a": pa.array(["x", "yy"]), "b": pa.array([1.0, 2.0])})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    whole = sink.getvalue()
    offsets = np.array([0, 1, 3], np.int32).tobytes()
    assert whole.count(offsets) == 1
    with pytest.raises(InvalidInput, match="damaged"):
        predict("i.arrow", whole.replace(offsets, np.array([0, 1, 1 << 30], np.int32).tobytes()))


def test_an_extension_type_is_refused(predict):
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16)))
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({"a": ids, "b": [1.0]}), sink)
    with pytest.raises(InvalidInput, match='column "a" has the extension type'):
        predict("i.parquet", sink.getvalue())


@pytest.mark.parametrize("name", ["i.parquet", "i.feather", "i.arrow"])
def test_a_text_that_claims_to_be_a_table_is_refused(predict, name):
    with pytest.raises(InvalidInput, match="the name says"):
        predict(name, "a,b\n1,2\n")


def test_content_goes_before_the_name(predict):
    assert len(predict("i.csv", parquet())) == 500
    assert predict("i.dat", gzip.compress(b"a,b\n1,2\n")) == [3]


@pytest.mark.parametrize("length", [5, 15, 30, 100, -9, -1])
def test_gzip_cut_off(predict, length):
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(1000)))
    with pytest.raises(InvalidInput, match=r"gzip archive is damaged|empty"):
        predict("i.csv.gz", packed[:length])


def test_gzip_bomb_in_bounded_memory(predict):
    with pytest.raises(InvalidInput, match="a row of more than"):
        predict("i.csv.gz", gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"\x31" * (64 << 20)))


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\x89HDF\r\n", b"\xff\xfea\0"])
def test_other_formats_are_named(predict, start):
    with pytest.raises(InvalidInput, match="this is"):
        predict("i.csv", start + b"rest" * 10)


def test_a_pickle_is_only_bytes(predict):
    import pickle

    with pytest.raises(InvalidInput):
        predict("i.csv", pickle.dumps({"a": [1], "b": [2]}))


def test_a_folder_without_data_and_a_missing_file(tmp_path, sum_model):
    with pytest.raises(ConfigError, match="a folder without data files"):
        predict_files(sum_model("a"), [str(tmp_path)], None)
    with pytest.raises(ConfigError, match="there is no such file"):
        predict_files(sum_model("a"), [str(tmp_path / "no.csv")], None)


def test_a_file_that_vanishes_or_may_not_be_read(tmp_path, sum_model, monkeypatch):
    from pathlib import Path

    (tmp_path / "i.csv").write_text("a\n1\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MachineError, match=r"^i\.csv: cannot be read"):
        predict_files(sum_model("a"), [str(tmp_path / "i.csv")], None)


def test_a_full_disk_is_the_machines_fault(tmp_path, sum_model):
    (tmp_path / "i.csv").write_text("a\n" + "1.2345\n" * 300_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(MachineError, match="free some space"):
            predict_files(sum_model("a"), [str(tmp_path / "i.csv")], str(tmp_path / "o.csv"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["i.csv"]
