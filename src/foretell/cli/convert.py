"""`foretell convert ARTIFACT -o BUNDLE`: a bundle, with the proof that it answers like the original."""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import ConfigError

if TYPE_CHECKING:
    from foretell.model.convert import Report
    from foretell.signature import TensorSpec

__all__ = ["add"]


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        parents=[shared],
        help="make a bundle of a trained model, with the proof",
        description="Make a bundle of a trained model, and prove on real rows that it answers like the original.",
    )
    parser.add_argument("artifact", metavar="ARTIFACT", help="model.joblib, xgb.json, model.onnx ...")
    parser.add_argument("-o", "--out", metavar="BUNDLE", required=True, help="folder to write; nothing may be there")
    parser.add_argument("--sample", metavar="DATA", help="rows, or pictures, like those of training, to prove it on")
    parser.add_argument(
        "--picture", metavar="FILE", help="how a picture becomes a tensor and what the outputs mean: a TOML file"
    )
    parser.add_argument("--target", metavar="COL", help="column of the sample with the truth: left out, and scored")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes: a line each, or a JSON list")
    parser.add_argument("--trust", action="store_true", help="open a file that may run code, boxed in")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME:DATATYPE:SHAPE", help="what a TorchScript file takes"
    )
    parser.add_argument("--tolerance", type=float, help="largest difference of a row; the default fits the model")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from foretell.bulk.pictures import find_pictures, hold_pictures
    from foretell.bulk.sample import read_sample
    from foretell.model.convert import convert

    pictures = find_pictures([args.sample]) if args.sample and hold_pictures([args.sample]) else []
    report = convert(
        args.artifact,
        args.out,
        sample=read_sample(args.sample) if args.sample and not pictures else None,
        target=args.target,
        labels=_labels(args.labels) if args.labels else None,
        trust=args.trust,
        tolerance=args.tolerance,
        inputs=[_input(text) for text in args.input],
        picture=_picture(args.picture) if args.picture else None,
        pictures=pictures,
    )
    sys.stdout.write(_told(report))
    return 0


def _picture(path: str) -> dict[str, Any]:
    """Read the tables `task` and `signature.image`."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f'--picture "{path}": cannot be read: {error}') from None
    strange = sorted(set(tables) - {"task", "signature"})
    if strange or not all(isinstance(t, dict) for t in tables.values()):
        raise ConfigError(f'--picture "{path}": has {", ".join(strange)}, expected tables [task] and [signature.image]')
    return tables


def _input(text: str) -> TensorSpec:
    """Read `x:FP32:-1,3,224,224`."""
    from foretell.dtypes import DATATYPES
    from foretell.signature import TensorSpec

    name, _, rest = text.partition(":")
    datatype, _, dims = rest.partition(":")
    try:
        shape = tuple(int(d) for d in dims.split(","))
    except ValueError:
        shape = ()
    if (
        not name
        or datatype not in DATATYPES
        or datatype == "BYTES"
        or not shape
        or any(d < -1 or d == 0 for d in shape)
    ):
        raise ConfigError(f'--input "{text}": expected NAME:DATATYPE:SHAPE, such as x:FP32:-1,3,224,224')
    return TensorSpec(name, datatype, shape)


def _labels(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'--labels "{path}": cannot be read: {error}') from None
    if not text.lstrip().startswith("["):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        names = json.loads(text)
    except ValueError as error:
        raise ConfigError(f'--labels "{path}": starts like a JSON list but is none: {error}') from None
    return [str(name) for name in names]


def _told(report: Report) -> str:
    """Return the report as text."""
    opened = report.opened
    takes = "pictures" if opened.signature.image else f"{len(opened.signature.fields)} fields"
    lines = [f"{report.bundle}/  {opened.format}, {opened.task.name}, {takes}"]
    lines += [f"  {key.replace('_', ' ')}: {_words(value)}" for key, value in opened.about.items()]
    rows = f"{report.sample_rows:,} sample rows and {report.drawn_rows:,} drawn rows"
    if report.original:
        lines.append(f"proof against {report.original}, {rows}:")
        lines += [f"  {_comparison(name, c)}" for name, c in report.comparisons.items()]
    else:
        lines.append(f"no original to prove against: {opened.format} is run as it is")
    if report.score:
        lines.append("on the sample: " + ", ".join(f"{k.replace('_', ' ')} {v:,.4g}" for k, v in report.score.items()))
    lines += _speed(report)
    lines += [f"  from {r.rows_from:,} rows on: {r.kind} ({r.file}, {len(r.content):,} bytes)" for r in opened.runners]
    lines += [f"note: {note}" for note in opened.notes]
    return "".join(f"{line}\n" for line in lines)


def _words(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _comparison(name: str, found: Any) -> str:
    verdict = f"{found.moved_rows} rows moved, {found.flipped_labels} labels flipped"
    differences = f"largest difference {found.max_absolute:.3g}, relative {found.max_relative:.3g}"
    return f"{name}: {found.rows:,} rows, {differences}; {verdict} (tolerance {found.tolerance:g})"


def _speed(report: Report) -> list[str]:
    if not report.speed_us_per_row:
        return []
    many = max(next(iter(report.speed_us_per_row.values())))
    lines = [f"{'microseconds a row':<20}{'1 row':>12}{f'{many:,} rows':>12}"]
    lines += [f"  {name:<18}{s[1]:>12,.1f}{s[many]:>12,.3f}" for name, s in report.speed_us_per_row.items()]
    return lines
