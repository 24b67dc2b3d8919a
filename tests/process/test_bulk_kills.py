"""A job that is killed again and again ends with the bytes of one that was left alone, and repeats next to nothing."""

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
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
        self.ask(**asked)
        return self.answer()["code"]

    def ask(self, **asked):
        self.process.stdin.write(json.dumps(asked, default=str) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())


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


def run_to_call(zygote, call, number, **asked):
    """Run a job that is killed as it enters a system call for the nth time; return its exit code."""
    zygote.ask(waits=True, **asked)
    pid = zygote.answer()["pid"]
    command = ["strace", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={call}"]
    with subprocess.Popen(
        [*command, "-e", f"inject={call}:signal=KILL:when={number}"], stderr=subprocess.PIPE
    ) as tracer:
        while is_untraced(pid):
            if tracer.poll() is not None:
                os.kill(pid, signal.SIGKILL)
                zygote.answer()
                pytest.skip(f"strace cannot trace here: {tracer.stderr.read().decode().strip()}")
            time.sleep(0.001)
        os.kill(pid, signal.SIGCONT)
        code = zygote.answer()["code"]
        tracer.wait(timeout=60)
    return code


def is_untraced(pid):
    return "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("out_name", ["one.csv", "scored"])
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "unlink", "mkdir", "ftruncate", "rmdir,unlinkat"])
def test_killed_before_each_call_that_changes_the_disk(zygote, tmp_path, call, out_name):
    inputs = make_inputs(tmp_path / "in", 600)
    whole = tmp_path / "whole" / out_name
    whole.parent.mkdir()
    asked = {"inputs": [inputs / "1.csv", inputs / "3.parquet"], "workers": 1, "log": tmp_path / "log"}
    assert zygote.run(out=f"{whole}/" if out_name == "scored" else whole, **asked) == 0
    expected, killed = digest_of(whole), 0
    for number in range(1, 500):
        out = tmp_path / f"{number}" / out_name
        out.parent.mkdir()
        target = f"{out}/" if out_name == "scored" else out
        code = run_to_call(zygote, call, number, out=target, **asked)
        if code == 0:
            assert digest_of(out) == expected
            break
        assert code == -signal.SIGKILL
        killed += 1
        if out.is_file():  # what has a name has all of its bytes
            assert digest_of(out) == expected
        elif out.is_dir():
            assert digest_of(out).items() <= expected.items()
        assert zygote.run(out=target, **asked) == 0
        assert digest_of(out) == expected
        assert not [p for p in out.parent.rglob("*") if p.name.endswith(".part")]
    assert killed >= {"write": 10, "fsync": 20, "rename": 5}.get(call, 0)
