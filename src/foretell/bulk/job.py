"""The plain path of `foretell predict`: files in, predictions out.

1. read     one thread cuts the files into blocks of some thousands of rows, and waits when enough are on the way
2. run      a thread for each core parses a block, predicts its rows and encodes the answer
3. write    blocks are written in the order in which they were read

At most `threads + 2` blocks are in memory. A fault stops the job, and no file appears.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from foretell import machine
from foretell.bulk.blocks import Block, Predictor, Source
from foretell.bulk.columns import Keep
from foretell.bulk.cut import MAX_ROW_BYTES
from foretell.bulk.drawing import Drawing
from foretell.bulk.encode import to_arrow
from foretell.bulk.pictures import PictureBlock, PictureSource, find_pictures
from foretell.bulk.progress import Progress
from foretell.bulk.sources import find_files, open_source
from foretell.bulk.writer import Output, Writer, output_of
from foretell.errors import ConfigError, InternalError, InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Summary", "predict_files"]

_AHEAD = 2
"""Blocks in memory beyond those that run: the threads find work while the oldest is written."""
_MOST_NOTES = 20


@dataclass(frozen=True, slots=True)
class Summary:
    """What a job did."""

    rows: int
    files: int
    seconds: float
    notes: tuple[str, ...]
    """What was coerced or ignored in the data, one line each."""


@dataclass(frozen=True, slots=True)
class _Done:
    """A block that was run."""

    columns: dict[str, pa.Array]
    encoded: Any
    rows: int
    notes: tuple[str, ...]


def predict_files(
    model: Predictor,
    inputs: Sequence[str],
    out: str | None,
    *,
    keep: Keep = (),
    draw: str | None = None,
    progress: bool = False,
    threads: int | None = None,
    max_row_bytes: int = MAX_ROW_BYTES,
) -> Summary:
    """Predict the rows of files, in their order, in bounded memory.

    Args:
        model: What predicts; called from several threads.
        inputs: Files, folders, globs; "-" is standard input.
        out: File to write, its ending says the format; None writes CSV to standard output.
        keep: Names of input columns to put before the predictions, or "all".
        draw: For pictures: file or folder for copies with what was found in them.
        progress: Whether to show a bar on standard error.
        threads: Blocks run at once; None: one for each core.
        max_row_bytes: Longest row of a text file.

    Returns:
        Rows, files, seconds, and what was coerced.

    Raises:
        InvalidInput: The data is at fault; the message names file, line or row, column and value.
        ConfigError: Nothing is there, or a column to keep is missing or named like an output.
        MachineError: A file may not be read or written, the disk is full.
    """
    began = time.perf_counter()
    of_pictures = model.signature.image is not None
    files = find_pictures(inputs) if of_pictures else find_files(inputs)
    output = output_of(out, files)
    drawing = _drawing(draw, files, keep, of_pictures=of_pictures)
    sources: list[Source]
    if of_pictures:
        sources = [PictureSource(files, threads or machine.cores())]
    else:
        sources = [open_source(f, model.signature, keep, max_row_bytes=max_row_bytes) for f in files]
    collector = _Collector(output)
    with Progress(sources, shown=progress) as bar, output.opened() as file:
        try:
            run = partial(_see, model, output, drawing) if of_pictures else partial(_run, model, output)
            for block, done in _run_all(run, sources, threads or machine.cores()):
                collector.take(file, done)
                bar.advance(block.size_bytes)
            collector.finish(file)
            if drawing is not None:
                drawing.finish()
        finally:
            collector.abandon()
    return Summary(collector.rows, len(files), time.perf_counter() - began, collector.notes)


def _drawing(draw: str | None, files: Sequence[str], keep: Keep, *, of_pictures: bool) -> Drawing | None:
    if of_pictures and keep:
        raise ConfigError("--keep: pictures have no columns; leave it out")
    if draw is None:
        return None
    if not of_pictures:
        raise ConfigError("--draw: the model takes no pictures; leave it out")
    return Drawing(draw, files)


def _run_all(run: Callable[[Block], _Done], sources: Sequence[Source], threads: int) -> Iterator[tuple[Block, _Done]]:
    """Run blocks in threads; yield them in the order in which they were read."""
    waiting: deque[tuple[Source, Block, Future[_Done]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="foretell-bulk")
    settle = _Settler()
    try:
        try:
            for source in sources:
                for block in source.blocks():
                    waiting.append((source, block, pool.submit(run, block)))
                    if len(waiting) >= threads + _AHEAD:
                        yield settle(*waiting.popleft())
        except InvalidInput:
            while waiting:  # a fault in the rows before this one comes first
                settle(*waiting.popleft())
            raise
        while waiting:
            yield settle(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


class _Settler:
    """Waits for blocks in their order, and tells where a fault stands: only now are the rows before it counted."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._rows = 0

    def __call__(self, source: Source, block: Block, future: Future[_Done]) -> tuple[Block, _Done]:
        if source is not self._source:
            self._source, self._rows = source, 0
        try:
            done = future.result()
        except InvalidInput as e:
            if isinstance(block, PictureBlock):
                raise  # it names the file
            if e.row is None:
                raise InvalidInput(f"{block.place(None)}: {e}", column=e.column) from e
            row = self._rows + e.row
            # The model counts rows from the first one it was given.
            text = str(e).replace(f", row {e.row}:", f", row {row}:", 1)
            raise InvalidInput(f"{block.place(e.row)}: {text}", column=e.column, row=row) from e
        self._rows += done.rows
        return block, done


def _see(model: Predictor, output: Output, drawing: Drawing | None, block: Block) -> _Done:
    """Predict some pictures and encode the answer, which has any number of rows. Runs in a thread of its own."""
    rows = block.parse()
    answered = model.predict_pictures(rows.data)
    if drawing is not None:
        drawing.take(rows.data, answered)
    columns = to_arrow(answered.to_columns())
    count = len(next(iter(columns.values())))
    return _Done(columns, output.encode(columns) if count else None, count, answered.notes)


def _run(model: Predictor, output: Output, block: Block) -> _Done:
    """Parse, predict and encode a block. Runs in a thread of its own."""
    rows = block.parse()
    answered = model.predict_arrow(rows.data) if not isinstance(rows.data, list) else model.predict(rows.data)
    answers = to_arrow(answered.to_columns())
    for name in rows.kept:
        if name in answers:
            raise ConfigError(
                f"column {quote(name)}: it is to be kept and an output has the same name; rename it, "
                "or name the columns to keep without it"
            )
    columns = {**rows.kept, **answers}
    wrong = [name for name, column in columns.items() if len(column) != rows.count]
    if wrong:
        raise InternalError(f"column {quote(wrong[0])}: {len(columns[wrong[0]])} rows for {rows.count}. This is a bug.")
    encoded = output.encode(columns) if rows.count else None
    return _Done(columns, encoded, rows.count, (*rows.notes, *answered.notes))


class _Collector:
    """Hands blocks to the writer and counts them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._writer: Writer | None = None
        self._first: dict[str, pa.Array] | None = None
        self._notes: dict[str, None] = {}
        self.rows = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What was said of the blocks, each line once."""
        said = list(self._notes)
        more = [f"and {len(said) - _MOST_NOTES} more"] if len(said) > _MOST_NOTES else []
        return (*said[:_MOST_NOTES], *more)

    def take(self, file: BinaryIO, done: _Done) -> None:
        """Write a block, unless it is empty: its columns have no types to go by."""
        self._notes |= dict.fromkeys(done.notes)
        if self._first is None or (not self.rows and done.rows):
            self._first = done.columns
        if list(done.columns) != list(self._first):
            raise InvalidInput(
                f"columns {', '.join(done.columns)} are to be written, those of the first rows are "
                f"{', '.join(self._first)}; keep columns that all files have"
            )
        self.rows += done.rows
        if done.rows:
            if self._writer is None:
                self._writer = self._output.open_writer(file, self._first)
            self._writer.write(done.encoded)

    def finish(self, file: BinaryIO) -> None:
        """Write what is left; for no rows at all, a file of columns without rows."""
        if self._writer is None:
            if self._first is None:
                raise InternalError("no block was read. This is a bug.")
            self._writer = self._output.open_writer(file, self._first)
        writer, self._writer = self._writer, None
        writer.close()

    def abandon(self) -> None:
        """Let go of a file that will not be finished; it is removed, so what its writer thinks of it is nothing."""
        import pyarrow as pa

        if self._writer is not None:
            with suppress(OSError, ValueError, pa.ArrowException):
                self._writer.close()
