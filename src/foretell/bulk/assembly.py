"""Makes the files of the output of their parts, in order, as far as the parts go.

A file grows aside and takes its name when it is whole and synced; then the journal says so, and its parts are removed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, BinaryIO

from foretell.bulk.journal import ChunkLine, Journal, OutputLine
from foretell.bulk.parts import Parts
from foretell.bulk.storage import Storage
from foretell.bulk.targets import Target, Targets
from foretell.bulk.writer import Writer
from foretell.errors import InternalError

__all__ = ["Assembly", "Hashed"]

_MOST_HELD = 8
"""Parts that came too early and stay in memory; more are read again when it is their turn."""


class Assembly:
    """Grows one output after the other."""

    def __init__(
        self, storage: Storage, targets: Targets, journal: Journal, parts: Parts, complete: Mapping[int, OutputLine]
    ) -> None:
        self._storage = storage
        self._targets = targets
        self._journal = journal
        self._parts = parts
        self._of_file = {file: at for at, target in enumerate(targets.each) for file in target.files}
        self.complete = dict(complete)
        self._next = 0
        self._waiting: dict[int, tuple[ChunkLine, bytes | None]] = {}
        self._growing: _Growing | None = None

    def take(self, line: ChunkLine, encoded: bytes | None = None) -> None:
        """Append a part, and those behind it that came before, if it is its turn.

        Args:
            line: What the journal says of it.
            encoded: The part, if it is at hand.
        """
        self._waiting[line.chunk] = (line, encoded if len(self._waiting) < _MOST_HELD else None)
        self._go_on()

    def write_whole(self, line: ChunkLine, encoded: bytes) -> OutputLine | None:
        """Write the output of a chunk that is all of it, if it is its turn: it needs no part.

        Returns:
            What is to be put into the journal with the line of the chunk; None if the chunk needs a part.
        """
        index = self._of_file[line.file]
        target = self._targets.each[index]
        is_whole = line.begins.at == 0 and line.is_last and target.files == (line.file,)
        if not is_whole or self._next != line.chunk or index in self.complete:
            return None
        self._growing = _Growing(self._storage, target)
        self._growing.append(line, encoded)
        return self._finish(index)

    def whole_done(self, output: OutputLine) -> None:
        """Go on behind an output that `write_whole` wrote and the journal has."""
        self.complete[output.output] = output
        self._next += 1
        self._go_on()

    def _go_on(self) -> None:
        while self._next in self._waiting:
            self._append(*self._waiting.pop(self._next))
            self._next += 1

    def _finish(self, index: int) -> OutputLine:
        growing, target = self._growing, self._targets.each[index]
        if growing is None:
            raise InternalError(f'"{target.path}": it is finished and not begun. This is a bug.')
        file_bytes, sha256 = growing.finish()
        self._growing = None
        return OutputLine(index, target.path, growing.rows, file_bytes, sha256)

    def abandon(self) -> None:
        """Let go of the output that is not whole. Its parts stay."""
        if self._growing is not None:
            self._growing.abandon()
            self._growing = None

    def _append(self, line: ChunkLine, encoded: bytes | None) -> None:
        index = self._of_file[line.file]
        if index in self.complete:
            return
        target = self._targets.each[index]
        if self._growing is None:
            self._growing = _Growing(self._storage, target)
        growing = self._growing
        growing.append(line, self._parts.read(line) if encoded is None else encoded)
        if line.is_last and line.file == target.files[-1]:
            self.complete[index] = self._finish(index)
            self._journal.output_done(self.complete[index])
            for chunk in growing.chunks:
                self._parts.remove(chunk)


class _Abandoned(Exception):
    """Ends what is written without giving it a name."""


class _Growing:
    """An output that is not whole yet."""

    def __init__(self, storage: Storage, target: Target) -> None:
        self._stack = ExitStack()
        file = self._stack.enter_context(storage.creating(target.path))
        self._file = Hashed(file)
        self._writer = Writer(self._file, target.format)  # type: ignore[arg-type]
        self.chunks: list[int] = []

    @property
    def rows(self) -> int:
        return self._writer.rows

    def append(self, line: ChunkLine, encoded: bytes) -> None:
        with self._or_ended():
            self._writer.append(line.columns, encoded, line.rows)
        self.chunks.append(line.chunk)

    def finish(self) -> tuple[int, str]:
        """Give the file its name; return its bytes and sha256."""
        with self._or_ended():
            self._writer.finish()
        self._stack.close()
        return self._file.tell(), self._file.sha256()

    def abandon(self) -> None:
        self._writer.abandon()
        with suppress(_Abandoned), self._stack:
            raise _Abandoned

    @contextmanager
    def _or_ended(self) -> Iterator[None]:
        """Let the storage see an error, which says it in its own words."""
        try:
            yield
        except BaseException:
            with self._stack:
                raise


class Hashed(io.RawIOBase):
    """Hashes what is written on its way to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._at = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write and hash some bytes."""
        self._digest.update(data)
        self._file.write(data)
        count = memoryview(data).nbytes
        self._at += count
        return count

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._at

    def sha256(self) -> str:
        """Return the digest of what was written."""
        return self._digest.hexdigest()
