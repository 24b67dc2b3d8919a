"""`predict_files` in a process of its own: interrupted, and with a reader that goes away."""

import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import time
from conftest import SumModel
from foretell.bulk.job import predict_files
class SlowModel(SumModel):
    def predict_arrow(self, batch, first_row=0):
        time.sleep(0.5)
        return super().predict_arrow(batch, first_row)
out = sys.argv[3] if len(sys.argv) > 3 else None
try:
    model = SlowModel("ab") if out else SumModel("ab")
    predict_files(model, [sys.argv[2]], out, threads=1)
except KeyboardInterrupt:
    sys.exit(130)
except BrokenPipeError:
    import os
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(141)
"""


def start(*arguments, **options):
    tests = str(Path(__file__).parents[1])
    return subprocess.Popen([sys.executable, "-c", SCRIPT, tests, *map(str, arguments)], **options)


def test_interrupted_it_leaves_no_file_and_ends_soon(tmp_path):
    (tmp_path / "i.csv").write_text("a,b\n" + "1,2\n" * 10_000_000)  # far more work than the test waits for
    child = start(tmp_path / "i.csv", tmp_path / "o.csv", stderr=subprocess.PIPE)
    while child.poll() is None and not any(p.suffix == ".part" and p.stat().st_size for p in tmp_path.iterdir()):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert [p.name for p in tmp_path.iterdir()] == ["i.csv"]


def test_a_reader_that_goes_away_ends_it(tmp_path):
    (tmp_path / "i.csv").write_text("a,b\n" + "1,2\n" * 1_000_000)
    child = start(tmp_path / "i.csv", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline() == b"prediction\n"
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=30) == 141, said
    assert said == b""
