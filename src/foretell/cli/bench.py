"""`foretell bench MODEL|URL`: how fast a model predicts here, or how fast a server answers."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Any

from foretell.errors import ConfigError

__all__ = ["add"]

_WARMUP_S = 0.5
_MOST_CONNECTIONS = 4096


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        parents=[shared],
        help="measure how fast a model predicts, or a server answers",
        description="Measure `predict` in process on rows drawn from the model's signature; or, given the URL of a "
        "server of the Open Inference Protocol, its answers over HTTP.",
    )
    parser.add_argument("model", metavar="MODEL|URL", help="a model, or http://host:port[/v2/models/NAME]")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--trust", action="store_true", help="open a file that may run code, boxed in")
    parser.add_argument("--pictures", metavar="PATH", help="for models of pictures: a picture, or a folder of them")
    group = parser.add_argument_group("servers")
    group.add_argument("--connections", metavar="N,N", help="at once, one run for each number (1,16,64)")
    group.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each run (3)")
    group.add_argument("--rate", type=float, metavar="N", help="requests due each second, answered in time or not")
    group.add_argument("--rows", type=int, default=1, metavar="N", help="of each request (1)")
    group.add_argument("--deadline-ms", type=float, metavar="MS", help="tell the server how long each may take")
    group.add_argument("--header", action="append", default=[], metavar="LINE", help="sent with each: NAME: VALUE")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    return _bench_url(args) if args.model.startswith(("http://", "https://")) else _bench_model(args)


def _bench_url(args: argparse.Namespace) -> int:
    from foretell.bench.asking import question_of
    from foretell.bench.lines import Run
    from foretell.bench.load import closed_loop, open_loop, run
    from foretell.bench.report import as_json, as_text

    counts = _counts(args.connections or ("64" if args.rate else "1,16,64"))
    for name, value in (("--seconds", args.seconds), ("--rate", args.rate), ("--rows", args.rows)):
        if value is not None and value <= 0:
            raise ConfigError(f"{name} {value:g}: expected more than 0")
    pictures: list[bytes] = []
    if args.pictures:
        from foretell.cli.bench_pictures import read_pictures

        pictures = read_pictures(args.pictures)
    question = question_of(args.model, rows=args.rows, headers=_headers(args), pictures=pictures)

    async def measure() -> list[Run]:
        if args.rate:
            return [await open_loop(question.target, args.rate, n, args.seconds) for n in counts]
        return [await closed_loop(question.target, n, args.seconds, min(_WARMUP_S, args.seconds / 5)) for n in counts]

    runs = run(measure)
    sys.stdout.write(json.dumps(as_json(question, runs)) + "\n" if args.json else as_text(question, runs))
    return 0


def _counts(given: str) -> list[int]:
    try:
        counts = [int(part) for part in given.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or max(counts) > _MOST_CONNECTIONS:
        raise ConfigError(f"--connections {given}: expected numbers from 1 to {_MOST_CONNECTIONS:,}, such as 1,16,64")
    return counts


def _headers(args: argparse.Namespace) -> list[tuple[str, str]]:
    headers = []
    for line in args.header:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not line.isprintable() or not line.isascii():
            raise ConfigError(f'--header "{name}": expected one line, NAME: VALUE')
        headers.append((name.strip().lower(), value.strip()))
    if args.deadline_ms is not None:
        headers.append(("x-request-timeout-ms", f"{args.deadline_ms:g}"))
    return headers


def _bench_model(args: argparse.Namespace) -> int:
    from foretell.model.draw import draw_rows, plain_row
    from foretell.model.load import load
    from foretell.model.pace import ROWS, time_s

    with load(args.model, trust=args.trust) as model:
        if not model.signature.fields:
            raise ConfigError(f'"{args.model}": takes bare tensors, rows cannot be drawn for it; measure it in Python')
        if model.signature.image:
            from foretell.cli.bench_pictures import bench_pictures, read_pictures

            pictures = read_pictures(args.pictures) if args.pictures else []
            bench_pictures(model, args.model, pictures, as_json=args.json)
            return 0
        if args.pictures:
            raise ConfigError(f'--pictures: "{args.model}" takes none; leave it out')
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
