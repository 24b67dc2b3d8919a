"""A job that a server predicts beside its callers: what do they notice, and what does the job get?

    python benchmarks/via.py [--rate N] [--rows N] [--seconds S] [--turns N]

XGBoost with 300 trees behind `foretell serve`. Callers send single rows at a rate far below what the server can answer,
at random instants, first alone, then beside `foretell predict --via`, whose processes and the generator share the
server's cores: the job is `nice`d, as one would on the machine of a service. Every answer is checked.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import models
import numpy as np
import orjson
import uvloop
from common import CORES, DATA, heading, verdict
from open_loop import Generator, Outcomes, arrivals
from scoring import answers, data
from serving.processes import free_port, started

import foretell

FORETELL = str(Path(sys.executable).with_name("foretell"))
OUT = DATA / "bulk" / "out"
_BEGUN_S = 3.0
"""After which a job is at work."""


class Load:
    """Requests of one row, and what they must be answered."""

    def __init__(self, model: Path, path: str, count: int = 64) -> None:
        rows = np.random.default_rng(2).normal(size=(count, 30)).round(4).astype(np.float32)
        with foretell.load(model) as loaded:
            self._expected = [p["probability"] for p in loaded.predict(rows).to_list()]
            names = [field.name for field in loaded.signature.fields]
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        self.requests = []
        for row in rows.tolist():
            body = orjson.dumps({"instances": [dict(zip(names, row, strict=True))]})
            self.requests.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def check(self, index: int, body: bytes) -> bool:
        """Return whether an answer is that of its row."""
        (found,) = orjson.loads(body)["predictions"]
        return abs(found["probability"] - self._expected[index]) < 1e-5


async def measure(port: int, load: Load, job: list[str], rate: float, seconds: float, turns: int) -> list["Turn"]:
    callers = Generator(port, load.requests, load.check, 64)
    await callers.open()
    await callers.run(arrivals([(rate, 2.0)], seed=99))
    done = []
    for turn in range(turns):
        at = arrivals([(rate, seconds)], seed=turn)
        alone = await callers.run(at)
        process = await asyncio.create_subprocess_exec(*job, stdout=subprocess.PIPE)
        await asyncio.sleep(_BEGUN_S)
        beside = await callers.run(at)
        if process.returncode is not None:
            raise SystemExit("the job was done before the callers were: take more --rows")
        said, _ = await process.communicate()
        done.append(Turn(alone, beside, json.loads(said)["rows_per_s"]))
    await callers.close()
    return done


class Turn:
    """What was measured once."""

    def __init__(self, alone: Outcomes, beside: Outcomes, rows_per_s: float) -> None:
        self.alone, self.beside, self.rows_per_s = alone, beside, rows_per_s

    def show(self) -> None:
        for name, found in (("alone", self.alone), ("beside the job", self.beside)):
            p50_ms, p99_ms = (found.percentile_ms(found.status == 200, percent) for percent in (50, 99))
            print(
                f"{name:<16}p50 {p50_ms:6.2f} ms  p99 {p99_ms:6.2f} ms  not answered {int((found.status != 200).sum())}"
            )
        print(f"{'the job':<16}{self.rows_per_s:,.0f} rows/s")


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    files, model, port = data.floats(args.rows, "float32"), models.xgboost().path, free_port()
    url = f"http://127.0.0.1:{port}"
    ours, local = OUT / "via.parquet", OUT / "ours.parquet"
    job = ["nice", "-n", "19", FORETELL, "predict", str(model), *map(str, files), "-o", str(ours), "--via", url]
    job += ["--overwrite", "--json"]
    load = Load(model, f"/v1/models/{model.stem}:predict")

    def wrong() -> str:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as reply:
                return "" if reply.status == 200 else str(reply.status)
        except (OSError, urllib.error.HTTPError) as error:
            return str(error)

    command = [FORETELL, "serve", str(model), "--no-grpc", "--http-port", str(port)]
    with tempfile.TemporaryDirectory() as held, started(command, {}, Path(held), wrong):
        turns = uvloop.run(measure(port, load, job, args.rate, args.seconds, args.turns))
        subprocess.run([FORETELL, "predict", str(model), *map(str, files), "-o", str(local), "--overwrite"], check=True)
    answers.agree(ours, local)
    heading(f"{args.rows:,} rows by `--via` beside {args.rate:g} callers' rows a second, one server on {CORES} cores")
    for turn in turns:
        turn.show()
    print()
    unanswered = sum(int((t.beside.status != 200).sum()) for t in turns)
    return verdict("callers not answered beside the job", unanswered, 0, at_most=True)


if __name__ == "__main__":
    sys.exit(not main())
