import pickle
import signal
import sys

import pyarrow as pa
import pyarrow.csv
import pytest
from tests.conftest import SumModel
from tests.unit.fake_ray import install

from foretell.bulk import delimited, dialect, ray_actor, ray_cluster
from foretell.bulk.answering import How
from foretell.bulk.chunks import chunks_of
from foretell.bulk.job import predict_files
from foretell.bulk.on_ray import RayCrew, crew_on
from foretell.bulk.sources import open_source
from foretell.errors import ConfigError, InvalidInput, MachineError, RuntimeMissing

ROWS = 500


class Model(SumModel):
    """As a loaded model is."""

    def info(self):
        return {"runners": [{"kind": "onnxruntime"}]}


class Shipped:
    """Loads that model where it is."""

    def load(self):
        return Model("ab")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(dialect, "_HEAD_BYTES", 64)
    monkeypatch.setitem(delimited.DelimitedSource.__init__.__kwdefaults__, "block_bytes", 16)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "i.csv"
    path.write_text("a,b\n" + "".join(f"{i},0.5\n" for i in range(ROWS)))
    return path


def crew(shipped=None, workers=2):
    return lambda how: RayCrew(Model("ab"), shipped or Shipped(), how, "ray", workers)


def score(rows, out, chunk_rows=3, **options):
    made = options.pop("crew", None) or crew()
    summary = predict_files(Model("ab"), [str(rows)], str(out), crew=made, chunk_rows=chunk_rows, **options)
    assert pa.csv.read_csv(out)["prediction"].to_pylist() == [i + 0.5 for i in range(ROWS)]
    return summary


def test_all_rows_are_answered_in_their_order(monkeypatch, rows, tmp_path):
    ray = install(monkeypatch)
    ray.order = lambda refs: refs[-1]  # the youngest first
    assert score(rows, tmp_path / "o.csv").rows == ROWS
    assert len(ray.actors) == 2
    assert all(actor.killed for actor in ray.actors)


def test_a_worker_for_each_processor(monkeypatch, rows, tmp_path):
    ray = install(monkeypatch, processors=5)
    score(rows, tmp_path / "o.csv", crew=crew(workers=None))
    assert len(ray.actors) == 5


def test_the_chunk_of_a_worker_that_dies_goes_to_another(monkeypatch, rows, tmp_path):
    ray = install(monkeypatch, deaths=lambda call: call in {("answer", 1), ("answer", 2), ("answer", 9)})
    score(rows, tmp_path / "o.csv")
    assert len(ray.actors) == 2 + 3  # others were asked for in their place


def test_a_chunk_that_ends_all_its_workers_ends_the_job(monkeypatch, rows, tmp_path):
    calls = []

    def deaths(call):
        calls.append(call)
        return call[0] == "answer" and call[1] >= 4

    install(monkeypatch, deaths=deaths)
    with pytest.raises(MachineError, match=r"^chunk \d+: 4 workers died while they had it \(its node was lost\)"):
        score(rows, tmp_path / "o.csv")
    install(monkeypatch)
    assert score(rows, tmp_path / "o.csv").rows_before >= 9  # what was answered before that is kept


def test_workers_that_die_at_their_start_end_the_job(monkeypatch, rows, tmp_path):
    install(monkeypatch, deaths=lambda call: call[0] == "open")
    with pytest.raises(MachineError, match=r"^--on: 9 workers died while they started \(its node was lost\)"):
        score(rows, tmp_path / "o.csv")


def test_few_chunks_are_on_the_way(monkeypatch, rows):
    install(monkeypatch)
    read = []

    def reading():
        for chunk in chunks_of([open_source(str(rows), Model("ab").signature, ())], 3):
            read.append(chunk.number)
            yield chunk

    run = crew()(How(("csv",))).run(reading())
    first, _ = next(run)
    assert first.blocks == ()
    assert len(read) <= 2 + 2
    run.close()
    assert len(read) <= 2 + 2


def test_a_job_that_is_complete_needs_no_cluster(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(crew()(How(("csv",))).run(iter(()))) == []


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_errors_are_those_of_a_job_without_a_cluster(monkeypatch, rows, tmp_path, on_error):
    ray = install(monkeypatch)
    rows.write_text(rows.read_text().replace("\n40,", "\nx,"))
    found = []
    for made in (None, crew()):
        out = tmp_path / f"{made is None}.csv"
        try:
            options = {"crew": made, "chunk_rows": 3, "on_error": on_error}
            summary = predict_files(Model("ab"), [str(rows)], str(out), **options)
            found.append((summary.rows, summary.errors, out.read_bytes()))
        except InvalidInput as e:
            found.append((str(e), e.row, e.column))
    assert found[0] == found[1]
    assert found[0][:2] == ((ROWS - 1, 1) if on_error == "skip" else (found[0][0], 40))
    assert len(ray.actors) == 2


def test_lines_are_told_of_files_that_workers_do_not_have(rows, monkeypatch):
    (chunk, *_) = chunks_of([open_source(str(rows), Model("ab").signature, ())], 3)
    sent = pickle.loads(pickle.dumps(ray_actor.without_sources(chunk)))
    rows.unlink()
    assert sent.blocks[0].parse().count == chunk.blocks[0].parse().count
    assert str(rows.parent).encode() not in pickle.dumps(ray_actor.without_sources(chunk).blocks)
    again = ray_actor.restored(sent, ray_actor.sources_of(chunk))
    assert [b.source for b in again.blocks] == [b.source for b in chunk.blocks]


def test_a_fault_of_reading_comes_behind_the_rows_before_it(monkeypatch, rows):
    install(monkeypatch)

    def reading():
        chunks = chunks_of([open_source(str(rows), Model("ab").signature, ())], 3)
        yield next(chunks)
        yield next(chunks)
        raise MachineError("the disk is gone")

    run = crew()(How(("csv",))).run(reading())
    assert sorted(next(run)[0].number for _ in range(2)) == [0, 1]
    with pytest.raises(MachineError, match="the disk is gone"):
        next(run)


def test_a_worker_with_another_version_is_refused(monkeypatch, rows, tmp_path):
    install(monkeypatch)
    found = iter(["1.31.0", "1.30.0"])  # here, and there
    monkeypatch.setattr(ray_actor, "_version_of", lambda name: next(found) if name == "onnxruntime" else "1")
    with pytest.raises(ConfigError, match=r"^--on: a worker has onnxruntime 1.30.0, expected 1.31.0 as it is here"):
        score(rows, tmp_path / "o.csv")


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (RuntimeMissing("xgboost is not installed"), RuntimeMissing, "^xgboost is not installed$"),
        (
            ImportError("no module foretell"),
            ConfigError,
            r"^--on: a worker cannot load the model \(ImportError: no mod",
        ),
    ],
)
def test_a_worker_that_cannot_load_the_model_says_why(monkeypatch, rows, tmp_path, error, raised, message):
    install(monkeypatch)

    def fails(*_):
        raise error

    monkeypatch.setattr(Shipped, "load", fails)
    with pytest.raises(raised, match=message):
        score(rows, tmp_path / "o.csv")


@pytest.mark.parametrize(
    "address", ["ray", "auto", "head:10001", "192.168.0.1:6379", "ray://head:10001", "ray://[::1]:1"]
)
def test_addresses(monkeypatch, address):
    install(monkeypatch)
    ray_cluster.check(address)


@pytest.mark.parametrize("address", ["", "head", "ray://", "ray://head", "http://head:10001", "local", "a b:1"])
def test_what_is_no_address(monkeypatch, address):
    install(monkeypatch)
    with pytest.raises(ConfigError, match=r'^--on ".*": expected "ray", "auto", HOST:PORT'):
        ray_cluster.check(address)


@pytest.mark.parametrize(("address", "raised"), [("ray", MachineError), ("ray://head:1", ConfigError)])
def test_a_cluster_that_cannot_be_joined(monkeypatch, address, raised):
    ray = install(monkeypatch)
    ray.is_initialized = lambda: False

    def init(**_):
        signal.signal(signal.SIGTERM, lambda *_: None)
        raise Exception("a trace\nThe current node timed out during startup.")

    ray.init, ray.shutdown = init, lambda: None
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(raised, match=r"^--on .*\(The current node timed out during startup.\)"):
        ray_cluster.joined(address, 1).__enter__()
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_stays_ours(monkeypatch):
    ray = install(monkeypatch)
    ray.is_initialized = lambda: False
    ended = []
    ray.shutdown = lambda: ended.append(True)
    ray.init = lambda **_: signal.signal(signal.SIGTERM, lambda *_: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with ray_cluster.joined("ray", 3) as count:
            assert (count, signal.getsignal(signal.SIGTERM), ended) == (3, before, [])
        assert ended == [True]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_ray(monkeypatch, rows):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeMissing, match=r"^--on: Ray is not installed; pip install 'foretell\[ray\]'"):
        crew_on("ray", Model("ab"), rows)


def test_a_pipe_is_no_work_for_a_cluster(monkeypatch, rows):
    install(monkeypatch)
    with pytest.raises(ConfigError, match=r"^--on: only rows of files, into files"):
        predict_files(Model("ab"), [str(rows)], None, crew=crew())


def test_the_cluster_has_no_processor(monkeypatch, rows, tmp_path):
    install(monkeypatch, processors=0)
    with pytest.raises(ConfigError, match="the cluster has no processor"):
        score(rows, tmp_path / "o.csv", crew=crew(workers=None))
