"""What a job is going to do, decided before anything is written: its files, its outputs, what makes it the same job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell import __version__
from foretell.bulk.answering import How, OnError
from foretell.bulk.blocks import Source
from foretell.bulk.columns import Keep
from foretell.bulk.identity import facts_of
from foretell.bulk.places import is_url, storage_of
from foretell.bulk.quarantine import Quarantine, check_quarantine
from foretell.bulk.sources import STDIN, find_files
from foretell.bulk.storage import Storage
from foretell.bulk.targets import Given, Targets, check_file, targets_of
from foretell.errors import ConfigError, InvalidInput

__all__ = ["Plan", "given_by", "plan_of"]


_LONG_BYTES = 1 << 20
"""From so many bytes of input on it is worth while to open what is fast with many rows, at whatever cost."""


@dataclass(frozen=True)
class Plan:
    """A job that is to be run."""

    out: str
    """As the user named it."""
    storage: Storage
    """Of the output."""
    targets: Targets
    sources: Sequence[Source]
    paths: Sequence[str]
    """Of the inputs."""
    how: How
    chunk_rows: int
    facts: dict[str, Any]
    """What makes it the same job; see `identity`."""
    quarantine: Quarantine | None = None
    """Where rows go that got no answer."""

    @property
    def lock_path(self) -> str:
        """Return the name that a running job holds."""
        return os.path.join(self.targets.job_folder, "lock")

    @property
    def journal_path(self) -> str:
        """Return where the journal is."""
        return os.path.join(self.targets.job_folder, "journal")

    @property
    def parts_folder(self) -> str:
        """Return where parts are."""
        return os.path.join(self.targets.job_folder, "parts")

    @property
    def quarantine_folder(self) -> str:
        """Return where rows are kept for the quarantine."""
        return os.path.join(self.targets.job_folder, "quarantine")

    def check_unchanged(self, file: int) -> None:
        """Look at a file again that was read to its end.

        Raises:
            InvalidInput: It is not what it was when the job began.
        """
        path, before = self.paths[file], self.facts["inputs"][file][1:]
        storage = storage_of(path)
        if [storage.size_bytes(path), storage.stamp(path)] != before:
            raise InvalidInput(
                f'input "{path}": it changed while it was read, expected it to stay as it was; '
                "start the job anew with --overwrite"
            )


def given_by(inputs: Sequence[str]) -> list[Given]:
    """Return the files that the inputs name, in order.

    Raises:
        ConfigError: Nothing is there, or standard input is named twice.
    """
    found = [Given(path, given) for given in inputs for path in find_files([given])]
    if sum(g.path == STDIN for g in found) > 1:
        raise ConfigError('input "-": standard input can be read once only; name it once')
    return found


def plan_of(
    given: Sequence[Given],
    sources: Sequence[Source],
    out: str,
    format_name: str | None,
    keep: Keep,
    on_error: OnError,
    chunk_rows: int,
    model_digest: str,
    quarantine: str | None = None,
) -> Plan:
    """Decide what a job does.

    Raises:
        ConfigError: The output cannot be what it is asked to be.
    """
    targets = targets_of(out, given, format_name, is_folder=os.path.isdir(out))
    _check(targets, given, out)
    options = {
        "-o": os.path.realpath(out) if not is_url(out) else out,
        "--format": ",".join(dict.fromkeys(t.format.name for t in targets.each)),
        "--keep": keep if isinstance(keep, str) else ",".join(keep),
        "--on-error": on_error if quarantine is None else f"quarantine={_whole(quarantine)}",
        "--chunk-rows": str(chunk_rows),
    }
    inputs = [(_whole(g.path), storage_of(g.path).size_bytes(g.path), storage_of(g.path).stamp(g.path)) for g in given]
    facts = facts_of(inputs, model_digest, options, _versions())
    kind_of = {file: target.format.part for target in targets.each for file in target.files}
    kinds = tuple(kind_of[file] for file in range(len(given)))
    kept = None
    if quarantine is not None:
        check_quarantine(
            quarantine,
            [g.path for g in given],
            list({g.root for g in given if g.root != g.path}),
            [target.path for target in targets.each],
        )
        kept = Quarantine(quarantine, storage_of(out), os.path.join(targets.job_folder, "quarantine"))
    is_long = sum(size for _, size, _ in inputs) >= _LONG_BYTES
    how = How(kinds if len(set(kinds)) > 1 else kinds[:1], on_error, kept.kind.part if kept else "jsonl", is_long)
    paths = [g.path for g in given]
    return Plan(out, storage_of(out), targets, sources, paths, how, chunk_rows, facts, kept)


def _check(targets: Targets, given: Sequence[Given], out: str) -> None:
    """Refuse an output that is, or would become, an input.

    Raises:
        ConfigError: It is.
    """
    if not targets.is_folder:
        check_file(out)
    elif not is_url(out) and os.path.exists(out) and not os.path.isdir(out):
        raise ConfigError(f'output "{out}": this is a file, expected a folder; name another, or a file with an ending')
    inputs = {_whole(g.path): g for g in given}
    for target in targets.each:
        if _whole(target.path) in inputs:
            raise ConfigError(f'output "{target.path}": this is an input too; write to another place')
    if targets.is_folder:
        for root in {g.root for g in given if g.root != g.path and os.path.isdir(g.root)}:
            if os.path.commonpath([_whole(root), _whole(out)]) == _whole(root):
                raise ConfigError(f'output "{out}": it lies in the input folder "{root}"; write to another place')


def _whole(path: str) -> str:
    return path if is_url(path) else os.path.realpath(path)


def _versions() -> dict[str, str]:
    import pyarrow as pa

    return {"foretell": __version__, "pyarrow": pa.__version__, "numpy": np.__version__}
