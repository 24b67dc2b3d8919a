"""`foretell predict` in processes: interrupted, ended, two at once, on a full disk, and with nobody reading."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROWS = 1_500_000

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from conftest import SumModel
from foretell.bulk.job import predict_files
try:
    predict_files(SumModel("ab"), [sys.argv[2]], None, threads=1)
except BrokenPipeError:
    import os
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(141)
"""


def start(*arguments, **options):
    tests = str(Path(__file__).parents[1])
    return subprocess.Popen([sys.executable, "-c", SCRIPT, tests, *map(str, arguments)], **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import numpy as np
    import xgboost as xgb

    path = tmp_path_factory.mktemp("model") / "m.json"
    data = xgb.DMatrix(np.arange(40.0).reshape(20, 2), np.arange(20.0), feature_names=["a", "b"])
    xgb.train({"max_depth": 3, "nthread": 1}, data, 20).save_model(path)
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("in") / "i.csv"
    path.write_text("a,b\n" + "".join(f"{i % 97},{i % 89}.5\n" for i in range(ROWS)))
    return path


def foretell(*arguments, **options):
    command = [sys.executable, "-m", "foretell.cli.main", "predict", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def chunks_in(journal):
    return sum('"chunk"' in line for line in journal.read_text().split("\n")[:-1]) if journal.exists() else 0


def run_until(child, journal, more):
    """Wait until a running job has answered so many more chunks."""
    before = chunks_in(journal)
    while chunks_in(journal) < before + more:
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)


def test_interrupted_ended_and_begun_twice_it_goes_on(tmp_path, model, rows):
    asked = (model, rows, "-o", tmp_path / "o.csv", "--chunk-rows", "1000")
    journal = tmp_path / ".o.csv.foretell" / "journal"
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        child = foretell(*asked)
        run_until(child, journal, 3)
        if number == signal.SIGTERM:
            child.send_signal(signal.SIGSTOP)
            second = foretell(*asked)
            _, said = second.communicate(timeout=60)
            assert second.returncode == 2
            assert f"process {child.pid} on " in said
            assert "is at work here" in said
            child.send_signal(signal.SIGCONT)
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
        assert child.returncode == code, said
        assert said.startswith("foretell: interrupted: ")
        assert 'rows are done and kept in "' in said
        assert "the same command goes on behind them" in said
        assert not (tmp_path / "o.csv").exists()
    done = chunks_in(journal)
    last = foretell(*asked, "--json")
    found, said = last.communicate(timeout=120)
    assert last.returncode == 0, said
    assert json.loads(found)["rows_before"] > 0
    assert done >= 6
    straight = foretell(model, rows)
    expected, said = straight.communicate(timeout=120)
    assert straight.returncode == 0, said
    assert (tmp_path / "o.csv").read_text() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["o.csv"]


def mounted(folder, size):
    """Mount a small file system of memory; skip where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("name", ["o.csv", pytest.param("scored/", marks=pytest.mark.slow)])
def test_a_full_disk_is_told_and_the_job_goes_on_when_there_is_room(tmp_path, model, rows, name):
    small = tmp_path / "small"
    mounted(small, "6m")
    try:
        asked = (model, rows, "-o", f"{small}/{name}", "--keep", "a", "--chunk-rows", "1000")
        child = foretell(*asked)
        _, said = child.communicate(timeout=120)
        assert child.returncode == 5, said
        assert "No space left on device" in said
        assert "MB are needed" in said
        assert said.count("\n") == 1
        assert not [p for p in small.rglob("*") if p.is_file() and not any(x.startswith(".") for x in p.parts)]
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        child = foretell(*asked, "--json")
        found, said = child.communicate(timeout=120)
        assert child.returncode == 0, said
        assert json.loads(found)["rows_before"] > 0
        straight = foretell(model, rows, "--keep", "a")
        expected, _ = straight.communicate(timeout=120)
        out = small / name if name == "o.csv" else small / "scored" / "i.csv"
        assert out.read_text() == expected
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_reader_that_goes_away_ends_it(tmp_path):
    (tmp_path / "i.csv").write_text("a,b\n" + "1,2\n" * 1_000_000)
    child = start(tmp_path / "i.csv", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline() == b"prediction\n"
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=30) == 141, said
    assert said == b""
