"""Servers under a closed loop: Foretell beside its rivals, each in an environment of its own, in turn.

python benchmarks/serve.py [--part tensors|ames|grpc] [--only NAME ...] [--seconds S] [--rounds N] [--json FILE]
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import models
import numpy as np
from common import heading, many, saved, session, verdict
from rivals import tensors
from rivals.rival import Server
from serving.table import markdown, ratio
from serving.turns import Measured, Questions, measure_in_turn

ROWS = 64
"""Different rows that the generator posts in turn."""


def tensors_part(options: argparse.Namespace) -> list[Measured]:
    heading("Servers: one row of 30 floats a request, JSON, XGBoost with 300 trees")
    case = models.xgboost()
    graph = saved("served/xgb.onnx", lambda p: p.write_bytes(case.graph()))
    own = saved("served/xgb.json", lambda p: p.write_bytes(case.path.read_bytes()))
    rows = np.round(many(ROWS), 4)
    expected = session(graph.read_bytes(), 1).run(["probabilities"], {"input": rows})[0]
    texts = [[float(str(value)) for value in row] for row in rows]
    questions = Questions(texts, expected.tolist(), 2e-6)
    measured = measured_of(tensors.servers(graph, own), graph, questions, options)
    return measured


def measured_of(
    servers: list[Server], model: Path, questions: Questions, options: argparse.Namespace
) -> list[Measured]:
    if options.only:
        servers = [s for s in servers if any(name.lower() in s.name.lower() for name in options.only)]
    return measure_in_turn(servers, model, questions, seconds=options.seconds, rounds=options.rounds)


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["tensors"], action="append", help="all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="servers whose name has one of these in it")
    parser.add_argument("--seconds", type=float, default=6, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write every number")
    options = parser.parse_args()
    m = tensors_part(options)
    print(markdown(m, next((x for x in m if x.name == "foretell"), None)))
    if options.json:
        options.json.write_text(json.dumps([asdict(x) for x in m], indent=1))
    return True


if __name__ == "__main__":
    sys.exit(not main())
