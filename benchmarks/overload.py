"""More requests than a server can answer: how many does it still answer in time?

python benchmarks/overload.py [--seconds S] [--plot FILE] [--only WORD]

A model of 1.75 ms a row whatever the batch, one row of JSON a request, open-loop Poisson arrivals on at most 512
connections. All of a server runs on one core, the generator on another. An answer counts that comes within 200 ms
of the instant at which its request was to leave. After the largest load half the capacity is offered at once: how
long until answers are in time again?
"""

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import uvloop
from common import DATA, heading, session, verdict
from open_loop import Generator, Outcomes, arrivals
from overload_plot import plot
from overload_servers import LINES, Line, Running, running
from slow_model import fitted

OFFERED = (100, 300, 450, 550, 1100, 2750, 5500)
WITHIN_S = 0.2
_HALF = 225
"""Requests a second after the overload: half of what the server can do."""
_CALM_S = 3.0
_COLUMNS = "offered/s  in time/s   late  refused/s  too late/s  errors   p50 ms   p99 ms  refused p99 ms"


class Load:
    """The requests, and what they must be answered."""

    def __init__(self, model: Path, count: int = 64) -> None:
        self.rows = np.random.default_rng(2).normal(size=(count, 30)).round(4)
        (self.expected,) = session(model.read_bytes(), 1).run(None, {"input": self.rows.astype(np.float32)})
        self.bodies = [
            orjson.dumps({"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": row}]})
            for row in self.rows.tolist()
        ]

    def requests(self, path: str, headers: str = "") -> list[bytes]:
        """Return whole requests, one for each row."""
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}"
        return [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in self.bodies]

    def check(self, index: int, body: bytes) -> bool:
        """Return whether an answer is that of its row."""
        first, second = orjson.loads(body)["outputs"][0]["data"]
        expected = self.expected[index]
        return abs(first - expected[0]) + abs(second - expected[1]) < 1e-4


@dataclass
class Result:
    """What was measured of one line."""

    in_time: list[float] = field(default_factory=list)
    """Answers in time per second, for each load."""
    refused_p99_ms: float = 0.0
    """The longest of the overloads."""
    normal_s: float = _CALM_S
    before_bytes: int = 0
    peak_bytes: int = 0


async def measure(line: Line, server: Running, load: Load, seconds: float) -> Result:
    """Offer every load in turn, print a row for each, then look at the way back to normal."""
    generator = Generator(server.port, load.requests(line.path, line.headers), load.check)
    await generator.open()
    print(f"\n### {line.name}\n\n{_COLUMNS}")
    await generator.run(arrivals([(200, 2.0)], seed=99))  # the first seconds of a process are nobody's measure
    result = Result(before_bytes=server.resident_bytes())
    with server.watched():
        for seed, rate in enumerate(OFFERED):
            calm = [(_HALF, _CALM_S)] if rate == OFFERED[-1] else []
            found = await generator.run(arrivals([(rate, seconds), *calm], seed), give_up_at_s=seconds)
            _enter(result, rate, found.between(0.0, seconds))
            await asyncio.sleep(0.3)
    await generator.close()
    result.normal_s, result.peak_bytes = normal_after_s(found, seconds), server.peak_bytes
    print(f"normal again {result.normal_s:.2f} s after the overload, at {_HALF}/s")
    print(f"resident memory of all its processes: {result.before_bytes >> 20} MiB before, "
          f"{result.peak_bytes >> 20} at most, {server.resident_bytes() >> 20} after", flush=True)  # fmt: skip
    return result


def _enter(result: Result, rate: int, found: Outcomes) -> None:
    in_time, refused, status = found.in_time(WITHIN_S), found.refused(), found.status
    answered = status == 200
    result.in_time.append(found.rate(in_time))
    p99_ms = found.percentile_ms(refused, 99)
    if rate > OFFERED[3]:
        result.refused_p99_ms = max(result.refused_p99_ms, p99_ms)
    print(f"{rate:9d}  {found.rate(in_time):9.0f}  {found.rate(answered & ~in_time):5.0f}  {found.rate(refused):9.0f}"
          f"  {found.rate((status == 504) | (status == 408)):10.0f}  {found.rate(found.failed()):6.0f}"
          f"  {found.percentile_ms(answered, 50):7.1f}  {found.percentile_ms(answered, 99):7.1f}"
          f"  {p99_ms:14.1f}", flush=True)  # fmt: skip


def normal_after_s(found: Outcomes, over_s: float) -> float:
    """Return the seconds after `over_s` from which on 98 of 100 requests of every half second are in time."""
    normal = _CALM_S
    for start in np.arange(_CALM_S - 0.5, -0.01, -0.05):
        window = found.between(over_s + start, over_s + start + 0.5)
        if len(window.at) and window.in_time(WITHIN_S).mean() < 0.98:
            break
        normal = max(0.0, float(start))
    return normal


def judge(name: str, result: Result) -> list[bool]:
    """Print and return what a line of Foretell must reach."""
    print(f"\n{name}")
    peak, rates = max(result.in_time), dict(zip(OFFERED, result.in_time, strict=True))
    return [
        verdict("share of its peak at 2 times its capacity", rates[1100] / peak, 0.9),
        verdict("share of its peak at 5 times", rates[2750] / peak, 0.9),
        verdict("share of its peak at 10 times", rates[5500] / peak, 0.8),
        verdict("p99 ms of refusals", result.refused_p99_ms, 20.0, at_most=True),
        verdict("seconds until normal", result.normal_s, 1.0, at_most=True),
        verdict("memory at most, times before", result.peak_bytes / result.before_bytes, 1.5, at_most=True),
    ]


def main() -> bool:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--plot", type=Path, help="write a picture: .svg or .png")
    parser.add_argument("--only", default="", help="only lines with this in their name")
    args = parser.parse_args()
    heading("Overload")
    server_core, *others = sorted(os.sched_getaffinity(0))
    DATA.mkdir(exist_ok=True)
    model = DATA / "slow.onnx"
    costs = fitted(model, server_core)
    capacity = 1.0 / min(costs.values())
    print(", ".join(f"a row in batches of {rows}: {s * 1e3:.2f} ms" for rows, s in costs.items()),
          f"- the model alone: {capacity:.0f} rows/s")  # fmt: skip
    os.sched_setaffinity(0, others or {server_core})
    load, results = Load(model), {}
    for line in LINES:
        if args.only in line.name:
            with running(line, model, server_core, load.bodies[0]) as server:
                results[line.name] = uvloop.run(measure(line, server, load, args.seconds))
    if args.plot:
        plot(args.plot, OFFERED, {name: result.in_time for name, result in results.items()}, capacity)
    return all([all(judge(line.name, results[line.name])) for line in LINES if line.is_judged and line.name in results])


if __name__ == "__main__":
    sys.exit(not main())
