"""`foretell bench MODEL`: how fast it predicts here, at one row and at many."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Any

__all__ = ["add"]


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        parents=[shared],
        help="measure how fast a model predicts here",
        description="Measure `predict` in process, on rows drawn from the model's signature.",
    )
    parser.add_argument("model", metavar="MODEL", help="a bundle, an artifact, or a folder holding one")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--trust", action="store_true", help="open a file that may run code, boxed in")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from foretell.errors import ConfigError
    from foretell.model.draw import draw_rows, plain_row
    from foretell.model.load import load
    from foretell.model.pace import ROWS, time_s

    with load(args.model, trust=args.trust) as model:
        if not model.signature.fields:
            raise ConfigError(f'"{args.model}": takes bare tensors, rows cannot be drawn for it; measure it in Python')
        row = plain_row(model.signature)
        seconds = {1: time_s(partial(model.predict, row), budget_s=1.0, at_most=20_000)}
        for rows in ROWS[1:]:
            table = draw_rows(model.signature, rows)
            seconds[rows] = time_s(partial(model.predict, table), budget_s=1.0)
    if args.json:
        found = {"model": args.model, "seconds_per_call": {str(k): v for k, v in seconds.items()}}
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    sys.stdout.write(f"{'rows a call':>12}{'call, ms':>14}{'row, us':>12}{'rows/s':>14}\n")
    for rows, taken in seconds.items():
        sys.stdout.write(f"{rows:>12,}{taken * 1e3:>14,.3f}{taken / rows * 1e6:>12,.2f}{rows / taken:>14,.0f}\n")
    return 0
