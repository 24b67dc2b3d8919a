"""Every answer encodes its question: many clients, four doors, workers that are killed, clients that hang up.

Nobody who stays may get a wrong answer, none, two, or an error.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from pathlib import Path

import pytest

pytest.importorskip("onnx")
grpc = pytest.importorskip("grpc")
HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from echo_client import Score, ask_http, write_models  # noqa: E402
from echo_client_grpc import ask_grpc, ask_stream  # noqa: E402
from served_process import serving, strike, until  # noqa: E402

sys.path.remove(HERE)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
LEAVING = 0.04


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("echo")
    write_models(folder)
    return folder


async def everybody(score, served, count, connections):
    """Ask `count` questions, each door its share, through all of them at once."""
    json, binary, grpcs, stream = (deque(range(first, count, 10)) for first in range(4))
    for first in range(4, 10):
        (json, json, binary, binary, grpcs, grpcs)[first - 4].extend(range(first, count, 10))
    address = f"127.0.0.1:{served.grpc_port}"
    async with grpc.aio.insecure_channel(address) as one, grpc.aio.insecure_channel(address) as other:
        tasks = [ask_http(score, "json", served.port, json, seed) for seed in range(connections)]
        tasks += [ask_http(score, "binary", served.port, binary, 100 + seed) for seed in range(connections)]
        tasks += [ask_grpc(score, (one, other)[seed % 2], grpcs, 200 + seed, LEAVING) for seed in range(connections)]
        tasks += [ask_stream(score, (one, other)[seed % 2], stream, 300 + seed, LEAVING) for seed in range(4)]
        await asyncio.gather(*tasks)


async def chaos(served, struck, every_s, stopping, seed=0):
    """Strike at random, workers that are loading too, as long as each model has one that is ready.

    Whoever kills every worker before it has loaded takes the server down, and then it says so.
    """
    dice = random.Random(seed)
    while True:
        await asyncio.sleep(dice.uniform(*every_s))
        ready = await asyncio.to_thread(served.counters)
        if min(v for k, v in ready.items() if k.startswith("foretell_instances_ready")) > 0:
            struck[strike(served, dice, stopping)] += 1


def run(models, count, connections, every_s, stopping):
    """Return the score, and the signals sent."""
    score, struck = Score(), Counter()
    paths = [models / "echo.onnx", models / "words.onnx"]
    with serving(*paths, "--instances", 2, "--max-batch-size", 32) as served:
        until(lambda: served.sum_of("foretell_instances_ready") == 4)
        held = served.belongings()

        async def main():
            killer = asyncio.ensure_future(chaos(served, struck, every_s, stopping))
            await everybody(score, served, count, connections)
            killer.cancel()

        asyncio.run(main())
        for pid in served.workers():  # one that stands still and has nothing to do is not missed
            os.kill(pid, signal.SIGCONT)
        # Nothing is left over: nobody waits any more, and both models are whole again.
        until(lambda: served.sum_of("foretell_in_flight_requests") == 0)
        until(lambda: served.sum_of("foretell_instances_ready") == 4)
        ended = {reason: served.sum_of("foretell_worker_restarts_total", f'"{reason}"') for reason in ("died", "hung")}
        answered = served.sum_of("foretell_requests_total", '"ok"')
        outcomes = {k: v for k, v in served.counters().items() if k.startswith("foretell_requests_total")}
        ready = served.ask("/v2/health/ready")
        until(lambda: served.sum_of("foretell_connections") <= 2)
        holds = served.belongings()
        print(f"\ndescriptors, shared memories, threads, KiB: {held}, then {holds}")
        print(f"{score}\nsignals {dict(struck)}, workers replaced {ended}, server: {outcomes}")
        score.assert_clean()
        assert sum(score.right.values()) + sum(score.gone.values()) == count
        assert set(score.right) == {"json", "binary", "grpc", "stream"}
        assert len(score.gone) == 4
        # The server counts what it answered: everybody who stayed, and of those who left some.
        assert sum(score.right.values()) <= answered <= count
        assert all('"ok"' in k or '"cancelled"' in k or v == 0 for k, v in outcomes.items())
        assert ready[0] == 200
        assert holds[0] <= held[0] + 4  # connections that are just being closed
        assert holds[1] == held[1]
        assert holds[2] <= held[2] + 6
        assert holds[3] <= held[3] + 48 * 1024
        assert served.end() == 0
    return struck, ended


def test_a_nonce_comes_back(models):
    struck, ended = run(models, 3_000, 8, (0.1, 0.5), 0.2)
    assert struck["SIGKILL"] >= 2
    assert ended["died"] >= 1


@pytest.mark.slow
def test_a_hundred_thousand_nonces_come_back(models):
    struck, ended = run(models, 100_000, 24, (0.1, 1.5), 0.2)
    assert struck["SIGKILL"] >= 20
    assert struck["SIGSTOP"] >= 5
    assert ended["died"] >= 20
    assert ended["hung"] >= 1


@pytest.mark.slow
def test_large_tensors_come_back(models):
    """Of up to 640 KiB each, through the memory that is shared with the workers, copied by threads."""
    score, struck = Score(), Counter()
    # Some hundred large requests at once want a quarter of a second: more than callers who say nothing are given.
    with serving(models / "wide.onnx", "--instances", 2, "--default-timeout", 30) as served:
        held = served.belongings()

        async def main():
            killer = asyncio.ensure_future(chaos(served, struck, (0.05, 0.4), 0.1))
            numbers = deque(range(4_000))
            asking = (ask_http(score, "binary", served.port, numbers, n, models=("wide",)) for n in range(12))
            await asyncio.gather(*asking)
            killer.cancel()

        asyncio.run(main())
        for pid in served.workers():
            os.kill(pid, signal.SIGCONT)
        until(lambda: served.sum_of("foretell_in_flight_requests") == 0)
        until(lambda: served.sum_of("foretell_instances_ready") == 2)
        time.sleep(1)  # shared memory that was not used for a while is given back
        holds = served.belongings()
        print(f"\n{score}\nsignals {dict(struck)}; descriptors, shared memories, threads, KiB: {held}, then {holds}")
        score.assert_clean()
        assert sum(score.right.values()) + sum(score.gone.values()) == 4_000
        assert struck["SIGKILL"] >= 3
        assert holds[0] <= held[0] + 4
        assert holds[1] == held[1]
        assert holds[3] <= held[3] + 192 * 1024
        assert served.end() == 0
