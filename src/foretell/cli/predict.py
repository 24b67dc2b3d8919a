"""`foretell predict MODEL INPUT... [-o OUT] [--keep COLS|all]`: files in, predictions out."""

from __future__ import annotations

import argparse
import sys
from typing import Any

__all__ = ["add"]


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        parents=[shared],
        help="predict the rows of files",
        description="Predict the rows of CSV, Parquet, JSON Lines or Arrow files, in their order.",
    )
    parser.add_argument("model", metavar="MODEL", help="a bundle, an artifact, or a folder holding one")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help='files, folders or globs; "-" reads CSV from stdin')
    parser.add_argument("-o", "--out", help="file to write, by its ending; without it CSV goes to stdout")
    parser.add_argument("--keep", metavar="COLS", default="", help='input columns to keep, "a,b", or "all"')
    parser.add_argument("--trust", action="store_true", help="open a file that may run code, boxed in")
    parser.add_argument("--threads", type=_positive, help="processors to use; all by default")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what was coerced, ignored and used")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from foretell.bulk.job import predict_files
    from foretell.model.data.arrow import keep_pandas_out
    from foretell.model.load import load

    keep_pandas_out()
    with load(args.model, trust=args.trust) as model:
        summary = predict_files(
            model,
            args.inputs,
            args.out,
            keep="all" if args.keep == "all" else [c.strip() for c in args.keep.split(",") if c.strip()],
            progress=sys.stderr.isatty(),
            threads=args.threads,
        )
        notes = [*model.info()["notes"], *summary.notes]
        kinds = ", ".join(f"{r['kind']} from {r['rows_from']} rows" for r in model.info()["runners"])
    if args.verbose:
        for note in notes:
            sys.stderr.write(f"note: {note}\n")
        sys.stderr.write(f"runtimes: {kinds}\n")
    if args.out and (args.verbose or sys.stderr.isatty()):
        rate = summary.rows / max(summary.seconds, 1e-9)
        sys.stderr.write(f"{args.out}: {summary.rows:,} rows in {summary.seconds:.2f} s, {rate:,.0f} rows/s\n")
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected 1 or more")
    return value
