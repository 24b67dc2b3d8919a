"""What `foretell predict` says of a job: while it runs, at its end, and of rows that got no answer."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foretell.errors import ConfigError

if TYPE_CHECKING:
    from foretell.bulk.columns import Keep
    from foretell.bulk.progress import Shown
    from foretell.bulk.summary import Summary
    from foretell.model.model import Model

__all__ = ["add_options", "check", "foretold", "on_error", "report", "shown"]

_QUARANTINE = "quarantine="


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command."""
    parser.add_argument(
        "--on-error",
        metavar="WHAT",
        default="fail",
        help="of rows that cannot be answered: fail, skip, or quarantine=FILE (.csv .jsonl .parquet)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and how long it takes; needs -o")
    parser.add_argument("--json", action="store_true", help="print what was done as a JSON object on stdout; needs -o")


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: They do not.
    """
    on_error(args)
    for flag in ("json", "dry_run"):
        if getattr(args, flag) and not args.out:
            raise ConfigError(f"--{flag.replace('_', '-')}: predictions go to stdout; name a file for them with -o")


def on_error(args: argparse.Namespace) -> dict[str, Any]:
    """Return `--on-error` as `predict_files` takes it.

    Raises:
        ConfigError: It is none of the three.
    """
    given: str = args.on_error
    if given in ("fail", "skip"):
        return {"on_error": given}
    if given.startswith(_QUARANTINE) and len(given) > len(_QUARANTINE):
        return {"on_error": "quarantine", "quarantine": given.removeprefix(_QUARANTINE)}
    raise ConfigError(f'--on-error "{given}": expected fail, skip or quarantine=FILE')


def shown(args: argparse.Namespace) -> Shown:
    """Return what is shown while a job runs: a bar on a terminal; lines in a log, if it was asked to be verbose."""
    if sys.stderr.isatty():
        return "bar"
    return "lines" if args.verbose else "nothing"


def foretold(args: argparse.Namespace, model: Model, keep: Keep) -> bool:
    """Say what the job would do, if that is all that was asked for; return whether it was.

    Raises:
        ConfigError: It is a job of pictures, or of what can be read once only.
    """
    if not args.dry_run:
        return False
    from foretell import machine
    from foretell.bulk.dry_run import forecast, plan_for
    from foretell.cli.predict_via import digest_for

    if model.signature.image is not None:
        raise ConfigError("--dry-run: the model takes pictures, which are not foretold; leave it out")
    plan = plan_for(
        model,
        args.inputs,
        args.out,
        keep=keep,
        format_name=args.format,
        chunk_rows=args.chunk_rows,
        model_digest=digest_for(args, model),
        **on_error(args),
    )
    found = forecast(model, plan, keep, args.threads or machine.cores(), overwrite=args.overwrite)
    if args.json:
        sys.stdout.write(f"{json.dumps(found.to_json(), ensure_ascii=False)}\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in found.lines())
    return True


def report(args: argparse.Namespace, summary: Summary, notes: Sequence[str], kinds: str) -> None:
    """Say what a job did: on stderr for a person, on stdout for a machine. Rows left out are never passed over."""
    if args.verbose:
        for note in notes:
            sys.stderr.write(f"note: {note}\n")
        sys.stderr.write(f"runtimes: {kinds}\n")
    if args.out and (args.verbose or sys.stderr.isatty()):
        sys.stderr.writelines(f"{line}\n" for line in summary.lines())
    elif summary.errors:
        sys.stderr.write(f"foretell: {summary.errors_line()}\n")
    if args.json:
        sys.stdout.write(f"{json.dumps({**summary.to_json(), 'notes': list(notes)}, ensure_ascii=False)}\n")
