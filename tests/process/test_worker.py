"""Real workers: their answers, their ends, and what is left behind."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from foretell.engine.worker import slots
from foretell.engine.worker.local import start_local_instance
from foretell.engine.worker.start import best_transport, start_process_instance
from foretell.errors import (
    ArtifactInvalid,
    InferenceFailed,
    InternalError,
    InvalidOutput,
    LoadError,
    MachineError,
    OutOfMemory,
    RequestTooLarge,
)

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
wm = import_module("worker_models")
sys.path.remove(HERE)

TRANSPORTS = ["packets", "stream"] if slots.offered() and sys.platform == "linux" else ["stream"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Caller:
    """Sets the callbacks of an instance and keeps what they report."""

    def __init__(self, instance):
        self.instance, self.answers, self.errors, self.deaths, self.jobs = instance, {}, {}, [], 0
        instance.on_answer = lambda i, job, outputs, ns: self.answers.setdefault(job, []).append(outputs)
        instance.on_error = lambda i, job, error: self.errors.setdefault(job, []).append(error)
        instance.on_death = lambda i, reason: self.deaths.append(reason)

    def send(self, **inputs):
        self.jobs += 1
        self.instance.send(self.jobs, inputs, len(next(iter(inputs.values()))))
        return self.jobs

    def tell(self, what, much=0.0):
        return self.send(x=np.array([[what, much]], np.float32))

    async def settled(self):
        await until(lambda: self.deaths or len(self.answers) + len(self.errors) == self.jobs)
        assert all(len(found) == 1 for found in (*self.answers.values(), *self.errors.values()))

    async def ask(self, **inputs):
        job = self.send(**inputs)
        await until(lambda: job in self.answers or job in self.errors or self.deaths)
        if job in self.errors:
            raise self.errors[job][0]
        return self.answers[job][0]


async def until(true, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.002)


def alive(pid):
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(autouse=True)
def models(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture(params=[*TRANSPORTS, "local"])
def anywhere(request, tmp_path):
    return starter(request.param, tmp_path)


@pytest.fixture(params=TRANSPORTS)
def start(request, tmp_path):
    return starter(request.param, tmp_path)


def starter(where, folder):
    @contextlib.asynccontextmanager
    async def begin(model, **settings):
        if where == "local":
            instance, hello = await start_local_instance(folder, loader=f"worker_models:{model}", **settings)
        else:
            loader = f"worker_models:{model}"
            instance, hello = await start_process_instance(folder, loader=loader, transport=where, **settings)
        try:
            yield Caller(instance), hello
        finally:
            instance.kill()
            if where != "local":
                await instance.ended()

    return begin


def test_answers_of_any_size(anywhere):
    async def main():
        async with anywhere("twice") as (caller, _):
            random = np.random.default_rng(0)
            for shape in [(1, 30), (64, 30), (0, 3), (3, 0), (256, 64), (257, 64), (1000, 500), (4000, 2000)]:
                x = random.random(shape, np.float32)
                (y,) = await caller.ask(x=x)
                assert np.array_equal(y, x * 2)
                assert y.base is None or y.flags.owndata or not np.shares_memory(x, y)
            assert (caller.instance.in_flight, caller.deaths) == (0, [])

    asyncio.run(main())


def test_every_datatype(anywhere):
    async def main():
        async with anywhere("kinds") as (caller, _):
            texts = np.array([["a", b"\xff"], [None, "é\ud800"], ["", "x" * 70_000]], object)
            sent = {
                "f": np.array([[1, np.nan], [-np.inf, -0.0], [5e-324, 2]]), "t": texts,
                "h": np.ones((3, 2), np.float16),
                "i": np.arange(6, dtype=np.int8).reshape(3, 2), "b": np.array([[True, False]] * 3),
            }  # fmt: skip
            found = await caller.ask(**sent)
            for name, got in zip("htbif", found, strict=True):
                assert got.dtype == sent[name].dtype
                assert got.tolist() == sent[name].tolist() or got.tobytes() == sent[name].tobytes()

    asyncio.run(main())


def test_many_large_batches_at_once(start):
    async def main():
        async with start("twice") as (caller, _):
            sent = {caller.send(x=np.full((700, 1000), n, np.float32)): n for n in range(12)}
            sent |= {caller.send(x=np.full((2, 3), n, np.float32)): n for n in range(12, 24)}
            assert caller.instance.in_flight == 24
            await caller.settled()
            for job, n in sent.items():
                assert caller.answers[job][0][0].min() == caller.answers[job][0][0].max() == 2 * n

    asyncio.run(main())


def test_answers_outlive_the_worker(start):
    async def main():
        async with start("twice") as (caller, _):
            small, large = np.full((2, 3), 4, np.float32), np.full((500, 1000), 5, np.float32)
            (a,), (b,) = await caller.ask(x=small), await caller.ask(x=large)
            await caller.ask(x=np.full((2, 3), 9, np.float32))
            await caller.ask(x=np.full((500, 1000), 9, np.float32))
        assert a.min() == a.max() == 8
        assert b.min() == b.max() == 10

    asyncio.run(main())


@linux
def test_sending_to_a_worker_that_stands_still_does_not_block(start):
    async def main():
        async with start("twice") as (caller, _):
            os.kill(caller.instance.pid, signal.SIGSTOP)
            sent = {caller.send(x=np.full((100, 100), n, np.float32)): n for n in range(100)}
            await asyncio.sleep(0.05)
            assert caller.answers == {}
            os.kill(caller.instance.pid, signal.SIGCONT)
            await caller.settled()
            assert all(caller.answers[job][0][0][0, 0] == 2 * n for job, n in sent.items())

    asyncio.run(main())


def test_an_error_of_the_model_leaves_it_alive(anywhere):
    async def main():
        async with anywhere("wild") as (caller, _):
            raised, refused, short = caller.tell(wm.RAISE), caller.tell(wm.REFUSE), caller.tell(wm.SHORT)
            await caller.settled()
            assert type(caller.errors[raised][0]) is InferenceFailed
            assert str(caller.errors[refused][0]) == "made up: no"
            assert type(caller.errors[short][0]) is InvalidOutput
            assert (await caller.ask(x=np.zeros((1, 2), np.float32)))[0].shape == (1, 2)
            assert caller.instance.ready

    asyncio.run(main())


def test_an_error_crosses_in_one_line_and_without_a_traceback(start):
    async def main():
        async with start("wild") as (caller, _):
            job = caller.tell(wm.RAISE)
            await caller.settled()
            text = str(caller.errors[job][0])
            assert "\n" not in text
            assert text.startswith("KeyError")
            assert "Traceback" not in text
            assert ".py" not in text

    asyncio.run(main())


@pytest.mark.parametrize(
    ("what", "much", "reason"),
    [
        (wm.KILL_ITSELF, 0, "killed by SIGKILL"),
        (wm.SEGV, 0, "killed by SIGSEGV"),
        (wm.EXIT, 3, "ended with exit code 3"),
    ],
)
def test_a_death_is_reported_once_with_its_reason(start, what, much, reason):
    async def main():
        async with start("wild") as (caller, _):
            first = caller.tell(wm.TWICE)
            caller.tell(what, much)
            caller.tell(wm.TWICE)
            await until(lambda: caller.deaths)
            await caller.instance.ended()
            await asyncio.sleep(0.05)
            assert caller.deaths == [reason]
            assert list(caller.answers) == [first]
            assert not caller.instance.ready
            with pytest.raises(InternalError):
                caller.tell(wm.TWICE)
        assert not alive(caller.instance.pid)

    asyncio.run(main())


def test_a_kill_from_outside_in_the_middle_of_a_batch(start):
    async def main():
        async with start("wild") as (caller, _):
            caller.tell(wm.SLEEP, 60)
            await asyncio.sleep(0.02)
            os.kill(caller.instance.pid, signal.SIGKILL)
            await until(lambda: caller.deaths)
            assert caller.deaths == ["killed by SIGKILL"]

    asyncio.run(main())


@pytest.mark.parametrize("stopped", [False, True])
def test_the_caller_can_kill_one_that_hangs(start, stopped):
    async def main():
        async with start("wild") as (caller, _):
            caller.tell(wm.SLEEP, 60)
            await asyncio.sleep(0.02)
            if stopped:
                os.kill(caller.instance.pid, signal.SIGSTOP)
            caller.instance.kill()
            caller.instance.kill()
            await asyncio.wait_for(caller.instance.ended(), 30)
            assert (caller.answers, caller.errors, caller.deaths) == ({}, {}, [])
        assert not alive(caller.instance.pid)

    asyncio.run(main())


@pytest.mark.parametrize("which", range(9))
def test_a_worker_that_lies_is_ended(start, which):
    async def main():
        async with start("wild") as (caller, _):
            caller.tell(wm.LIE, which)
            await until(lambda: caller.deaths)
            assert len(caller.deaths) == 1
            assert caller.deaths[0].startswith("broke the protocol")
            assert caller.answers == {}

    asyncio.run(main())


@linux
def test_a_batch_beyond_the_memory_fails_alone(start):
    async def main():
        async with start("wild", memory_bytes=1 << 29) as (caller, hello):
            assert str(1 << 29) in hello.sandbox["limits"]
            job = caller.tell(wm.ALLOCATE, 1024)
            await caller.settled()
            assert type(caller.errors[job][0]) is OutOfMemory
            assert caller.tell(wm.TWICE)
            await caller.settled()
            assert len(caller.answers) == 1

    asyncio.run(main())


@linux
def test_one_that_outgrows_its_memory_is_ended(start):
    async def main():
        async with start("wild", memory_bytes=1 << 28) as (caller, _):
            caller.tell(wm.SHARE, 300)  # memory that no limit of the kernel counts
            await until(lambda: caller.deaths)
            assert caller.deaths[0].startswith("out of memory: ")
            assert caller.deaths[0].endswith("limit 256 MiB")

    asyncio.run(main())


@linux
def test_it_ends_with_the_front(tmp_path):
    script = """
        import asyncio, sys
        from foretell.engine.worker.start import start_process_instance
        import numpy as np
        async def main():
            instance, _ = await start_process_instance(sys.argv[1], loader="worker_models:wild")
            instance.send(1, {"x": np.array([[1, 600]], np.float32)}, 1)
            print(instance.pid, flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    path = os.pathsep.join([HERE, *(p for p in sys.path if p)])
    front = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with front:
        pid = int(front.stdout.readline())
        assert alive(pid)
        front.kill()
    asyncio.run(until(lambda: not alive(pid)))


def test_stop_waits_for_what_is_in_flight(anywhere):
    async def main():
        async with anywhere("wild") as (caller, _):
            for _ in range(3):
                caller.tell(wm.SLEEP, 0.05)
            await caller.instance.stop()
            assert len(caller.answers) == 3
            assert caller.deaths == []
            assert not caller.instance.ready

    asyncio.run(main())


def test_stop_does_not_wait_for_ever(start):
    async def main():
        async with start("wild") as (caller, _):
            caller.tell(wm.SLEEP, 600)
            await caller.instance.stop(timeout_s=0.05)
            assert (caller.answers, caller.deaths) == ({}, [])
        assert not alive(caller.instance.pid)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("model", "kind", "text"),
    [
        ("damaged", ArtifactInvalid, "made up: damaged"),
        ("buggy", LoadError, "ValueError: a message of many lines"),
        ("failing", LoadError, "warm-up failed: fake runtime: told to fail"),
        ("no_such_loader", LoadError, "AttributeError"),
    ],
)
def test_what_cannot_be_loaded_says_why(anywhere, model, kind, text):
    async def main():
        with pytest.raises(kind) as caught:
            async with anywhere(model):
                pass
        assert text in " ".join(str(caught.value).split())

    asyncio.run(main())


@linux
def test_one_that_ends_while_loading(start):
    before = _children()

    async def main():
        with pytest.raises(LoadError, match="killed by SIGKILL while loading"):
            async with start("killed"):
                pass
        with pytest.raises(LoadError, match="not loaded after"):
            async with start("endless", timeout_s=1.0):
                pass
        with pytest.raises(MachineError, match="memory"):
            async with start("greedy", memory_bytes=1 << 29):
                pass

    asyncio.run(main())
    assert not any(alive(pid) for pid in _children() - before)


def _children():
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


@linux
@pytest.mark.skipif(best_transport() != "packets", reason="needs shared memory")
def test_what_a_worker_can_reach(tmp_path):
    async def main():
        async with starter("packets", tmp_path)("curious") as (_, hello):
            return hello

    hello = asyncio.run(main())
    if not hello.sandbox["filesystem"].startswith("landlock") or hello.sandbox["processes"] != "seccomp":
        pytest.skip(f"this kernel offers less: {hello.sandbox}")
    said = hello.about["said"]
    assert said.pop("read") == "done"
    assert set(said.values()) == {"PermissionError"}
    assert len(said) == 6


def test_an_onnx_model_with_its_weights_in_another_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.from_array(np.arange(60, dtype=np.float32).reshape(30, 2), "w")
    tensors = [onnx.helper.make_tensor_value_info(n, 1, ["n", width]) for n, width in (("x", 30), ("y", 2))]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)

    async def main():
        instance, hello = await start_process_instance(path)
        caller = Caller(instance)
        (y,) = await caller.ask(x=np.ones((2, 30), np.float32))
        assert y.tolist() == [[870.0, 900.0]] * 2
        assert [spec.name for spec in hello.signature.inputs] == ["x"]
        assert hello.task.name
        await instance.stop()

    asyncio.run(main())


@linux
def test_nothing_of_the_fronts_environment_gets_in(start, monkeypatch):
    monkeypatch.setenv("MADE_UP_SECRET", "key")

    async def main():
        async with start("twice", threads=1) as (_, hello):
            return hello

    hello = asyncio.run(main())
    assert "MADE_UP_SECRET" not in hello.about["environment"]
    assert "OMP_NUM_THREADS" in hello.about["environment"]
    assert hello.warmup_s > 0
    assert hello.about["resident_bytes"] > 1 << 20


def test_paces_come_with_the_hello(anywhere):
    async def main():
        async with anywhere("costly") as (_, hello):
            assert hello.paces[0][0] == 1
            assert hello.paces[0][1] >= 0.004
            assert [rows for rows, _ in hello.paces] == sorted({rows for rows, _ in hello.paces})

    asyncio.run(main())


def test_a_batch_beyond_a_slot_is_refused(tmp_path, monkeypatch):
    if "packets" not in TRANSPORTS:
        pytest.skip("needs shared memory")
    from foretell.engine.worker import flights

    monkeypatch.setattr(flights, "SLOT_BYTES", 1 << 20)

    async def main():
        async with starter("packets", tmp_path)("twice") as (caller, _):
            with pytest.raises(RequestTooLarge):
                await caller.ask(x=np.zeros((3, 1 << 20), np.float32))
            assert (await caller.ask(x=np.ones((1, 1), np.float32)))[0][0, 0] == 2

    asyncio.run(main())


def test_a_dear_model_inside_the_front_does_not_stop_the_loop(tmp_path):
    async def main():
        async with starter("local", tmp_path)("costly") as (caller, _):
            for _ in range(20):
                caller.tell(wm.TWICE)
            turns = 0
            while len(caller.answers) < 20:
                await asyncio.sleep(0)
                turns += 1
            assert turns > 100
            assert list(caller.answers) == list(range(1, 21))

    asyncio.run(main())


def belongings():
    maps = Path("/proc/self/maps").read_text().count("memfd:foretell")
    return len(os.listdir("/proc/self/fd")), maps, len(os.listdir("/proc/self/task"))


@linux
@pytest.mark.parametrize("trust", [False, True])
def test_nothing_is_left_behind(start, trust):
    async def main():
        pids = set()

        async def once():
            async with start("twice", trust=trust) as (caller, _):
                await caller.ask(x=np.ones((1, 3), np.float32))
                await caller.ask(x=np.ones((700, 1000), np.float32))
                pids.add(caller.instance.pid)

        await once()
        before = belongings()
        for _ in range(9):
            await once()
        assert belongings() == before
        assert len(pids) == 10
        assert not any(map(alive, pids))

    asyncio.run(main())


@linux
@pytest.mark.skipif("packets" not in TRANSPORTS, reason="needs shared memory")
def test_shared_memory_is_given_back_when_it_is_not_used(tmp_path):
    def shared_kib():
        (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssShmem")]
        return int(line.split()[1])

    async def main():
        async with starter("packets", tmp_path)("twice") as (caller, _):
            before = shared_kib()
            for _ in range(4):
                await caller.ask(x=np.ones((5000, 1000), np.float32))
            assert shared_kib() > before + 20_000
            await until(lambda: shared_kib() < before + 2_000)
            (y,) = await caller.ask(x=np.ones((5000, 1000), np.float32))
            assert y.min() == y.max() == 2

    asyncio.run(main())


@linux
def test_one_that_nobody_watches_any_more_is_reaped():
    async def abandon():
        instance, _ = await start_process_instance(HERE, loader="worker_models:twice")
        instance.kill()
        return instance.pid

    pid = asyncio.run(abandon())
    gc.collect()
    assert not Path(f"/proc/{pid}").exists()


def test_on_uvloop_too(start):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with start("wild") as (caller, _):
            assert (await caller.ask(x=np.zeros((3, 2), np.float32)))[0].shape == (3, 2)
            caller.tell(wm.KILL_ITSELF)
            await until(lambda: caller.deaths)
            assert caller.deaths == ["killed by SIGKILL"]

    uvloop.run(main())
