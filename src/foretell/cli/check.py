"""`foretell check BUNDLE [--against REFERENCE]`: does it still answer, and does it prepare, as it should?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import ConfigError, ProofFailed

if TYPE_CHECKING:
    from foretell.model.skew.report import Difference, Skew

__all__ = ["add"]

_LEVELS = 2.0
_ORDER = ("fit", "crop_from", "place", "pad", "resize", "antialias", "colour", "layout", "scale", "mean", "std")
_CAUSES = {
    "fit": "how pictures fill the tensor",
    "crop_from": "the frame that a crop is cut from",
    "place": "where a letterbox has its picture",
    "pad": "what a letterbox is filled with",
    "resize": "the filter",
    "antialias": "whether the filter grows where pictures shrink",
    "colour": "the order of colours",
    "scale": "scale, mean and std",
    "mean": "scale, mean and std",
    "std": "scale, mean and std",
}


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        parents=[shared],
        help="ask a bundle its golden examples, or compare how it prepares pictures with the training code",
        description="Ask a bundle its golden examples again. With --against, compare the tensors that it makes of "
        "pictures with those of the training code, and say what differs.",
    )
    parser.add_argument("model", metavar="BUNDLE", help="a folder that foretell convert wrote")
    parser.add_argument("--against", metavar="FILE", help="pictures and their tensors, written by numpy.savez")
    parser.add_argument("--tolerance", type=float, default=_LEVELS, metavar="X", help="levels of 255 (2)")
    parser.add_argument("--trust", action="store_true", help="open a file that may run code, boxed in")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from foretell.model.artifact import judge

    artifact = judge(Path(args.model))
    if artifact.format != "bundle":
        raise ConfigError(f'"{args.model}": is no bundle; make one with foretell convert')
    return _golden(args, artifact.path) if args.against is None else _against(args, artifact.path)


def _golden(args: argparse.Namespace, path: Path) -> int:
    from foretell.model.bundle import read_bundle
    from foretell.model.load import load

    bundle = read_bundle(path, trust=args.trust)
    with load(path, trust=args.trust):  # which asks them
        count = len(bundle.golden.rows)
    told = f"{count} golden examples get their answers, to {bundle.tolerance:g}" if count else "has no golden examples"
    sys.stdout.write(f"{bundle.name}: every file has its digest; {told}\n")
    return 0


def _against(args: argparse.Namespace, path: Path) -> int:
    from foretell.model.bundle import read_bundle
    from foretell.model.skew.reference import read_reference
    from foretell.model.skew.report import compare_preparation

    if not args.tolerance > 0:
        raise ConfigError(f"--tolerance {args.tolerance:g}: expected more than 0, in levels of 255")
    bundle = read_bundle(path, trust=args.trust)
    if bundle.opened.signature.image is None:
        raise ConfigError(f'--against: "{bundle.name}" takes no pictures; leave it out')
    found = compare_preparation(bundle.opened.signature, read_reference(Path(args.against)), args.tolerance)
    sys.stdout.write("".join(f"{line}\n" for line in _lines(found, args.tolerance)))
    fits = max(found.exact.largest) <= args.tolerance and found.layout is None
    if not fits:
        causes = ", ".join(dict.fromkeys(_CAUSES[k] for k in _ORDER if k in found.changes))
        causes = causes or ("the layout" if found.layout else "EXIF orientation" if not found.upright else "not found")
        raise ProofFailed(
            f'"{bundle.name}": pictures are not prepared as in training, up to {max(found.exact.largest):.0f} of 255 '
            f"apart, at most {args.tolerance:g} expected; likely cause: {causes}"
        )
    return 0


def _lines(found: Skew, tolerance: float) -> list[str]:
    lines = [f"{found.pictures} pictures; differences in levels, of which a pixel has 255", *_table(found.exact)]
    if found.fast is not found.exact:
        largest, mean = max(found.fast.largest), sum(found.fast.mean) / len(found.fast.mean)
        lines.append(f"  as it comes, without exact = true: largest {largest:.1f}, mean {mean:.2f}")
    if found.layout is not None:
        lines.append(f'the tensors of the training code have the layout "{found.layout}"; the network takes the other')
    if max(found.exact.largest) <= tolerance:
        return lines
    if found.after is None:
        return [*lines, "no other usual preparation comes closer; see docs/images.md for what has no key"]
    lines += [f"likely cause: {_CAUSES[k]}" for k in _first_of_each(found.changes)]
    if not found.upright:
        lines.append("likely cause: the training code leaves pictures as they lie, without their EXIF orientation")
    if found.changes:
        lines.append("in picture.toml, table [signature.image]; then convert again:")
        lines += [f"  {k} = {_toml(found.changes[k])}" for k in _ORDER if k in found.changes]
    fits = "which fits" if max(found.after.largest) <= tolerance else "which is closer, and not all of it"
    return [*lines, f"left over with that, {fits}:", *_table(found.after)]


def _first_of_each(changes: dict[str, Any]) -> list[str]:
    """Return a key for each cause."""
    seen: dict[str, str] = {}
    for key in _ORDER:
        if key in changes:
            seen.setdefault(_CAUSES[key], key)
    return list(seen.values())


def _table(found: Difference) -> list[str]:
    rows = zip(found.channels, found.largest, found.mean, strict=True)
    return [
        f"  {'':<8}{'largest':>9}{'mean':>9}",
        *(f"  {name:<8}{largest:>9.1f}{mean:>9.2f}" for name, largest, mean in rows),
    ]


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)
