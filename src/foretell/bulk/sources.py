"""From what the user names to files that can be read: folders, globs, "-"; judged by content first, by name second."""

from __future__ import annotations

import glob
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from foretell.bulk.arrow import ArrowSource, ParquetSource
from foretell.bulk.blocks import START, Block, Mark, Opens, Source
from foretell.bulk.columns import Keep
from foretell.bulk.cut import MAX_ROW_BYTES
from foretell.bulk.delimited import DelimitedSource
from foretell.bulk.far import Far, length_of
from foretell.bulk.jsonl import JsonLinesSource
from foretell.bulk.places import is_url, remote_of, storage_of
from foretell.errors import ConfigError, InvalidInput, MachineError
from foretell.signature import Signature

__all__ = ["STDIN", "find_files", "judged", "open_source"]

STDIN = "-"
_ENDINGS = (
    *(".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
    *(".parquet", ".arrow", ".arrows", ".ipc", ".feather"),
)
"""Files that are taken from a folder. A file that is named itself may have any name."""
_PARQUET_NAMES = (".parquet", ".pq")
_ARROW_NAMES = (".arrow", ".arrows", ".ipc", ".feather")
_JSONL_NAMES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_STREAM_BUFFER_BYTES = 1 << 18


def find_files(inputs: Sequence[str]) -> list[str]:
    """Return the files that the inputs name, those of a folder or a glob in the order of their names.

    Raises:
        ConfigError: Nothing is there.
    """
    found: list[str] = []
    for given in inputs:
        path = Path(given)
        if is_url(given):
            found += _far_files(given)
        elif given == STDIN or path.is_file():
            found.append(given)
        elif path.is_dir():
            found += _in_folder(path)
        elif path.exists():
            found.append(given)  # a pipe, such as /dev/fd/63
        elif glob.has_magic(given):
            matches = sorted(m for m in glob.glob(given, recursive=True) if os.path.isfile(m))
            if not matches:
                raise ConfigError(f'input "{given}": no file matches; check the pattern')
            found += matches
        else:
            raise ConfigError(f'input "{given}": there is no such file or folder; check the path')
    if found.count(STDIN) > 1:
        raise ConfigError('input "-": standard input can be read once only; name it once')
    return found


def open_source(given: str, signature: Signature, keep: Keep, *, max_row_bytes: int = MAX_ROW_BYTES) -> Source:
    """Judge a file and return what reads it.

    Raises:
        InvalidInput: It is not what its name says, or nothing that can be read.
        MachineError: It may not be read.
    """
    name = "stdin" if given == STDIN else os.path.basename(given)
    path = Path(given)
    if is_url(given):
        return _FarSource(Far(given, storage_of(given).size_bytes(given)), name, signature, keep, max_row_bytes)
    if given == STDIN or not path.is_file():
        return _of_pipe(given, name, signature, keep, max_row_bytes)
    return _judged(path, name, signature, keep, max_row_bytes)


def _judged(file: Path | Far, name: str, signature: Signature, keep: Keep, max_row_bytes: int) -> Source:
    with _open(file, name) as opened:
        start = opened.read(4096)
    lower = name.lower()
    if start[:4] == b"PAR1":
        return ParquetSource(file, name, signature, keep)
    if start[:6] == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
        return ArrowSource(file, name, signature, keep, is_stream=start[:6] != b"ARROW1")
    for endings, what in ((_PARQUET_NAMES, "Parquet"), (_ARROW_NAMES, "Arrow IPC")):
        if lower.endswith(endings):
            is_old = start[:4] == b"FEA1"
            got = "a Feather file of version 1" if is_old else f"{start[:8]!r}" if start else "an empty file"
            raise InvalidInput(f"{name}: the name says {what}, the file starts with {got}; write it again")
    is_packed = start[:2] == b"\x1f\x8b"
    open_stream: Opens = partial(_open_gzip if is_packed else _open, file, name)
    if is_packed:
        with open_stream() as stream:
            start = stream.read(4096)
    size_bytes = 0 if is_packed else length_of(file)
    if _is_json_lines(start, lower, name):
        return JsonLinesSource(name, open_stream, size_bytes, keep, max_row_bytes=max_row_bytes)
    return DelimitedSource(name, open_stream, size_bytes, signature, keep, max_row_bytes=max_row_bytes)


def judged(source: Source) -> Source:
    """Return what a source is once its file is looked into: see `_FarSource`."""
    return source.judged() if isinstance(source, _FarSource) else source


class _FarSource:
    """A file by its URL, judged when its turn comes: of ten thousand, each would keep the job waiting at its start."""

    def __init__(self, file: Far, name: str, signature: Signature, keep: Keep, max_row_bytes: int) -> None:
        self.name = name
        self.size_bytes = file.size_bytes
        self.judged = partial(_judged, file, name, signature, keep, max_row_bytes)

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        yield from self.judged().blocks(start)

    def count_rows(self) -> int | None:
        """Return how many rows it has, None where it does not say."""
        count = getattr(self.judged(), "count_rows", None)
        return None if count is None else cast("int | None", count())


def _of_pipe(given: str, name: str, signature: Signature, keep: Keep, max_row_bytes: int) -> Source:
    """Judge a stream that is read once."""
    raw = sys.stdin.buffer if given == STDIN else cast("BinaryIO", open(given, "rb"))  # noqa: SIM115 - the source closes it
    stream: io.BufferedReader = (
        raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw))
    )
    start = stream.peek(4096)
    if start[:2] == b"\x1f\x8b":
        stream = io.BufferedReader(_Unpacked(stream, name))
        start = stream.peek(4096)
    if start[:4] == b"PAR1" or start[:6] == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
        raise ConfigError(f"{name}: a pipe gives CSV or JSON Lines, this is Parquet or Arrow; name the file")
    opened = partial(_once, stream)
    if _is_json_lines(start, name, name):
        return JsonLinesSource(name, opened, 0, keep, max_row_bytes=max_row_bytes)
    return DelimitedSource(name, opened, 0, signature, keep, can_reopen=False, max_row_bytes=max_row_bytes)


def _is_json_lines(first: bytes, lower_name: str, name: str) -> bool:
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"[" and lower_name.endswith((".json", *_JSONL_NAMES)):
        raise InvalidInput(f'{name}: a JSON list, expected an object a line; write it as JSON Lines ("lines=True")')
    return text[:1] == b"{" or lower_name.endswith(_JSONL_NAMES)


def _in_folder(folder: Path) -> list[str]:
    files = [p for p in sorted(folder.rglob("*")) if _is_data(p.relative_to(folder).parts) and p.is_file()]
    if not files:
        raise _no_data(str(folder))
    return [str(p) for p in files]


def _far_files(given: str) -> list[str]:
    """Return the files that a URL names: itself, what it matches, or what is below it."""
    place = remote_of(given)
    if place.is_file(given):
        return [given]
    if glob.has_magic(given):
        matches = place.matching(given)
        if not matches:
            raise ConfigError(f'input "{given}": no file matches; check the pattern')
        return matches
    below = given.rstrip("/") + "/"
    files = [f for f in place.files_in(below) if _is_data(f.removeprefix(below).split("/"))]
    if not files:
        raise _no_data(given)
    return files


def _is_data(parts: Sequence[str]) -> bool:
    """Whether a file of a folder is taken, by its path below the folder."""
    return parts[-1].lower().endswith(_ENDINGS) and not any(part.startswith((".", "_")) for part in parts)


def _no_data(folder: str) -> ConfigError:
    return ConfigError(f'input "{folder}": a folder without data files, expected some of {", ".join(_ENDINGS)}')


def _open(file: Path | Far, name: str) -> BinaryIO:
    if isinstance(file, Far):
        return file.open()
    with _may_open(name):
        return file.open("rb")


def _open_gzip(file: Path | Far, name: str) -> BinaryIO:
    packed = _open(file, name)
    return cast("BinaryIO", io.BufferedReader(_Unpacked(packed, name), _STREAM_BUFFER_BYTES))


@contextmanager
def _once(stream: BinaryIO) -> Iterator[BinaryIO]:
    yield stream


@contextmanager
def _may_open(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise MachineError(f"{name}: cannot be read ({e.strerror}); check its permissions") from e


class _Unpacked(io.RawIOBase):
    """A gzip stream whose faults are the data's. Closes what it reads."""

    def __init__(self, packed: BinaryIO, name: str) -> None:
        self._packed = packed
        self._plain = gzip.GzipFile(fileobj=packed)
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            return self._plain.readinto(buffer)
        except (OSError, EOFError, zlib.error) as e:
            raise InvalidInput(f"{self._name}: the gzip archive is damaged or cut off ({e}); pack it again") from e

    def close(self) -> None:
        if not self.closed:
            self._plain.close()
            self._packed.close()
        super().close()
