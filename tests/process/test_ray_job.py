"""A job on a Ray cluster gives the bytes that it gives without one, also when a node dies in the middle of it."""

import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

ray = pytest.importorskip("ray", reason="needs Ray: scripts/test --ray")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

import foretell  # noqa: E402
from foretell.bulk import ray_workers  # noqa: E402
from foretell.bulk.answering import answer  # noqa: E402
from foretell.bulk.crew import ThreadCrew  # noqa: E402
from foretell.bulk.job import Interrupted, predict_files  # noqa: E402
from foretell.bulk.on_ray import RayCrew  # noqa: E402
from foretell.bulk.shipped import ship  # noqa: E402
from foretell.errors import InvalidInput  # noqa: E402

ROWS, STEP = 400_000, 10_000
NAMES = ["a", "b", "c"]
STORE = 100 << 20


@pytest.fixture(scope="module")
def booster(tmp_path_factory):
    import xgboost

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 3)).astype(np.float32)
    booster = xgboost.train({"max_depth": 4}, xgboost.DMatrix(rows, rows.sum(axis=1), feature_names=NAMES), 100)
    path = tmp_path_factory.mktemp("model") / "xgb.json"
    booster.save_model(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Half of the rows as Parquet, half as CSV."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(1)
    table = pa.table({"id": np.arange(ROWS)} | {name: rng.normal(size=ROWS) for name in NAMES})
    pa.parquet.write_table(table[: ROWS // 2], folder / "1.parquet", row_group_size=STEP)
    pa.csv.write_csv(table[ROWS // 2 :], folder / "2.csv")
    return folder


@pytest.fixture(scope="module")
def expected(booster, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("local") / "o.parquet"
    with foretell.load(booster) as model:
        predict_files(model, [str(files)], str(out), keep=["id"], chunk_rows=STEP, threads=1)
    assert pa.parquet.read_table(out)["id"].to_pylist() == list(range(ROWS))
    return digest(out)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Disturbed:
    """A crew to which something happens when it has answered some chunks."""

    def __init__(self, crew, after, happens):
        self.crew, self.after, self.happens = crew, after, happens

    def run(self, chunks):
        for count, done in enumerate(self.crew.run(chunks)):
            if count == self.after:
                self.happens()
            yield done


def score(booster, inputs, out, address, *, workers=None, after=-1, happens=None, **options):
    with foretell.load(booster) as model:
        shipped = ship(booster)
        options = {"keep": ["id"], "chunk_rows": STEP} | options

        def crew(how):
            if address is None:
                return Disturbed(ThreadCrew(partial(answer, model, how), 1), after, happens)
            return Disturbed(RayCrew(model, shipped, how, address, workers), after, happens)

        return predict_files(model, [str(i) for i in inputs], str(out), crew=crew, **options)


@pytest.fixture(scope="module")
def cluster():
    """Three nodes with a processor each; the driver's own has none."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    made.nodes = [made.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(3)]
    yield made
    ray.shutdown()
    made.shutdown()


def test_the_answer_to_a_bad_row_is_that_of_a_job_without_a_cluster(cluster, booster, files, tmp_path):
    text = (files / "2.csv").read_text().splitlines()
    text[90_000] = "x,y,z,w"
    (tmp_path / "bad.csv").write_text("\n".join(text))
    told, written = [], []
    for address in (None, cluster.address):
        with pytest.raises(InvalidInput) as caught:
            score(booster, [tmp_path / "bad.csv"], tmp_path / f"{address is None}.csv", address)
        told.append((str(caught.value), caught.value.row, caught.value.column))
        out = tmp_path / f"{address is None}.parquet"
        summary = score(booster, [tmp_path / "bad.csv"], out, address, on_error="skip")
        written.append((summary.rows, summary.errors, digest(out)))
    assert told[0] == told[1]
    assert "bad.csv line 90001: " in told[0][0]
    assert written[0] == written[1]
    assert written[0][:2] == (ROWS // 2 - 1, 1)


def test_what_was_begun_on_a_cluster_goes_on_without_one(cluster, booster, files, expected, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    out = tmp_path / "o.parquet"
    with pytest.raises(Interrupted, match="the same command goes on"):
        score(booster, [files], out, cluster.address, after=3, happens=interrupt)
    summary = score(booster, [files], out, None)
    assert summary.rows_before > 0
    assert (summary.rows, digest(out)) == (ROWS, expected)


def test_a_node_that_dies_loses_nothing(cluster, booster, files, expected, tmp_path, monkeypatch):
    lost, method = [], ray_workers.Workers.lost

    def seen(*given):
        lost.append(given)
        return method(*given)

    def kill():
        cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    monkeypatch.setattr(ray_workers.Workers, "lost", seen)
    out = tmp_path / "o.parquet"
    summary = score(booster, [files], out, cluster.address, after=4, happens=kill)
    assert (summary.rows, digest(out)) == (ROWS, expected)
    assert lost, "no worker was seen to die"


def foretell_predict(booster, files, out, on, **env):
    given = ["predict", booster, files, "-o", out, "--keep", "id", "--chunk-rows", STEP, "--on", on, "--workers", 2]
    command = [sys.executable, "-m", "foretell.cli.main", *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | env, timeout=200)


def test_the_command_starts_a_cluster_and_ends_it(booster, files, expected, tmp_path):
    done = foretell_predict(booster, files, tmp_path / "o.parquet", "ray")
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "o.parquet") == expected
    assert "Traceback" not in done.stderr


def test_a_cluster_that_is_not_there(booster, files, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    done = foretell_predict(booster, files, tmp_path / "o.parquet", f"ray://127.0.0.1:{port}")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("foretell: ")]
    assert line.startswith(f'foretell: --on "ray://127.0.0.1:{port}": no Ray cluster can be joined there (')
    assert not (tmp_path / "o.parquet").exists()


@pytest.fixture
def head(tmp_path):
    """A cluster of another process with a server for Ray's client: its address, and what its callers need to know."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    given = ["--head", "--port=0", f"--ray-client-server-port={port}", "--include-dashboard=false", "--num-cpus=2"]
    command = [Path(sys.executable).with_name("ray"), "start", *given, f"--object-store-memory={STORE}", "--block"]
    log = tmp_path / "head.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | env) as process:
        try:
            until = time.monotonic() + 120
            while b"block forever" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield f"ray://127.0.0.1:{port}", env
        finally:
            process.terminate()


def test_a_client_of_a_cluster(head, booster, files, expected, tmp_path):
    address, env = head
    done = foretell_predict(booster, files, tmp_path / "o.parquet", address, **env)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "o.parquet") == expected
