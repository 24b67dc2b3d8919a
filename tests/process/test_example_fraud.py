"""The example of card payments: its parts, and with `--slow` a small cut of the real data through all of it."""

import importlib.util
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fraud"
HOUR = 3600


def part(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fraud_{name}", EXAMPLE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def test_the_threshold_is_the_lowest_that_keeps_the_precision() -> None:
    choose = part("train").lowest_with_precision
    scores = np.array([0.1, 0.9, 0.5, 0.8, 0.7, 0.6])
    is_fraud = np.array([0, 1, 1, 1, 0, 1])
    assert choose(scores, is_fraud, 1.0) == 0.8
    assert choose(scores, is_fraud, 0.8) == 0.5
    assert choose(scores, is_fraud, 0.6) == 0.1
    # Equal scores are alerts together: two of three at 0.9 are frauds.
    assert choose(np.array([0.9, 0.9, 0.9, 0.2]), np.array([1, 1, 0, 1]), 0.7) == 0.2
    with pytest.raises(SystemExit, match="no threshold"):
        choose(np.array([0.9, 0.9]), np.array([1, 0]), 0.9)


def answer_each(listening: socket.socket, before: dict[int, object]) -> None:
    """Answer request after request; call what is to happen before an answer. None instead of a call: hang up."""
    count = 0
    while count < 8:
        connection, _ = listening.accept()
        with connection:
            while data := connection.recv(1 << 16):
                act = before.get(count, lambda: None)
                count += 1
                if act is None:
                    break
                act()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
                connection.sendall(data)


def test_a_stall_is_in_the_latency_of_all_that_were_to_leave_meanwhile() -> None:
    load = part("load")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        before = {2: lambda: time.sleep(0.5), 6: None}
        server = threading.Thread(target=answer_each, args=(listening, before))
        server.start()
        requests = [b"%d" % i for i in range(8)]
        answers = load.replay(listening.getsockname()[1], requests, per_second=100, connections=1)
        server.join(20)
    assert not server.is_alive()
    assert [a.status for a in answers] == [200] * 6 + [0, 200]
    assert [a.body for a in answers] == [*requests[:6], b"", requests[7]]
    # Request 3 was to leave 10 ms after request 2, and had to wait for its connection.
    assert [round(a.latency_s, 2) >= 0.5 - 0.01 * i for i, a in enumerate(answers[2:6])] == [True] * 4


def run(*command: object) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_small_cut_of_all_of_it(tmp_path: Path) -> None:
    """Eight hours of the first day, one hour of the last. Downloads 76 MB where `run` did not do so before."""
    home = ROOT / "fraud-out" if (ROOT / "fraud-out" / "creditcard.csv").exists() else tmp_path / "whole"
    payments = pd.read_csv(part("fetch").fetch(home))
    time_of_day = payments["Time"] % (24 * HOUR)
    is_first = payments["Time"] < 24 * HOUR
    cut = payments[(is_first & (time_of_day < 8 * HOUR)) | (~is_first & (time_of_day // HOUR == 2))]
    out = tmp_path / "cut"
    out.mkdir()
    cut.to_csv(out / "creditcard.csv", index=False)

    assert "81 frauds" in run(EXAMPLE / "train.py", out)
    convert = ["convert", out / "fraud.ubj", "--sample", out / "first_day.csv", "--target", "Class"]
    run("-m", "foretell.cli.main", *convert, "--labels", out / "labels.txt", "-o", out / "fraud")
    told = run(EXAMPLE / "replay.py", out, "--rate", 500, "--payments", 1500, "--deadline", 1000)

    good, of = re.search(r"answered in time: ([\d,]+) of ([\d,]+)", told).groups()
    late, refused, failed = re.search(r"late (\d+), refused (\d+), failed (\d+)", told).groups()
    assert of == "1,500"
    assert failed == "0"
    assert int(good.replace(",", "")) + int(late) + int(refused) == 1500
    assert int(re.search(r"frauds caught: (\d+) of \d+", told)[1]) > 0
    assert float(re.search(r"XGBoost's own probabilities: (\S+)", told)[1]) < 1e-6
