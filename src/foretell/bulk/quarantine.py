"""Where rows go that got no answer: a file of their own, made of the parts of chunks as the outputs are.

A row is in it once, whatever happened on the way: its part is on the disk before the journal says that its chunk is
done, and the file is made of all parts in order when the last output is whole. Knows no model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, cast

from foretell.bulk.answering import encode_rows
from foretell.bulk.assembly import Hashed
from foretell.bulk.bad_rows import BAD_COLUMNS, bad_columns
from foretell.bulk.formats import FORMATS, Format, format_of
from foretell.bulk.journal import ChunkLine, OutputLine
from foretell.bulk.parts import Parts
from foretell.bulk.places import is_url, storage_of
from foretell.bulk.storage import Storage
from foretell.bulk.writer import Writer
from foretell.errors import ConfigError

__all__ = ["Quarantine", "check_quarantine", "quarantine_format", "quarantining"]

Takes = Callable[[bytes, int], None]
"""Takes the bad rows of a chunk, encoded, and how many they are."""


def quarantine_format(path: str) -> Format:
    """Return the format that the name of a quarantine file says.

    Raises:
        ConfigError: It says none.
    """
    found = format_of(path)
    if found is None:
        raise ConfigError(
            f'--on-error "quarantine={path}": the ending says the format, expected one of '
            f"{', '.join(f.ending for f in FORMATS.values())}"
        )
    return found


def check_quarantine(path: str, inputs: Sequence[str], roots: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse a quarantine file that is, or would become, an input or an output.

    Args:
        path: Of the file.
        inputs: Paths of the files of the job.
        roots: Folders that were named as inputs.
        outputs: Paths of the files of the output.

    Raises:
        ConfigError: It is.
    """
    own, said = _whole(path), f'--on-error "quarantine={path}"'
    if own in map(_whole, inputs):
        raise ConfigError(f"{said}: this is an input too; name another file")
    if own in map(_whole, outputs):
        raise ConfigError(f"{said}: this is an output too; name another file")
    if not is_url(path) and os.path.isdir(path):
        raise ConfigError(f"{said}: this is a folder, expected a file; add a name")
    for root in roots:
        if is_url(root) == is_url(path) and own.startswith(os.path.join(_whole(root), "")):
            raise ConfigError(f'{said}: it lies in the input folder "{root}"; name a file in another place')


@contextmanager
def quarantining(path: str) -> Iterator[tuple[Takes, Hashed]]:
    """Write a quarantine file; it has its name when the block ends well."""
    kind = quarantine_format(path)
    with storage_of(path).creating(path) as file:
        hashed = Hashed(file)
        writer = Writer(cast("BinaryIO", hashed), kind)
        try:
            writer.append(BAD_COLUMNS, encode_rows(kind.part, [bad_columns(())]), 0)
            yield lambda encoded, rows: writer.append(BAD_COLUMNS, encoded, rows), hashed
            writer.finish()
        finally:
            writer.abandon()


class Quarantine:
    """The quarantine file of a job, and what it is made of."""

    def __init__(self, path: str, storage: Storage, folder: str) -> None:
        """Judge the name.

        Args:
            path: Of the file.
            storage: Of the job.
            folder: For the bad rows of each chunk.

        Raises:
            ConfigError: The name says no format.
        """
        self.path = path
        self.kind = quarantine_format(path)
        self._storage = storage
        self._folder = folder
        self._parts = Parts(storage, folder)

    def keep(self, chunk: int, encoded: bytes) -> str:
        """Write the bad rows of a chunk aside; return their sha256."""
        return self._parts.write(chunk, encoded)

    def is_kept(self, line: ChunkLine) -> bool:
        """Whether the bad rows of a chunk are there, as they were written."""
        return not line.errors or self._parts.is_whole(_of_bad_rows(line))

    def is_there(self, line: OutputLine) -> bool:
        """Whether the file is there, as long as it was."""
        storage = storage_of(line.path)
        return storage.exists(line.path) and storage.size_bytes(line.path) == line.file_bytes

    def write(self, lines: Iterable[ChunkLine]) -> OutputLine:
        """Make the file.

        Args:
            lines: Of all chunks, in order.

        Raises:
            MachineError: A part is damaged, or the disk is full.
        """
        rows = 0
        with quarantining(self.path) as (take, hashed):
            for line in lines:
                if line.errors:
                    take(self._parts.read(_of_bad_rows(line)), line.errors)
                    rows += line.errors
        return OutputLine(-1, self.path, rows, hashed.tell(), hashed.sha256())

    def clear(self) -> None:
        """Remove what the file was made of."""
        self._storage.remove(self._folder)


def _of_bad_rows(line: ChunkLine) -> ChunkLine:
    return replace(line, sha256=line.bad_sha256)


def _whole(path: str) -> str:
    return path if is_url(path) else os.path.realpath(path)
