"""A real server offered far more than it can do, by the generator of the benchmark: everybody is answered, or told."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
from open_loop import Generator, arrivals  # noqa: E402
from overload import Load, normal_after_s  # noqa: E402
from overload_servers import LINES, running  # noqa: E402
from slow_model import graph  # noqa: E402

sys.path.remove(BENCHMARKS)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="pins processes to a core"),
]


@pytest.mark.parametrize("line", [line for line in LINES if line.is_judged], ids=lambda line: line.name)
def test_overload(line, tmp_path):
    model = tmp_path / "slow.onnx"
    model.write_bytes(graph(64))
    load = Load(model)

    async def main(server):
        generator = Generator(server.port, load.requests(line.path, line.headers), load.check, connections=256)
        await generator.open()
        found = await generator.run(arrivals([(3000, 2.0), (100, 3.0)], seed=1), give_up_at_s=2.0)
        await generator.close()
        return found

    core = min(os.sched_getaffinity(0))
    with running(line, model, core, load.bodies[0]) as server:
        found = asyncio.run(main(server))
        grown = server.resident_bytes()
    assert not found.failed().any()  # no wrong answer, no broken connection, no 500
    busy = found.between(0.0, 2.0)
    assert busy.rate(busy.status == 200) > 50
    assert busy.rate(busy.refused()) > 500
    assert normal_after_s(found, 2.0) < 3.0
    assert grown < 400 << 20
