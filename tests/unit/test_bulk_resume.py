"""A job dies, or finds its disk full, at each of its effects; then it goes on and ends as if nothing had been."""

import hashlib
import itertools
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from faulty_storage import Died, FaultyStorage

from foretell.bulk import delimited, dialect, jsonl, plan
from foretell.bulk.job import predict_files
from foretell.errors import ConfigError, InvalidInput, MachineError

OUTS = ("one.csv.gz", "one.parquet", "scored/")
WAYS = [
    pytest.param(out, is_full, marks=() if (out == "scored/") != is_full else pytest.mark.slow)
    for out in OUTS
    for is_full in (False, True)
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(dialect, "_HEAD_BYTES", 64)
    monkeypatch.setitem(delimited.DelimitedSource.__init__.__kwdefaults__, "block_bytes", 256)


@pytest.fixture
def use(monkeypatch):
    def put(storage):
        monkeypatch.setattr(plan, "storage_of", lambda path: storage)
        return storage

    return put


def make_inputs(folder):
    folder.mkdir()
    (folder / "1.csv").write_text("a,b\n" + "".join(f"{i},0.5\n" for i in range(100)))
    (folder / "2.csv").write_text("a,b\n" + "".join(f"{i},0.25\n" for i in range(60)))
    return str(folder)


def predict(model, inputs, out, **options):
    return predict_files(model, [inputs], str(out), **{"threads": 1, "chunk_rows": 1, "keep": ["a"], **options})


def visible(folder):
    """Return names and digests of all files that do not begin with a dot."""
    files = [p for p in folder.rglob("*") if p.is_file() and not any(x.startswith(".") for x in p.parts)]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def journal_of(folder):
    (path,) = folder.rglob("journal")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("out", "is_full"), WAYS)
def test_any_effect_may_be_the_last(tmp_path, sum_model, use, out, is_full):
    inputs = make_inputs(tmp_path / "in")
    (tmp_path / "whole").mkdir()
    undisturbed = use(FaultyStorage())
    predict(sum_model("ab"), inputs, f"{tmp_path}/whole/{out}")
    expected, effects = visible(tmp_path / "whole"), undisturbed.effects
    assert len(effects) > 30
    for last in range(len(effects)):
        folder = tmp_path / f"{last}"
        folder.mkdir()
        use(FaultyStorage(last, is_full=is_full))
        try:
            predict(sum_model("ab"), inputs, f"{folder}/{out}")
            ended = "well"  # nothing was left to write
        except Died:
            ended = "killed"
        except MachineError as e:
            ended = str(e)
        assert ended == "killed" or (is_full and (ended == "well" or "No space left on device" in ended))
        found = visible(folder)
        assert found.items() <= expected.items()  # what has a name has all of its bytes
        use(FaultyStorage())
        predict(sum_model("ab"), inputs, f"{folder}/{out}")
        assert visible(folder) == expected
        assert not [p for p in folder.rglob("*") if p.name.endswith(".part")]


def test_only_what_was_not_done_is_answered_again(tmp_path, sum_model, use):
    class Counting(sum_model):
        calls = 0

        def predict_arrow(self, batch, first_row=0):
            Counting.calls += 1
            return super().predict_arrow(batch, first_row)

    inputs = make_inputs(tmp_path / "in")
    use(FaultyStorage())
    predict(Counting("ab"), inputs, tmp_path / "whole.csv")
    needed, Counting.calls = Counting.calls, 0
    for last in (9, 9, 9, 9):
        use(FaultyStorage(last))
        with pytest.raises(Died):
            predict(Counting("ab"), inputs, tmp_path / "o.csv")
    use(FaultyStorage())
    summary = predict(Counting("ab"), inputs, tmp_path / "o.csv")
    assert needed <= Counting.calls <= needed + 5
    assert summary.rows == 160
    assert 0 < summary.rows_before < 160


@pytest.mark.parametrize("damage", ["lost", "cut", "changed"])
def test_a_damaged_part_is_made_anew(tmp_path, sum_model, use, damage):
    inputs = make_inputs(tmp_path / "in")
    use(FaultyStorage())
    predict(sum_model("ab"), inputs, tmp_path / "whole.csv")
    use(FaultyStorage(20))
    with pytest.raises(Died):
        predict(sum_model("ab"), inputs, tmp_path / "o.csv")
    part = sorted(tmp_path.rglob("0*.part"))[1]
    if damage == "lost":
        part.unlink()
    else:
        content = part.read_bytes()
        part.write_bytes(content[:-1] if damage == "cut" else b"9" + content[1:])
    use(FaultyStorage())
    predict(sum_model("ab"), inputs, tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_complete_folder_says_so_and_is_mended(tmp_path, sum_model):
    inputs, out = make_inputs(tmp_path / "in"), tmp_path / "scored"
    assert predict(sum_model("ab"), inputs, f"{out}/").rows == 160
    expected = visible(tmp_path)
    again = predict(sum_model("ab"), inputs, out)
    assert (again.rows, again.rows_before) == (160, 160)
    (out / "1.csv").unlink()
    mended = predict(sum_model("ab"), inputs, out)
    assert (mended.rows, mended.rows_before) == (160, 60)
    assert visible(tmp_path) == expected


def start(tmp_path, model, use, out, **options):
    """Begin a job that dies in the middle."""
    inputs = make_inputs(tmp_path / "in")
    use(FaultyStorage(20))
    with pytest.raises(Died):
        predict(model, inputs, out, **options)
    use(FaultyStorage())
    return inputs


def test_what_changed_is_told(tmp_path, sum_model, use):
    out, model = tmp_path / "o.csv", sum_model("ab")
    inputs = start(tmp_path, model, use, out, model_digest="one")
    changed = Path(inputs) / "2.csv"
    times = changed.stat()
    for options, told in (
        ({"model_digest": "two"}, "the model is another one"),
        ({"model_digest": "one", "keep": ["b"]}, "--keep was a and is b"),
        ({"model_digest": "one", "chunk_rows": 7}, "--chunk-rows was 1 and is 7"),
        ({"model_digest": "one", "format_name": "jsonl"}, "--format was csv and is jsonl"),
    ):
        with pytest.raises(ConfigError, match=f"a job was begun there, and {told}; .*--overwrite"):
            predict(model, inputs, out, **options)
    changed.write_text(changed.read_text() + "1,1\n")
    with pytest.raises(ConfigError, match=r'input ".*2\.csv" has changed: it had 474 bytes and has 478'):
        predict(model, inputs, out, model_digest="one")
    changed.write_text(changed.read_text()[:-4])
    with pytest.raises(ConfigError, match=r'input ".*2\.csv" has changed: it was written since'):
        predict(model, inputs, out, model_digest="one")
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    (Path(inputs) / "3.csv").write_text("a,b\n1,1\n")
    with pytest.raises(ConfigError, match=r'input ".*3\.csv" was not there'):
        predict(model, inputs, out, model_digest="one")
    (Path(inputs) / "3.csv").unlink()
    changed.unlink()
    with pytest.raises(ConfigError, match=r'input ".*2\.csv" is not among the inputs any more'):
        predict(model, inputs, out, model_digest="one")
    assert predict(model, inputs, out, overwrite=True).rows == 100


def test_a_fault_keeps_what_was_done_and_may_then_be_skipped(tmp_path, sum_model):
    path = tmp_path / "i.csv"
    path.write_text("a,b\n" + "".join(f"{i},0.5\n" for i in range(100)) + "x,1\n" + "1,1\n" * 50)
    out = tmp_path / "o.csv"
    with pytest.raises(InvalidInput, match=r'i\.csv line 102: column "a": got "x"'):
        predict(sum_model("ab"), str(path), out)
    assert not out.exists()
    summary = predict(sum_model("ab"), str(path), out, on_error="skip")
    assert summary.rows == 150
    assert summary.errors == 1
    assert summary.rows_before > 50
    predict(sum_model("ab"), str(path), tmp_path / "whole.csv", on_error="skip")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_job_at_work_is_left_alone(tmp_path, sum_model):
    inputs, out = make_inputs(tmp_path / "in"), tmp_path / "o.csv"

    class Second(sum_model):
        def predict_arrow(self, batch, first_row=0):
            with pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* is at work here"):
                predict(sum_model("ab"), inputs, out)
            told.append(True)
            return super().predict_arrow(batch, first_row)

    told = []
    assert predict(Second("ab"), inputs, out).rows == 160
    assert told


def test_a_cut_last_line_and_lines_that_mean_nothing_are_passed_over(tmp_path, sum_model, use):
    out = tmp_path / "o.csv"
    inputs = start(tmp_path, sum_model("ab"), use, out)
    journal = tmp_path / ".o.csv.foretell" / "journal"
    journal.write_bytes(journal.read_bytes() + b'nonsense\n[1]\n{"chunk": 99}\n{"chunk": 5, "fi')
    predict(sum_model("ab"), inputs, out)
    predict(sum_model("ab"), inputs, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_outputs_lie_as_inputs_do(tmp_path, sum_model):
    for name in ("a.csv", "deep/b.tsv", "deep/er/c.txt.gz"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".gz"):
            import gzip

            path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
        else:
            path.write_text("a,b\n1,2\n")
    predict(sum_model("ab"), str(tmp_path / "in"), tmp_path / "scored")
    assert sorted(visible(tmp_path / "scored")) == ["a.csv", "deep/b.csv", "deep/er/c.csv.gz"]
    predict(sum_model("ab"), str(tmp_path / "in" / "*" / "*.t*"), f"{tmp_path}/other/", format_name="jsonl")
    assert sorted(visible(tmp_path / "other")) == ["deep/b.jsonl"]


def test_a_folder_that_cannot_be(tmp_path, sum_model):
    inputs = make_inputs(tmp_path / "in")
    for out, told in (
        (f"{inputs}/scored/", "it lies in the input folder"),
        (f"{inputs}/", "this is an input too"),
    ):
        with pytest.raises(ConfigError, match=told):
            predict(sum_model("ab"), inputs, out)
    (tmp_path / "scored").write_text("")
    with pytest.raises(ConfigError, match="this is a file, expected a folder"):
        predict(sum_model("ab"), inputs, tmp_path / "scored")
    (tmp_path / "scored").unlink()
    with pytest.raises(ConfigError, match="would both be written to"):
        predict_files(sum_model("ab"), [f"{inputs}/1.csv", f"{inputs}/1.csv"], f"{tmp_path}/scored/")
    assert sorted(p.name for p in itertools.chain(tmp_path.iterdir(), (tmp_path / "in").iterdir())) == [
        "1.csv",
        "2.csv",
        "in",
    ]


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path, sum_model):
    inputs, out = make_inputs(tmp_path / "in"), tmp_path / "o.csv"

    class Meddling(sum_model):
        def predict_arrow(self, batch, first_row=0):
            with open(f"{inputs}/2.csv", "a") as file:
                file.write("1,1\n")
            return super().predict_arrow(batch, first_row)

    with pytest.raises(InvalidInput, match=r'2\.csv": it changed while it was read'):
        predict(Meddling("ab"), inputs, out)
    assert not out.exists()


def test_one_file_that_was_whole_when_it_was_killed_is_no_other_job(tmp_path, sum_model, use):
    inputs, out = make_inputs(tmp_path / "in"), tmp_path / "o.csv"
    storage = use(FaultyStorage())
    predict(sum_model("ab"), inputs, out)
    use(FaultyStorage(len(storage.effects) - 1))  # all but the end of clearing up
    with pytest.raises(Died):
        predict(sum_model("ab"), inputs, out)
    assert out.exists()
    assert (tmp_path / ".o.csv.foretell" / "journal").exists()
    (tmp_path / "in" / "2.csv").unlink()
    use(FaultyStorage())
    assert predict(sum_model("ab"), inputs, out).rows == 100
    assert [p.name for p in tmp_path.iterdir() if p.name != "in"] == ["o.csv"]


def test_keys_to_keep_are_those_of_the_first_row_wherever_it_goes_on(tmp_path, sum_model, use, monkeypatch):
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 256)
    path = tmp_path / "i.jsonl"
    path.write_text(
        "".join(json.dumps({"a": i, "b": 1, "k": f"x{i}", **({"z": 1} if i else {})}) + "\n" for i in range(60))
    )
    use(FaultyStorage())
    predict(sum_model("ab"), str(path), tmp_path / "whole.csv", keep="all")
    use(FaultyStorage(20))
    with pytest.raises(Died):
        predict(sum_model("ab"), str(path), tmp_path / "o.csv", keep="all")
    use(FaultyStorage())
    assert predict(sum_model("ab"), str(path), tmp_path / "o.csv", keep="all").rows_before > 0
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "o.csv").read_text().startswith("a,b,k,prediction\n0,1,x0,1\n")


def test_a_file_of_one_chunk_needs_no_part(tmp_path, sum_model, use):
    inputs = make_inputs(tmp_path / "in")
    whole = use(FaultyStorage())
    predict(sum_model("ab"), inputs, f"{tmp_path}/whole/", chunk_rows=1000)
    assert not [e for e in whole.effects if e.startswith("create") and e.endswith(".part")]
    expected = visible(tmp_path / "whole")
    assert sorted(expected) == ["1.csv", "2.csv"]
    for last in range(len(whole.effects)):
        out = tmp_path / f"{last}"
        use(FaultyStorage(last))
        with pytest.raises(Died):
            predict(sum_model("ab"), inputs, f"{out}/", chunk_rows=1000)
        use(FaultyStorage())
        predict(sum_model("ab"), inputs, f"{out}/", chunk_rows=1000)
        assert visible(out) == expected
