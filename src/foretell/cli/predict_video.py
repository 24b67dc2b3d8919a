"""The part of `foretell predict` that is for videos: its options, and the job behind them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from foretell.errors import ConfigError

if TYPE_CHECKING:
    from foretell.model.model import Model

__all__ = ["add_options", "predicted"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of `predict`."""
    group = parser.add_argument_group("videos")
    group.add_argument("--every", type=int, metavar="N", help="take the first of each N frames")
    group.add_argument("--fps", type=float, metavar="F", help="take at most F frames a second")
    group.add_argument("--track", action="store_true", help="number objects, the same number in every frame")


def predicted(model: Model, args: argparse.Namespace) -> bool:
    """Predict the inputs if they are videos, and return whether they were.

    Raises:
        ConfigError: They are not, and there are options for videos.
    """
    from foretell.bulk.video_files import hold_videos

    if model.signature.image is not None and hold_videos(args.inputs):
        _predict(model, args)
        return True
    given = {"--every": args.every, "--fps": args.fps, "--track": args.track or None}
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name}: is for videos, and a model of pictures; leave it out")
    return False


def _predict(model: Model, args: argparse.Namespace) -> None:
    from foretell.bulk.video import Pace, predict_videos

    refused = {"--keep": args.keep, "--on": args.on, "--via": args.via, "--dry-run": args.dry_run}
    refused |= {"--chunk-rows": args.chunk_rows, "--on-error quarantine": args.on_error.startswith("quarantine")}
    for name, value in refused.items():
        if value:
            raise ConfigError(f"{name}: is for rows, and the inputs are videos; leave it out")
    summary = predict_videos(
        model,
        args.inputs,
        args.out,
        draw=args.draw,
        pace=Pace(1 if args.every is None else args.every, args.fps),
        track=args.track,
        format_name=args.format,
        skips=args.on_error == "skip",
        progress=sys.stderr.isatty(),
        threads=args.threads,
    )
    for fault in summary.faults:
        sys.stderr.write(f"foretell: {fault}\n")
    if args.verbose:
        for note in (*model.info()["notes"], *summary.done.notes):
            sys.stderr.write(f"note: {note}\n")
    if args.out and (args.verbose or sys.stderr.isatty()):
        sys.stderr.write(f"{summary.line()}\n")
    if args.json:
        sys.stdout.write(f"{json.dumps(summary.to_json(), ensure_ascii=False)}\n")
