"""Two classes of requests: what do interactive ones notice of bulk ones that take all the rest?

python benchmarks/overload_priorities.py [--seconds S]

The model, the cores and the generator of `overload.py`. Interactive requests are offered at 30 % of the capacity with a
deadline of 200 ms, first alone, then beside bulk requests at twice the capacity with a deadline of 2 s; in turn.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import uvloop
from common import DATA, heading, median, verdict
from open_loop import Generator, Outcomes, arrivals
from overload import Load
from overload_servers import Line, Running, running
from slow_model import fitted

_INTERACTIVE = Line("interactive", "foretell", headers="x-request-timeout-ms: 200\r\n")
_BULK = Line("bulk", "foretell", headers="x-request-timeout-ms: 2000\r\nx-request-priority: bulk\r\n")
_WITHIN_S = 0.2
_TURNS = 3


async def measure(server: Running, load: Load, capacity: float, seconds: float) -> list[tuple[Outcomes, Outcomes]]:
    """Return the interactive requests' outcomes, alone and beside bulk, turn by turn."""
    interactive, bulk = (
        Generator(server.port, load.requests(line.path, line.headers), load.check, connections)
        for line, connections in ((_INTERACTIVE, 64), (_BULK, 448))
    )
    await interactive.open()
    await bulk.open()
    await interactive.run(arrivals([(100, 2.0)], seed=99))
    turns = []
    for turn in range(_TURNS):
        at = arrivals([(0.3 * capacity, seconds)], seed=turn)
        alone = await interactive.run(at)
        beside, behind = await asyncio.gather(
            interactive.run(at), bulk.run(arrivals([(2.0 * capacity, seconds)], seed=100 + turn))
        )
        _print_turn(alone, beside, behind)
        turns.append((alone, beside))
        await asyncio.sleep(0.5)
    await interactive.close()
    await bulk.close()
    return turns


def _print_turn(alone: Outcomes, beside: Outcomes, bulk: Outcomes) -> None:
    for name, found in (("alone", alone), ("beside bulk", beside), ("bulk", bulk)):
        answered, refused = found.status == 200, found.rate(found.refused())
        meanwhile = answered & (found.at + found.latency <= found.seconds)
        p50_ms, p99_ms = (found.percentile_ms(answered, percent) for percent in (50, 99))
        print(f"{name:<12}{found.rate(meanwhile):5.0f}/s  p50 {p50_ms:7.1f} ms  p99 {p99_ms:7.1f} ms"
              f"  refused {refused:4.0f}/s", flush=True)  # fmt: skip


def main() -> bool:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="of each part of a turn")
    args = parser.parse_args()
    heading("Two priorities")
    server_core, *others = sorted(os.sched_getaffinity(0))
    DATA.mkdir(exist_ok=True)
    model: Path = DATA / "slow.onnx"
    capacity = 0.85 / min(fitted(model, server_core).values())  # the front takes its share of the core
    os.sched_setaffinity(0, others or {server_core})
    load = Load(model)
    with running(_INTERACTIVE, model, server_core, load.bodies[0]) as server:
        turns = uvloop.run(measure(server, load, capacity, args.seconds))
    p99 = [[o.percentile_ms(o.status == 200, 99) for o in turn] for turn in turns]
    in_time = float(np.mean([beside.in_time(_WITHIN_S).mean() for _, beside in turns]))
    return all(
        [
            verdict("p99 of interactive beside bulk, times alone", median([b / a for a, b in p99]), 3.0, at_most=True),
            verdict("share of interactive in time beside bulk", in_time, 0.99),
        ]
    )


if __name__ == "__main__":
    sys.exit(not main())
