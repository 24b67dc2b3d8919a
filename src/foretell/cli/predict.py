"""`foretell predict MODEL INPUT... [-o OUT] [--keep COLS|all]`: files in, predictions out."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from foretell.cli.predict_report import add_options as add_report_options
from foretell.cli.predict_report import check, foretold, on_error, report, shown
from foretell.cli.predict_via import add_via, digest_for, opened
from foretell.cli.predict_video import add_options, predicted
from foretell.errors import ConfigError

__all__ = ["add"]

_INTERRUPTED = 130
_TERMINATED = 143


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        parents=[shared],
        help="predict the rows of files, or pictures",
        description="Predict the rows of CSV, Parquet, JSON Lines or Arrow files, or pictures, in their order.",
    )
    parser.add_argument("model", metavar="MODEL", help="a bundle, an artifact, or a folder holding one")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help='files, folders or globs; "-" reads CSV from stdin')
    parser.add_argument(
        "-o",
        "--out",
        help='file to write, by its ending, or a folder, "scored/", for one per input; else CSV to stdout',
    )
    parser.add_argument("--format", metavar="FORMAT", help="of the output: csv csv.gz jsonl jsonl.gz parquet arrow")
    parser.add_argument("--keep", metavar="COLS", default="", help='input columns to keep, "a,b", or "all"')
    parser.add_argument(
        "--draw", metavar="PATH", help="for pictures: a file or a folder for copies with boxes and labels"
    )
    add_options(parser)
    add_report_options(parser)
    parser.add_argument("--trust", action="store_true", help="open a file that may run code, boxed in")
    parser.add_argument("--threads", "--workers", type=_positive, help="chunks answered at once; one for each core")
    parser.add_argument("--chunk-rows", metavar="N", type=_positive, help="rows that are kept, or done again, at once")
    parser.add_argument("--overwrite", action="store_true", help="start anew, whatever is there")
    parser.add_argument("--on", metavar="RAY", help='answer chunks on Ray: "ray" starts it here, or ray://HOST:10001')
    add_via(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="say what was coerced, ignored and used")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from foretell.bulk.memory import keep_memory

    keep_memory()  # first of all: it imports pyarrow
    from foretell.bulk.chunks import CHUNK_ROWS
    from foretell.bulk.job import Interrupted, predict_files
    from foretell.model.data.arrow import keep_pandas_out

    keep_pandas_out()
    check(args)
    with opened(args) as model:
        if not model.signature.fields:
            raise ConfigError(_takes_tensors(args.model, model.info()["notes"]))
        keep = "all" if args.keep == "all" else [c.strip() for c in args.keep.split(",") if c.strip()]
        if predicted(model, args) or foretold(args, model, keep):
            return 0
        try:
            with _ended_by_signals(model):
                summary = predict_files(
                    model,
                    args.inputs,
                    args.out,
                    keep=keep,
                    draw=args.draw,
                    progress=shown(args),
                    threads=args.threads,
                    chunk_rows=args.chunk_rows or CHUNK_ROWS,
                    format_name=args.format,
                    overwrite=args.overwrite,
                    **on_error(args),
                    model_digest=digest_for(args, model),
                    crew=_crew(args, model),
                )
        except Interrupted as e:
            sys.stderr.write(f"foretell: {e}\n")
            return _TERMINATED if isinstance(e.__cause__, _Terminated) else _INTERRUPTED
        notes = [*model.info()["notes"], *summary.notes]
        kinds = ", ".join(f"{r['kind']} from {r['rows_from']} rows" for r in model.info()["runners"])
    report(args, summary, notes, kinds)
    return 0


def _crew(args: argparse.Namespace, model: Any) -> Any:
    """Return what makes the crew on a cluster, or None."""
    if args.on is None:
        return None
    from foretell.bulk.on_ray import crew_on

    return crew_on(args.on, model, args.model, trust=args.trust, workers=args.threads)


class _Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextmanager
def _ended_by_signals(model: Any) -> Iterator[None]:
    """Let SIGTERM end a job as Ctrl-C does, and both end requests to a server that may not answer."""
    give_up = getattr(model, "give_up", lambda: None)

    def end(number: int, _: object) -> None:
        give_up()
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _takes_tensors(name: str, notes: Sequence[str]) -> str:
    """Return the error for a model that no file fits; for a network of pictures with the lines that it lacks."""
    if not any(note.startswith("read from the file: pictures") for note in notes):
        return f'"{name}": takes tensors, not files; use foretell.load and Model.predict'
    asked = [note.removeprefix("model.toml, ") for note in notes if note.startswith("model.toml, [")]
    command = f"foretell convert {name}{' --picture picture.toml' if asked else ''} -o BUNDLE"
    lines = f", with these lines in picture.toml: {'; '.join(asked)}" if asked else ""
    return f'"{name}": takes tensors; make a bundle that takes pictures: {command}{lines}'


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected 1 or more")
    return value
