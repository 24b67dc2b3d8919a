"""Servers under a closed loop: Foretell beside its rivals, each in an environment of its own, in turn.

python benchmarks/serve.py [--part tensors|ames|grpc ...] [--only NAME ...] [--seconds S] [--rounds N] [--patience S]
                           [--json FILE] [--show FILE]

Needs wrk, and for gRPC h2load. The first run installs the rivals (gigabytes). A rival that fails to install or to start
is reported with the reason; the table goes on.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import models
import numpy as np
import pandas as pd
from common import DATA, heading, many, saved, session, verdict
from rivals import rows, tensors
from rivals.rival import Server
from serving.grpc_load import over_grpc
from serving.load import Load
from serving.table import markdown, of, ratio
from serving.turns import Measured, Questions, measure_in_turn

ROWS = 64
"""Different rows, which the generator posts in turn."""

Measure = Callable[..., list[Measured]]


def tensors_part(measure: Measure) -> list[Measured]:
    heading("Servers: a row of 30 floats a request, JSON, XGBoost with 300 trees")
    graph, own, questions = _floats()
    return measure(tensors.servers(graph, own), graph, questions)


def grpc_part(measure: Measure) -> list[Measured]:
    heading("gRPC: a row of 30 floats a request, raw contents, the same model; h2load")
    graph, _, questions = _floats()
    servers = [s for s in tensors.servers(graph, graph) if s.is_ours and s.model is None]
    return measure(servers, graph, questions, load=over_grpc)


def ames_part(measure: Measure) -> list[Measured]:
    heading("Servers: a home of 73 named, mixed values a request, JSON, a scikit-learn pipeline")
    pipeline = models.ames()
    bundle = saved("served/ames", lambda p: _convert(pipeline, p))
    homes = pd.read_csv(DATA / "new_homes.csv").drop(columns="Id")[:ROWS]
    answers = [[price] for price in joblib.load(pipeline).predict(homes)]
    texts = [{k: None if pd.isna(v) else v for k, v in home.items()} for home in homes.to_dict("records")]
    return measure(rows.servers(bundle, pipeline), bundle, Questions(texts, answers, 1e-5))


def _floats() -> tuple[Path, Path, Questions]:
    case = models.xgboost()
    graph = saved("served/xgb.onnx", lambda p: p.write_bytes(case.graph()))
    own = saved("served/xgb.json", lambda p: p.write_bytes(case.path.read_bytes()))
    inputs = np.round(many(ROWS), 4)
    (expected,) = session(graph.read_bytes(), 1).run(["probabilities"], {"input": inputs})
    shortest = [[float(str(value)) for value in row] for row in inputs]
    return graph, own, Questions(shortest, expected.tolist(), 2e-6)


def _convert(pipeline: Path, bundle: Path) -> None:
    foretell = str(Path(sys.executable).with_name("foretell"))
    sample = ["--sample", str(pipeline.with_name("homes.csv")), "--target", "Sale_Price"]
    command = [foretell, "convert", str(pipeline), "--trust", *sample, "-o", str(bundle)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


PARTS = {"tensors": tensors_part, "ames": ames_part, "grpc": grpc_part}
GOALS = {
    "tensors": {"mosec": 2.5, "MLServer": 20, "KServe": 20, "LitServe": 20, "BentoML": 20, "Ray": 100},
    "ames": {"MLServer": 10, "mlflow": 30},
}


def judge(part: str, measured: Sequence[Measured]) -> bool:
    """Print what was to be reached and whether it was; what was not measured is not judged."""
    found = {one.name: one for one in measured if one.loads}
    ours, plain = found.get("foretell"), found.get("foretell --isolation none")
    good = []
    for name, one in found.items():
        goal = next((times for word, times in GOALS.get(part, {}).items() if name.startswith(word)), None)
        if ours and goal:
            good.append(verdict(f"{part}, c=64: times {name}", ratio(ours, one, "64"), goal))
            slower = _p99(ours) / _p99(one)
            good.append(verdict(f"{part}, c=64: p99 beside that of {name}", slower, 1, at_most=True))
    if part == "tensors" and ours:
        per_s = of(ours, "64", lambda load: load.per_s)
        good.append(verdict("tensors, c=64: requests/s", per_s, 25_000))
        good.append(verdict("tensors, c=1: p50 in ms", _p50(ours), 0.35, at_most=True))
        good.append(verdict("seconds until ready", median(ours.ready_s), 1, at_most=True))
        good.append(verdict("idle memory in MB, front and worker", median(ours.idle_mb), 120, at_most=True))
    if part == "tensors" and plain:
        good.append(verdict("tensors, c=1, --isolation none: p50 in ms", _p50(plain), 0.22, at_most=True))
    return all(good)


def _p99(one: Measured) -> float:
    return of(one, "64", lambda load: load.p99_ms)


def _p50(one: Measured) -> float:
    return of(one, "1", lambda load: load.p50_ms)


def main() -> bool:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server under way is stopped too

    def measure(servers: Sequence[Server], model: Path, questions: Questions, **how: Any) -> list[Measured]:
        picked = [s for s in servers if not options.only or any(n.lower() in s.name.lower() for n in options.only)]
        often = {"seconds": options.seconds, "rounds": options.rounds, "patience_s": options.patience}
        return measure_in_turn(picked, model, questions, **often, **how)

    shown = json.loads(options.show.read_text()) if options.show else {}
    every: dict[str, list[Measured]] = {}
    good = True
    for part in options.part or shown or PARTS:
        measured = every[part] = [_read(one) for one in shown[part]] if shown else PARTS[part](measure)
        print(markdown(measured, next((one for one in measured if one.name == "foretell"), None)), end="\n\n")
        good = judge(part, measured) and good
        if options.json:
            options.json.write_text(json.dumps({k: [asdict(one) for one in v] for k, v in every.items()}, indent=1))
    return good


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, nargs="+", help="all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="servers that have one of these in their name")
    parser.add_argument("--seconds", type=float, default=6, help="of each load (6)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every server (3)")
    parser.add_argument("--patience", type=float, default=15, metavar="S", help="wait for a quiet machine (15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write every number of every round")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing: the table of what --json wrote")
    return parser.parse_args()


def _read(one: dict[str, Any]) -> Measured:
    loads = {c: [Load(**load) for load in loads] for c, loads in one.pop("loads").items()}
    return Measured(**one, loads=loads)


if __name__ == "__main__":
    sys.exit(not main())
