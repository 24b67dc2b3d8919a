"""A job on a Ray cluster gives the bytes that it gives without one, also when a node dies in the middle of it."""

import hashlib

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
from foretell.bulk.job import predict_files  # noqa: E402
from foretell.bulk.on_ray import RayCrew  # noqa: E402
from foretell.bulk.shipped import ship  # noqa: E402

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
            return Disturbed(RayCrew(model, shipped, how, address, workers), after, happens)

        return predict_files(model, [str(i) for i in inputs], str(out), crew=crew, **options)


@pytest.fixture
def cluster():
    """Three nodes with a processor each; the driver's own has none."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    made.nodes = [made.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(3)]
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_that_dies_loses_nothing(cluster, booster, files, expected, tmp_path, monkeypatch):
    lost = []
    monkeypatch.setattr(ray_workers.Workers, "lost", count(lost, ray_workers.Workers.lost))
    out = tmp_path / "o.parquet"
    summary = score(
        booster,
        [files],
        out,
        cluster.address,
        after=4,
        happens=lambda: cluster.remove_node(cluster.nodes[0], allow_graceful=False),
    )
    assert (summary.rows, digest(out)) == (ROWS, expected)
    assert lost, "no worker was seen to die"


def count(calls, method):
    def counted(*given):
        calls.append(given)
        return method(*given)

    return counted
