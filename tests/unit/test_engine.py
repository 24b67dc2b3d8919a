"""The engine over fake instances: what lies on disk, what is loaded, swapped, drained, and who is told what."""

import asyncio
import gc
import weakref

import numpy as np
import pytest

from foretell.engine.engine import Engine
from foretell.engine.fakes import FakeInstance
from foretell.engine.instance import Hello
from foretell.engine.lifecycle import State
from foretell.engine.limits import Limits
from foretell.engine.scan import scan
from foretell.errors import (
    ArtifactInvalid,
    ConfigError,
    DeadlineExceeded,
    InvalidInput,
    LoadError,
    ModelNotFound,
    ModelNotReady,
    ServerDraining,
)
from foretell.model.tasks.regression import Regression
from foretell.request import InferRequest
from foretell.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP64", (-1, 1)),), (TensorSpec("y", "FP64", (-1, 1)),))


class Workers:
    """Starts fake instances: each adds the number that its model's file holds. "broken" does not load."""

    def __init__(self, seconds=0.001):
        self.seconds = seconds
        self.all = []
        self.starts = []
        self.gate = None
        self.failures = 0

    async def __call__(self, path, *, trust, threads, memory_bytes):
        self.starts.append((path, trust, threads, memory_bytes))
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise LoadError("told to fail")
        text = (path if path.is_file() else next(path.iterdir())).read_text()
        if text == "broken":
            raise ArtifactInvalid(f'"{path.name}": broken')
        await asyncio.sleep(0)
        add = float(text)
        instance = FakeInstance(
            asyncio.get_running_loop(), lambda inputs: [inputs["x"] + add], lambda rows: self.seconds
        )
        self.all.append(instance)
        return instance, Hello(path.stem, SIGNATURE, Regression(), about={"format": "fake"}, paces=((1, self.seconds),))


def question(name, value=0.0, version="", **more):
    return InferRequest(name, version, "id", {"x": np.array([[value]])}, 1, **more)


async def value_of(engine, name, version="", **more):
    response = await engine.answer(question(name, 0.0, version, **more))
    return response.outputs[0][0, 0], response.version


def play(scenario, tmp_path, workers=None, **limits):
    """Run a coroutine function with an engine; nothing may be left over afterwards."""

    async def run():
        engine = Engine(workers or Workers(), limits=Limits(**limits), cores=2)
        try:
            await scenario(engine)
        finally:
            await engine.close()
            await asyncio.sleep(0.01)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left
        gc.collect()

    asyncio.run(run())


def write(folder, **models):
    for name, content in models.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".onnx").write_text(str(content))
    return folder


def test_what_lies_under_a_path(tmp_path):
    write(tmp_path, bare=1, versions__1__m=1, versions__10__m=1, versions__9__m=1, folder__m=1, versions__old__m=1)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.toml").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden.onnx").write_text("")
    (tmp_path / "data.csv").write_text("")
    found = scan([tmp_path])
    assert {name: list(versions) for name, versions in found.items()} == {
        "bare": ["1"],
        "bundle": ["1"],
        "folder": ["1"],
        "versions": ["1", "9", "10"],
    }
    assert scan([tmp_path / "bare.onnx"]) == {"bare": {"1": tmp_path / "bare.onnx"}}
    assert scan([tmp_path / "bundle"]) == {"bundle": {"1": tmp_path / "bundle"}}
    assert list(scan([tmp_path / "versions"])["versions"]) == ["1", "9", "10"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [(["missing"], "no such file"), (["empty"], "no model in it"), (["a.onnx", "b/a.onnx"], 'model "a": found twice')],
)
def test_paths_that_are_refused(tmp_path, paths, message):
    write(tmp_path, a=1, b__a=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        scan([tmp_path / path for path in paths])


def test_the_newest_version_answers_and_others_when_they_are_loaded(tmp_path):
    write(tmp_path, m__1__a=1, m__2__a=2, n=5)

    async def scenario(engine):
        await engine.start([tmp_path])
        assert engine.ready
        assert await value_of(engine, "m") == (2.0, "2")
        assert await value_of(engine, "n") == (5.0, "1")
        with pytest.raises(ModelNotReady, match='model "m" version 1: not ready, NEW'):
            await value_of(engine, "m", "1")
        await engine.load("m", "1")
        assert await value_of(engine, "m", "1") == (1.0, "1")
        assert await value_of(engine, "m") == (2.0, "2")
        assert [(s.name, s.version, s.state, s.is_default) for s in engine.index()] == [
            ("m", "1", State.READY, False),
            ("m", "2", State.READY, True),
            ("n", "1", State.READY, True),
        ]
        await engine.unload("m", "2")
        assert await value_of(engine, "m") == (1.0, "1")
        await engine.unload("m")
        with pytest.raises(ModelNotReady, match="UNLOADED"):
            await value_of(engine, "m")
        assert not engine.ready
        for name, version in (("x", ""), ("m", "3")):
            with pytest.raises(ModelNotFound):
                engine.model(name, version)

    play(scenario, tmp_path)


def test_a_model_that_does_not_load_leaves_the_others_alone(tmp_path):
    write(tmp_path, good=1, bad="broken")

    async def scenario(engine):
        await engine.start([tmp_path])
        assert not engine.ready
        assert await value_of(engine, "good") == (1.0, "1")
        assert engine.find("bad").state is State.FAILED
        with pytest.raises(ModelNotReady, match="broken"):
            engine.model("bad")
        with pytest.raises(ModelNotReady):
            assert engine.find("bad").signature
        (tmp_path / "bad.onnx").write_text("7")
        await engine.load("bad")
        assert await value_of(engine, "bad") == (7.0, "1")
        assert engine.ready

    play(scenario, tmp_path)


def test_a_reload_keeps_the_old_one_until_the_new_one_is_ready(tmp_path):
    write(tmp_path, m=1)
    workers = Workers(seconds=0.02)

    async def scenario(engine):
        await engine.start([tmp_path])
        (tmp_path / "m.onnx").write_text("2")
        workers.gate = asyncio.Event()
        loading = asyncio.create_task(engine.load("m"))
        await asyncio.sleep(0.01)
        assert await value_of(engine, "m") == (1.0, "1")
        assert engine.ready
        running = asyncio.create_task(value_of(engine, "m"))
        await asyncio.sleep(0)
        workers.gate.set()
        await loading
        assert await value_of(engine, "m") == (2.0, "1")
        assert await running == (1.0, "1")
        await asyncio.sleep(0.05)
        assert not workers.all[0].ready, "the old instance was given back"

    play(scenario, tmp_path, workers, instances=1)


def test_a_reload_that_fails_changes_nothing(tmp_path):
    write(tmp_path, m=1)

    async def scenario(engine):
        await engine.start([tmp_path])
        (tmp_path / "m.onnx").write_text("broken")
        with pytest.raises(ArtifactInvalid):
            await engine.load("m")
        assert await value_of(engine, "m") == (1.0, "1")
        assert engine.ready

    play(scenario, tmp_path)


def test_a_new_version_on_disk_is_loaded_and_becomes_the_default(tmp_path):
    write(tmp_path, m__1__a=1)

    async def scenario(engine):
        await engine.start([tmp_path])
        write(tmp_path, m__2__a=2, new=9)
        await engine.load("m")
        assert await value_of(engine, "m") == (2.0, "2")
        assert await value_of(engine, "m", "1") == (1.0, "1")
        await engine.load("new")
        assert await value_of(engine, "new") == (9.0, "1")

    play(scenario, tmp_path)


def test_swaps_under_load_lose_nothing(tmp_path):
    write(tmp_path, m=1)

    async def scenario(engine):
        await engine.start([tmp_path])
        stop, seen = False, []

        async def client():
            while not stop:
                seen.append((await value_of(engine, "m"))[0])

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for number in range(2, 12):
            (tmp_path / "m.onnx").write_text(str(number))
            await engine.load("m")
            await asyncio.sleep(0.005)
        stop = True
        await asyncio.gather(*clients)
        assert set(seen) == {float(n) for n in range(1, 12)}

    play(scenario, tmp_path)


def test_unloading_answers_what_is_in_flight_first(tmp_path):
    write(tmp_path, m=1)
    workers = Workers(seconds=0.03)

    async def scenario(engine):
        await engine.start([tmp_path])
        running = [asyncio.create_task(value_of(engine, "m")) for _ in range(5)]
        await asyncio.sleep(0)
        await engine.unload("m")
        assert [await task for task in running] == [(1.0, "1")] * 5
        assert not any(instance.ready for instance in workers.all)

    play(scenario, tmp_path, workers)


def test_unloading_leaves_nothing_behind(tmp_path):
    write(tmp_path, m=1)
    workers = Workers()

    async def scenario(engine):
        await engine.start([tmp_path])
        batchers = weakref.WeakSet()
        for _ in range(5):
            await value_of(engine, "m")
            batchers.add(engine.find("m")._batcher)
            workers.all.clear()
            await engine.unload("m")
            await engine.load("m")
        assert len(batchers) <= 1  # the last of them, until the next goes

    gc.disable()
    try:
        play(scenario, tmp_path, workers)
    finally:
        gc.enable()


def test_a_lease_holds_a_version(tmp_path):
    write(tmp_path, m=1)

    async def scenario(engine):
        await engine.start([tmp_path])
        results = []
        with engine.model("m").lease() as served:
            unloading = asyncio.create_task(engine.unload("m"))
            await asyncio.sleep(0.01)
            assert served.state is State.DRAINING
            assert not unloading.done()
            served.infer(question("m"), results.append)
            await asyncio.sleep(0.01)
            assert results[0].outputs[0][0, 0] == 1.0
        await unloading
        assert served.state is State.UNLOADED

    play(scenario, tmp_path)


def test_draining_answers_what_is_in_flight_and_refuses_the_rest(tmp_path):
    write(tmp_path, m=1)

    async def scenario(engine):
        await engine.start([tmp_path])
        running = asyncio.create_task(value_of(engine, "m"))
        await asyncio.sleep(0)
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        assert not engine.ready
        with pytest.raises(ServerDraining):
            await value_of(engine, "m")
        with pytest.raises(ServerDraining):
            engine.model("m")
        assert await draining is True
        assert await running == (1.0, "1")

    play(scenario, tmp_path, Workers(seconds=0.02))


def test_draining_ends_when_its_time_is_over(tmp_path):
    write(tmp_path, m=1)

    async def scenario(engine):
        await engine.start([tmp_path])
        running = asyncio.create_task(value_of(engine, "m"))
        await asyncio.sleep(0)
        assert await engine.drain(0.02) is False
        await engine.close()
        with pytest.raises(ServerDraining):
            await running

    play(scenario, tmp_path, Workers(seconds=60.0))


def test_refusals_come_before_infer_returns_and_answers_after(tmp_path):
    write(tmp_path, m=1)

    async def scenario(engine):
        await engine.start([tmp_path])
        results = []
        assert engine.infer(question("nobody"), results.append) is None
        assert isinstance(results.pop(), ModelNotFound)
        wrong = InferRequest("m", "", "id", {"x": np.zeros((1, 2))}, 1)
        assert engine.infer(wrong, results.append) is None
        assert isinstance(results.pop(), InvalidInput)
        late = question("m", deadline=engine.clock.now() - 1)
        assert engine.infer(late, results.append) is None
        assert isinstance(results.pop(), DeadlineExceeded)
        ticket = engine.infer(question("m"), results.append)
        assert ticket is not None
        assert results == []
        await asyncio.sleep(0.02)
        assert results[0].timing.total_ns >= results[0].timing.run_ns
        text = engine.metrics.render()
        assert 'foretell_requests_total{model="m",version="1",outcome="ok"} 1' in text
        assert 'foretell_refused_total{model="m",version="1",reason="invalid_input"} 1' in text
        assert 'foretell_refused_total{model="",version="",reason="model_not_found"} 1' in text
        assert "nobody" not in text

    play(scenario, tmp_path)


def test_a_cancelled_coroutine_cancels_its_request(tmp_path):
    write(tmp_path, m=1)
    workers = Workers(seconds=0.02)

    async def scenario(engine):
        await engine.start([tmp_path])
        first = asyncio.create_task(value_of(engine, "m"))
        await asyncio.sleep(0.005)
        task = asyncio.create_task(value_of(engine, "m"))
        await asyncio.sleep(0.005)
        assert engine.find("m").pending == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.find("m").pending == 1
        await first
        await asyncio.sleep(0.03)
        assert engine.find("m").statistics.cancel.count == 1
        assert len(workers.all[0].ran) == 1

    play(scenario, tmp_path, workers, batches_in_flight=1, instances=1)


def test_a_dead_instance_is_replaced_and_its_requests_are_answered(tmp_path):
    write(tmp_path, m=1)
    workers = Workers(seconds=0.01)

    async def scenario(engine):
        await engine.start([tmp_path])
        for _ in range(5):
            tasks = [asyncio.create_task(value_of(engine, "m")) for _ in range(4)]
            await asyncio.sleep(0.002)
            for instance in engine.find("m").instances:
                instance.die("killed by SIGKILL")
            assert [await task for task in tasks] == [(1.0, "1")] * 4
        assert len(workers.all) == 6
        assert engine.ready

    play(scenario, tmp_path, workers, instances=1)


def test_an_instance_that_never_comes_back_makes_the_model_not_ready(tmp_path):
    write(tmp_path, m=1)
    workers = Workers()

    async def scenario(engine):
        await engine.start([tmp_path])
        workers.failures = 4
        waiting = asyncio.create_task(value_of(engine, "m"))
        workers.all[0].die()
        with pytest.raises(ModelNotReady, match="told to fail"):
            await waiting
        assert not engine.ready
        with pytest.raises(ModelNotReady, match="keeps failing"):
            await value_of(engine, "m")
        async with asyncio.timeout(5):
            while not engine.ready:  # noqa: ASYNC110 - as a client would ask
                await asyncio.sleep(0.01)
        assert await value_of(engine, "m") == (1.0, "1")

    play(scenario, tmp_path, workers, instances=1)


def test_instances_are_counted_by_the_measured_cost(tmp_path):
    write(tmp_path, m=1)
    slow, quick = Workers(seconds=0.01), Workers(seconds=0.00001)

    async def two(engine):
        await engine.start([tmp_path])
        await asyncio.sleep(0.01)
        assert len(engine.find("m").instances) == 2

    async def one(engine):
        await engine.start([tmp_path])
        await asyncio.sleep(0.01)
        assert len(engine.find("m").instances) == 1

    play(two, tmp_path, slow)
    play(one, tmp_path, quick)
    assert {threads for _, _, threads, _ in slow.starts + quick.starts} == {1}


def test_a_start_that_takes_too_long_is_given_up(tmp_path):
    write(tmp_path, m=1)
    workers = Workers()

    async def scenario(engine):
        workers.gate = asyncio.Event()
        await engine.start([tmp_path])
        assert engine.find("m").state is State.FAILED
        assert "not ready after 0.02 s" in engine.find("m").reason

    play(scenario, tmp_path, workers, load_s=0.02)
