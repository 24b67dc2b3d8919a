"""Where the answers of each file go: one file for all, or a folder that is divided as the inputs are.

Decides by names alone. Knows no model and writes nothing.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass

from foretell.bulk.formats import FORMATS, Format, ending_of, format_named, format_of
from foretell.bulk.places import is_url
from foretell.errors import ConfigError

__all__ = ["Given", "Target", "Targets", "check_file", "no_format", "targets_of"]

JOB_FOLDER = ".foretell"


@dataclass(frozen=True, slots=True)
class Given:
    """One file of the inputs."""

    path: str
    root: str
    """The folder, pattern or file by which it was named."""


@dataclass(frozen=True, slots=True)
class Target:
    """One file of the output."""

    path: str
    format: Format
    files: tuple[int, ...]
    """Indices of the inputs that go into it, in order."""


@dataclass(frozen=True, slots=True)
class Targets:
    """All files of the output."""

    each: tuple[Target, ...]
    job_folder: str
    """Where the job keeps its journal and parts."""
    is_folder: bool


def targets_of(out: str, given: Sequence[Given], format_name: str | None, *, is_folder: bool) -> Targets:
    """Decide which input goes into which file.

    Args:
        out: What the user named.
        given: Files of the inputs, in order.
        format_name: A format for all; None: that of the name, in a folder that of each input.
        is_folder: Whether there is a folder of the name `out`.

    Raises:
        ConfigError: The format is not known, or two inputs would have the same name in the folder.
    """
    asked = None if format_name is None else format_named(format_name)
    if not (is_folder or out.endswith(("/", os.sep)) or not ending_of(out)):
        found = asked or format_of(out)
        if found is None:
            raise no_format(out)
        folder, name = os.path.split(out)
        target = Target(out, found, tuple(range(len(given))))
        return Targets((target,), os.path.join(folder, f".{name}.foretell"), is_folder=False)
    folder = out.rstrip("/" + os.sep) or out
    each, owners = [], dict[str, Given]()
    for index, one in enumerate(given):
        kind = asked or format_of(one.path, is_input=True) or FORMATS["csv"]
        path = os.path.join(folder, _renamed(_below(one), kind))
        other = owners.setdefault(path, one)
        if other is not one:
            raise ConfigError(
                f'output "{out}": "{other.path}" and "{one.path}" would both be written to "{path}"; '
                "name the folder above them as the input, or score them into folders of their own"
            )
        each.append(Target(path, kind, (index,)))
    return Targets(tuple(each), os.path.join(folder, JOB_FOLDER), is_folder=True)


def check_file(out: str) -> None:
    """Refuse a folder, and a file in a folder that is not there: its name may be mistyped.

    Raises:
        ConfigError: Either.
    """
    if is_url(out):
        return
    path = os.path.realpath(out)
    if os.path.isdir(path):
        raise ConfigError(f'output "{out}": this is a folder, expected a file; add a name')
    if not os.path.isdir(os.path.dirname(path)):
        raise ConfigError(f'output "{out}": there is no folder "{os.path.dirname(path)}"; make it first')


def no_format(out: str) -> ConfigError:
    """Return the error for a name that says no format."""
    return ConfigError(
        f'output "{out}": the ending says the format, expected .csv .jsonl .parquet or .arrow '
        '(.gz after the first two), or a folder, such as "scored/"'
    )


def _below(given: Given) -> str:
    """Return the path of an input below the folder by which it was named; its bare name if it was named itself."""
    root = given.root
    if glob.has_magic(root) and root != given.path:
        fixed = root[: next(i for i, c in enumerate(root) if c in "*?[")]
        root = os.path.dirname(fixed)
        if not root:
            return given.path
    elif root == given.path:
        root = os.path.dirname(root)
    root = root.rstrip("/" + os.sep)
    if given.path.startswith(root + "/") or given.path.startswith(root + os.sep):
        return given.path[len(root) + 1 :]
    return os.path.basename(given.path) if is_url(given.path) else os.path.relpath(given.path, root or ".")


def _renamed(name: str, kind: Format) -> str:
    """Return the name with the ending of a format, unless it has one that says the same."""
    if format_of(name) == kind:
        return name
    ending = ending_of(name)
    known = format_of(name, is_input=True) is not None
    return (name[: -len(ending)] if known and ending else name) + kind.ending
