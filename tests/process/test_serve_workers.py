"""Workers of a running server that are killed, stand still, outgrow their memory or die of a row: who notices."""

import asyncio
import os
import random
import signal
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
import served_models as sm  # noqa: E402
from echo_client import Score, ask_http, write_models  # noqa: E402
from served_process import alive, serving, until  # noqa: E402

sys.path.remove(HERE)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
WILD = "/v2/models/wild/infer"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    write_models(folder)
    for name in ("words", "wide"):
        (folder / f"{name}.onnx").unlink()
    return folder


@pytest.fixture
def wild(tmp_path):
    """A file for a made-up model: what its first element asks for is what happens."""
    path = tmp_path / "wild.onnx"
    path.write_bytes(b"")
    return path


def row(what, much=0.0):
    return [float(what), float(much)]


def body(*rows):
    data = [value for r in rows for value in r]
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": data}]}


def under_load(served, disturb, count):
    """Ask `count` questions over 16 connections; meanwhile disturb the server, in a thread that sees what is left."""
    score, numbers = Score(), deque(range(count))

    async def main():
        disturbing = asyncio.ensure_future(asyncio.to_thread(disturb, numbers))
        await asyncio.gather(
            *(
                ask_http(score, ("json", "binary")[seed % 2], served.port, numbers, seed, leaving=0, models=("echo",))
                for seed in range(16)
            )
        )
        await disturbing

    asyncio.run(main())
    score.assert_clean()
    assert sum(score.right.values()) == count
    return score


@pytest.mark.parametrize(
    ("number", "why"), [pytest.param(signal.SIGKILL, "died", marks=pytest.mark.slow), (signal.SIGSTOP, "hung")]
)
def test_the_only_worker_is_struck_and_nobody_notices(models, number, why):
    with serving(models) as served:
        (pid,) = served.workers()
        took = []

        def strike(left):
            until(lambda: len(left) < 700)  # nobody notices a worker that stands still and has nothing to do
            os.kill(pid, number)
            took.append(until(lambda: served.sum_of("foretell_worker_restarts_total", f'"{why}"') == 1))
            took.append(until(lambda: served.sum_of("foretell_instances_ready") == 1))

        score = under_load(served, strike, 800)
        print(f"\n{number.name}: noticed after {took[0]:.2f} s, replaced {took[1]:.2f} s later; {score}")
        until(lambda: not alive(pid))
        assert served.workers() != [pid]
        assert len(served.workers()) == 1


def test_workers_that_keep_dying_are_told_of_and_come_back(models):
    with serving(models) as served:

        def is_down():
            for pid in served.workers():
                os.kill(pid, signal.SIGKILL)
            return served.ask("/v2/models/echo/ready")[0] == 503

        until(is_down)
        status, told = served.ask("/v2/models/echo/ready")
        assert (status, told["ready"], told["code"]) == (503, False, "model_not_ready")
        assert "SIGKILL" in told["error"]
        assert served.ask("/v2/health/ready")[0] == 503
        assert served.ask("/v2/health/live")[0] == 200
        until(lambda: served.ask("/v2/models/echo/ready")[0] == 200)
        under_load(served, lambda _: None, 100)


def write_greedy(path):
    """Write a model that takes 4 bytes of memory for each unit of the first number of a batch's rows."""
    one, zero = numpy_helper.from_array(np.array([1]), "one"), numpy_helper.from_array(np.array([0]), "zero")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], axes=[0], keepdims=0),
            helper.make_node("Cast", ["most"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Add", ["whole", "one"], ["length"]),
            helper.make_node("ConstantOfShape", ["length"], ["wide"], value=helper.make_tensor("v", 1, [1], [0.0])),
            helper.make_node("ReduceSum", ["wide", "zero"], ["nothing"], keepdims=1),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        "greedy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [one, zero],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_a_request_that_takes_too_much_memory_fails_alone(tmp_path):
    write_greedy(tmp_path / "greedy.onnx")
    with serving(tmp_path, "--worker-memory", 400) as served:
        (pid,) = served.workers()
        resident = served.belongings()[3]

        def ask(value):
            content = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}]}
            return value, *served.ask("/v2/models/greedy/infer", content)

        values = [250e6 if n % 10 == 5 else float(n) for n in range(60)]
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, values))
        for value, status, told in answers:
            if value > 1e6:
                assert (status, told["code"]) == (500, "out_of_memory"), told
                assert "memory" in told["error"]
            else:
                assert (status, told["outputs"][0]["data"]) == (200, [value])
        assert served.workers() == [pid]
        assert served.belongings()[3] < resident + 64_000


def test_a_row_that_kills_is_found_and_its_neighbours_are_answered(wild):
    with serving(wild, made_up="fragile") as served, ThreadPoolExecutor(40) as pool:
        before = served.pid, served.workers()
        asked = [[row(0, n)] for n in range(1, 31)]
        asked += [[row(0, 50 + n), row(sm.SEGV) if n == 1 else row(0, 60 + n), row(0, 70 + n)] for n in range(3)]
        random.Random(0).shuffle(asked)
        # Whatever waits while the first one sleeps shares the next batch.
        first = pool.submit(served.ask, WILD, body(row(sm.SLEEP, 0.7)))
        time.sleep(0.2)
        answers = list(pool.map(lambda rows: (rows, *served.ask(WILD, body(*rows))), asked))
        assert first.result()[0] == 200
        poisonous = body(*next(rows for rows in asked if row(sm.SEGV) in rows))
        for rows, status, told in answers:
            if row(sm.SEGV) in rows:
                assert (status, told["code"]) == (500, "worker_crashed")
            else:
                assert (status, told["outputs"][0]["data"]) == (200, [2 * v for r in rows for v in r])
        # In company it kills once more than alone: twice with its neighbours, then alone, then its row.
        died = served.sum_of("foretell_worker_restarts_total")
        assert died == 4
        # From now on the row is refused, in whatever company, without another death.
        for content in (poisonous, body(row(sm.SEGV)), body(row(0, 5), row(0, 6), row(sm.SEGV))):
            status, told = served.ask(WILD, content)
            assert (status, told["code"]) == (422, "quarantined")
        assert "row 2" in told["error"]
        assert served.ask(WILD, body(row(0, 5), row(0, 6)))[0] == 200
        assert served.sum_of("foretell_worker_restarts_total") == died
        assert (served.pid, served.workers()) != before
        assert served.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("what", "much", "why"), [(sm.HANG, 0, "hung"), (sm.SHARE, 400, "died")])
def test_a_row_that_hangs_or_outgrows_the_memory_costs_its_neighbours_only_time(wild, what, much, why):
    with (
        serving(wild, "--instances", 2, "--worker-memory", 300, made_up="fragile") as served,
        ThreadPoolExecutor(40) as pool,
    ):
        first = pool.submit(served.ask, WILD, body(row(sm.SLEEP, 0.5)))
        time.sleep(0.1)
        began = time.monotonic()
        guilty = pool.submit(served.ask, WILD, body(row(what, much)))
        neighbours = [pool.submit(served.ask, WILD, body(row(0, n))) for n in range(30)]
        for n, neighbour in enumerate(neighbours):
            status, told = neighbour.result()
            assert (status, told["outputs"][0]["data"]) == (200, [0, 2 * n])
        waited = time.monotonic() - began
        status, told = guilty.result()
        took = time.monotonic() - began
        ended = served.sum_of("foretell_worker_restarts_total", f'"{why}"')
        print(f"\nneighbours answered within {waited:.1f} s, {status} {told['code']} after {took:.1f} s, {ended} ended")
        assert (status, told["code"]) == (500, "worker_crashed")
        assert first.result()[0] == 200
        assert served.ask(WILD, body(row(what, much)))[1]["code"] == "quarantined"
        assert any("hung" in line if why == "hung" else "out of memory" in line for line in served.lines)


def test_workers_end_with_a_server_that_is_killed(models):
    with serving(models, "--instances", 2) as served:
        workers = served.workers()
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGSTOP)
        served.process.kill()
        served.process.wait()
        until(lambda: not any(map(alive, workers)))


def test_unloading_gives_everything_back(models):
    with serving(models, "--admin") as served:

        def cycle():
            (pid,) = served.workers()
            under_load(served, lambda _: None, 60)
            assert served.ask("/v2/repository/models/echo/unload", {})[0] == 200
            until(lambda: not alive(pid))
            assert served.workers() == []
            assert served.ask("/v2/models/echo/ready")[0] == 503
            time.sleep(0.1)  # the last connection is closed
            empty = served.belongings()
            assert served.ask("/v2/repository/models/echo/load", {})[0] == 200
            return empty

        first, *others = [cycle() for _ in range(3)]
        print(f"\nunloaded: descriptors, shared memories, threads, KiB: {first}, then {others}")
        assert first[1] == 0
        for found in others:
            assert all(now <= then + 1 for now, then in zip(found[:3], first[:3], strict=True))
            assert found[3] < first[3] + 4_000
