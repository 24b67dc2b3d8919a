"""`foretell predict --via`: a running server predicts, after its other callers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

xgboost = pytest.importorskip("xgboost")

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from served_process import serving, until  # noqa: E402

from foretell.bulk import via as via_module  # noqa: E402
from foretell.bulk.job import predict_files  # noqa: E402
from foretell.bulk.via import via  # noqa: E402
from foretell.errors import ConfigError, InvalidInput  # noqa: E402
from foretell.model.load import load, load_steady  # noqa: E402

sys.path.remove(HERE)

PREDICT = [sys.executable, "-m", "foretell.cli.main", "predict"]
NAMES = ["a", "b", "c"]


def train(path, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((500, 3)).astype(np.float32)
    matrix = xgboost.DMatrix(x, x[:, 0] + x[:, 1] * x[:, 2] > 0, feature_names=NAMES)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1, "max_depth": 3}, matrix, 20)
    booster.save_model(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("via")
    train(found / "risk.json", 1)
    (found / "other").mkdir()
    train(found / "other" / "risk.json", 2)
    rng = np.random.default_rng(3)
    (found / "rows").mkdir()
    for number, kind in enumerate(("parquet", "csv")):
        table = pa.table({name: rng.standard_normal(20_000) for name in [*NAMES, "k"]})
        path = found / "rows" / f"{number}.{kind}"
        pa.parquet.write_table(table, path) if kind == "parquet" else pa.csv.write_csv(table, path)
    return found


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder / "risk.json") as served:
        yield served


def predict(*arguments, **environment):
    return subprocess.run(
        [*PREDICT, *map(str, arguments)], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


def address(port):
    return f"http://127.0.0.1:{port}"


def begin(folder, tmp_path, port):
    """Begin a job of 320,000 rows."""
    rows = [str(folder / "rows")] * 8
    options = ["-o", f"{tmp_path}/o.csv", "--chunk-rows", "1000", "--via", address(port)]
    return subprocess.Popen([*PREDICT, "risk", *rows, *options], stderr=subprocess.PIPE, text=True)


def test_answers_are_those_of_the_server_bit_for_bit(folder, server, tmp_path):
    url = address(server.port)
    done = predict("risk", folder / "rows", "-o", tmp_path / "far.parquet", "--keep", "k", "--via", url)
    assert done.returncode == 0, done.stderr
    with load_steady(folder / "risk.json") as model:
        predict_files(model, [str(folder / "rows")], str(tmp_path / "near.parquet"), keep=["k"])
    assert (tmp_path / "far.parquet").read_bytes() == (tmp_path / "near.parquet").read_bytes()
    assert server.sum_of("foretell_requests_total") >= 20
    with load(folder / "risk.json") as model, via(url) as far:
        assert far.digest == model.info()["digest"]
        assert far.signature == model.signature


def test_a_job_says_which_model_it_was_begun_with(folder, server, tmp_path):
    url = f"{address(server.port)}/v1/models/risk"
    done = predict(folder / "risk.json", folder / "rows" / "0.parquet", "-o", f"{tmp_path}/o/", "--via", url)
    assert done.returncode == 0, done.stderr
    wrong = predict(folder / "other" / "risk.json", folder / "rows", "-o", tmp_path / "o.csv", "--via", url)
    assert wrong.returncode == 2
    assert '"risk" is another model there than' in wrong.stderr
    with serving(folder / "other" / "risk.json") as changed:
        other = address(changed.port)
        again = predict("risk", folder / "rows" / "0.parquet", "-o", f"{tmp_path}/o/", "--via", other)
    assert again.returncode == 2
    assert "the model is another one" in again.stderr


def test_a_bad_row_is_found_here_with_its_place(folder, server, tmp_path):
    (tmp_path / "i.csv").write_text("a,b,c\n1,2,3\n4,x,6\n7,8,9\n")
    with via(address(server.port)) as far:
        before = server.sum_of("foretell_requests_total")
        with pytest.raises(InvalidInput, match=r'i.csv line 3: column "b": got "x"'):
            predict_files(far, [str(tmp_path / "i.csv")], str(tmp_path / "o.csv"))
        assert server.sum_of("foretell_requests_total") == before
        summary = predict_files(far, [str(tmp_path / "i.csv")], str(tmp_path / "o.csv"), on_error="skip")
    assert (summary.rows, summary.errors) == (2, 1)


def test_no_rows(folder, server, tmp_path):
    (tmp_path / "i.csv").write_text("a,b,c\n")
    with via(address(server.port)) as far:
        assert predict_files(far, [str(tmp_path / "i.csv")], str(tmp_path / "o.csv")).rows == 0
    assert (tmp_path / "o.csv").read_text().startswith("prediction,probability,")


def test_a_body_that_is_too_large_is_sent_in_halves(folder):
    rows = pa.table({name: np.arange(2000.0) for name in NAMES}).to_batches()[0]
    with serving(folder / "risk.json", "--max-body-bytes", 8192) as small, via(address(small.port)) as far:
        found = far.predict_arrow(rows).to_columns()
    with load_steady(folder / "risk.json") as model:
        expected = model.predict_arrow(rows).to_columns()
    assert list(found) == list(expected)
    for name, column in expected.items():
        assert found[name].dtype == column.dtype
        assert np.array_equal(found[name], column)


def test_a_server_that_goes_and_comes_back_is_waited_for(folder, tmp_path):
    with serving(folder / "risk.json") as first:
        port = first.port
        child = begin(folder, tmp_path, port)
        until(lambda: first.sum_of("foretell_requests_total") > 3)
        first.process.kill()
    assert child.poll() is None
    with serving(folder / "risk.json", "--http-port", port):
        _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    with load_steady(folder / "risk.json") as model:
        predict_files(model, [str(folder / "rows")] * 8, str(tmp_path / "near.csv"))
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "near.csv").read_bytes()


def test_ctrl_c_ends_it_while_no_server_answers(folder, tmp_path):
    with serving(folder / "risk.json") as gone:
        child = begin(folder, tmp_path, gone.port)
        until(lambda: gone.sum_of("foretell_requests_total") > 3)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert said.startswith("foretell: interrupted: ")


def test_keys(folder, tmp_path, monkeypatch):
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-sixteen-characters\n")
    keys.chmod(0o600)
    with serving(folder / "risk.json", "--api-key-file", keys) as guarded:
        url = address(guarded.port)
        with pytest.raises(ConfigError, match="set FORETELL_API_KEY"):
            via(url)
        monkeypatch.setenv("FORETELL_API_KEY", "a-key-of-sixteen-characters")
        with via(url) as far:
            assert far.name == "risk"


def test_what_cannot_be(folder, server, tmp_path, monkeypatch):
    url = address(server.port)
    for name, given, problem in (
        ("nothing", url, "nothing"),
        ("", f"{url}/somewhere", "expected http://host:port, or"),
        ("", f"{url}/v1/models/nothing", "nothing"),
    ):
        with pytest.raises(ConfigError, match=problem):
            via(given, name)
    monkeypatch.setattr(via_module, "_LOOK_S", 0.0)
    with via(url) as far:
        far.digest = "another"
        with pytest.raises(ConfigError, match="version 1 has become another model"):
            far.predict([{"a": 1, "b": 2, "c": 3}])
