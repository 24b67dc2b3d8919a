"""A job that is killed again and again ends with the bytes of one that was left alone, and repeats next to nothing."""

import gzip
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 6_000
WORKERS = 2


class Zygote:
    """Runs jobs in children; see `bulk_zygote.py`."""

    def __enter__(self):
        script = Path(__file__).with_name("bulk_zygote.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def run(self, **asked):
        self.process.stdin.write(json.dumps(asked, default=str) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["code"]


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as started:
        yield started


def make_inputs(folder, rows):
    folder.mkdir()
    lines = [f"{i},{i % 7}.25\n" for i in range(rows)]
    (folder / "1.csv").write_text("a,b\n" + "".join(lines))
    (folder / "2.csv.gz").write_bytes(gzip.compress(("a,b\n" + "".join(lines[: rows // 2])).encode()))
    table = pa.table({"a": np.arange(rows, dtype=np.float64), "b": np.full(rows, 0.5)})
    pq.write_table(table, folder / "3.parquet", row_group_size=1_000)
    return folder


def digest_of(out):
    """Return the sha256 of a file, or of each visible file of a folder."""
    if out.is_file():
        return hashlib.sha256(out.read_bytes()).hexdigest()
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.iterdir() if not p.name.startswith(".")}


def journal_of(out):
    folder = out / ".foretell" if out.is_dir() else out.with_name(f".{out.name}.foretell")
    path = folder / "journal"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def chunks_done(out):
    return len({line["chunk"] for line in journal_of(out) if "chunk" in line})


def calls(log):
    return len(log.read_text().split("\n")) - 1 if log.exists() else 0


def kill_and_resume(zygote, tmp_path, out_name, *, kills, longest_s, rows, pause_s):
    """Kill a job so many times, then let it end; return how many calls of the model were for nothing."""
    inputs = make_inputs(tmp_path / "in", rows)
    whole, out, log = tmp_path / "whole" / out_name, tmp_path / "killed" / out_name, tmp_path / "log"
    for path in (whole, out):
        path.parent.mkdir()
    asked = {"inputs": [inputs], "workers": WORKERS, "chunk_rows": 1}
    assert zygote.run(out=f"{whole}/" if "." not in out_name else whole, log=tmp_path / "undisturbed", **asked) == 0
    needed = calls(tmp_path / "undisturbed")
    target = f"{out}/" if "." not in out_name else out
    rng, killed = random.Random(kills), 0
    while killed < kills:
        done, before = chunks_done(out), calls(log)
        code = zygote.run(out=target, log=log, pause_s=pause_s, kill_after_s=rng.uniform(0.002, longest_s), **asked)
        assert code in (0, -9)
        if code == 0:
            break
        killed += 1
        lost = (calls(log) - before) - (chunks_done(out) - done)
        assert lost <= WORKERS, f"{lost} chunks lost by one kill"
    assert zygote.run(out=target, log=log, **asked) == 0
    assert digest_of(out) == digest_of(whole)
    left = [p for p in (tmp_path / "killed").rglob("*") if p.name.endswith(".part")]
    assert left == []
    redone = calls(log) - needed
    assert 0 <= redone <= WORKERS * (killed + 1)
    return killed


@pytest.mark.parametrize("out_name", ["one.parquet", "scored"])
def test_killed_at_random_it_ends_with_the_same_bytes(zygote, tmp_path, out_name):
    killed = kill_and_resume(zygote, tmp_path, out_name, kills=8, longest_s=0.3, rows=ROWS, pause_s=0.002)
    assert killed >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("out_name", ["one.csv", "scored"])
def test_killed_two_hundred_times(zygote, tmp_path, out_name):
    killed = kill_and_resume(zygote, tmp_path, out_name, kills=200, longest_s=0.25, rows=60_000, pause_s=0.03)
    assert killed == 200
