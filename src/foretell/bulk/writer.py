"""Writes what `encode` made to a file that appears when it is whole, or to standard output.

The file grows under another name beside the final one. Knows no model and no thread.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from foretell.bulk.encode import csv_header, encode_csv, encode_jsonl, pack
from foretell.errors import ConfigError, InvalidInput, MachineError
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Output", "Writer", "output_of"]

Columns = Mapping[str, "pa.Array"]

_GROUP_BYTES = 1 << 25
_GROUP_ROWS = 1 << 17
"""A Parquet row group is written once it has so many bytes or rows."""


class Writer(Protocol):
    """Writes blocks in one format."""

    def write(self, block: Any) -> None:
        """Write what `Output.encode` made of a block."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Output:
    """Where predictions go, and in which format."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        lower = (target or "stdout.csv").lower()
        is_packed = lower.endswith((".csv.gz", ".jsonl.gz", ".ndjson.gz"))
        ending = os.path.splitext(lower.removesuffix(".gz") if is_packed else lower)[1]
        kind = {".jsonl": ".jsonl", ".ndjson": ".jsonl", ".ipc": ".arrow", ".feather": ".arrow"}.get(ending, ending)
        known: dict[str, tuple[Callable[[Columns], Any], Callable[[BinaryIO, Columns, bool], Writer]]] = {
            ".csv": (encode_csv, _CsvWriter),
            ".jsonl": (encode_jsonl, _LineWriter),
            ".parquet": (_batch, _ParquetWriter),
            ".arrow": (_plain_batch, _ArrowWriter),
        }
        if kind not in known:
            raise ConfigError(
                f'output "{target}": the ending says the format, expected .csv .jsonl .parquet or .arrow '
                "(.gz after the first two)"
            )
        encode, self._writer = known[kind]
        self._is_packed = is_packed
        self.encode: Callable[[Columns], Any] = pack(encode) if is_packed else encode
        """Turns columns into what the writer takes. Safe to call from several threads."""

    def open_writer(self, file: BinaryIO, first: Columns) -> Writer:
        """Return a writer for columns like those of the first block."""
        return self._writer(file, first, self._is_packed)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file, or standard output. On an error nothing is left behind.

        Raises:
            ConfigError: The folder does not exist, or the target is a folder.
            MachineError: No permission, or the disk is full.
        """
        if self.target is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        path = Path(os.path.realpath(self.target))
        if path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            with _writing(self.target), path.open("wb") as file:  # a pipe or a device: nothing to rename
                yield file
            return
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with _writing(self.target):
            _check_folder(path, self.target)
            file = part.open("xb")
            try:
                with file:
                    yield file
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)


def output_of(target: str | None, inputs: list[str]) -> Output:
    """Return the output of a job.

    Raises:
        ConfigError: An unknown ending, or the target is one of the inputs.
    """
    output = Output(target)
    if target is not None and os.path.isfile(target):
        for given in inputs:
            if os.path.exists(given) and os.path.samefile(given, target):
                raise ConfigError(f'output "{target}": this is an input too; write to another file')
    return output


class _LineWriter:
    def __init__(self, file: BinaryIO, first: Columns, is_packed: bool) -> None:
        self._file = file

    def write(self, block: bytes) -> None:
        self._file.write(block)

    def close(self) -> None:
        pass


class _CsvWriter(_LineWriter):
    def __init__(self, file: BinaryIO, first: Columns, is_packed: bool) -> None:
        super().__init__(file, first, is_packed)
        header = csv_header(list(first))
        file.write(pack(lambda _: header)({}) if is_packed else header)


class _ParquetWriter:
    def __init__(self, file: BinaryIO, first: Columns, is_packed: bool) -> None:
        import pyarrow.parquet as pq

        self._schema = _batch(first).schema
        self._writer = pq.ParquetWriter(file, self._schema)
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = self._rows = 0

    def write(self, block: pa.RecordBatch) -> None:
        block = _like(block, self._schema)
        self._waiting.append(block)
        self._bytes += block.nbytes
        self._rows += block.num_rows
        if self._bytes >= _GROUP_BYTES or self._rows >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=self._rows or 1)
        self._waiting, self._bytes, self._rows = [], 0, 0


class _ArrowWriter:
    def __init__(self, file: BinaryIO, first: Columns, is_packed: bool) -> None:
        import pyarrow as pa

        self._schema = _plain_batch(first).schema
        self._writer = pa.ipc.new_file(file, self._schema)

    def write(self, block: pa.RecordBatch) -> None:
        self._writer.write_batch(_like(block, self._schema))

    def close(self) -> None:
        self._writer.close()


def _batch(columns: Columns) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _plain_batch(columns: Columns) -> pa.RecordBatch:
    """Return a batch whose dictionaries are resolved: a file of Arrow IPC has one dictionary for all batches."""
    import pyarrow as pa

    return _batch({n: c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for n, c in columns.items()})


def _like(block: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a block with the types of the first one: those of a text file may differ from block to block."""
    import pyarrow as pa

    if block.schema == schema:
        return block
    columns = []
    for column, field in zip(block.columns, schema, strict=True):
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise InvalidInput(
                f"column {quote(field.name)}: {column.type} here, {field.type} in the first rows; write CSV instead",
                column=field.name,
            ) from e
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _check_folder(path: Path, target: str) -> None:
    if path.is_dir():
        raise ConfigError(f'output "{target}": this is a folder, expected a file; add a name')
    if not path.parent.is_dir():
        raise ConfigError(f'output "{target}": there is no folder "{path.parent}"; make it first')


@contextmanager
def _writing(target: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space" if full else "check its permissions"
        raise MachineError(f'output "{target}": cannot be written ({e.strerror or e}); {advice}') from e
