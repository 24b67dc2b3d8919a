"""What is not resumed: standard input and output, pipes and devices, pictures. Rows are written as they come, in order.

A file of the output appears when it is whole, as with any job; what was done is lost if the run ends before.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import BinaryIO

from foretell.bulk.answering import Answer, Refusal
from foretell.bulk.blocks import Source
from foretell.bulk.chunks import Chunk, blocks_as_chunks, named
from foretell.bulk.crew import ThreadCrew
from foretell.bulk.formats import FORMATS, Format, format_named, format_of
from foretell.bulk.places import storage_of
from foretell.bulk.progress import Progress
from foretell.bulk.quarantine import quarantining
from foretell.bulk.spent import Spent
from foretell.bulk.summary import Summary, few
from foretell.bulk.tally import Tally
from foretell.bulk.targets import check_file, no_format
from foretell.bulk.writer import Writer
from foretell.errors import InvalidInput

__all__ = ["go_straight", "in_order", "is_stream", "opened", "refused", "stream_format"]

Work = Callable[[Chunk, threading.Event], Answer]


def is_stream(path: str) -> bool:
    """Whether an output is a pipe or a device: there is nothing to rename."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def go_straight(
    work: Work,
    sources: Sequence[Source],
    paths: Sequence[str],
    out: str | None,
    kind: Format,
    bar: Progress,
    workers: int,
    began: float,
    quarantine: str | None = None,
) -> Summary:
    """Answer all rows and write them in order.

    Args:
        work: Answers a chunk.
        sources: The files.
        paths: Of the files.
        out: File, pipe or device to write; None: standard output.
        kind: Its format.
        bar: Shows how far it is.
        workers: Chunks answered at once.
        began: When, on `time.perf_counter`.
        quarantine: File for rows that got no answer.

    Raises:
        InvalidInput: The data is at fault.
        MachineError: The disk is full.
    """
    read, told = Spent(), _Told()
    chunks = read.over("read", named(blocks_as_chunks(sources), paths))
    with ExitStack() as stack:
        writer = Writer(stack.enter_context(opened(out)), kind)
        take_bad = stack.enter_context(quarantining(quarantine))[0] if quarantine is not None else None
        stack.callback(writer.abandon)
        with closing(ThreadCrew(work, workers).run(chunks)) as done:
            for chunk, answer in in_order(done):
                told.add(chunk, answer)
                with told.spent.on("write"):
                    writer.append(answer.columns, answer.encoded, answer.rows)
                    if take_bad is not None and answer.errors:
                        take_bad(answer.quarantined, answer.errors)
                bar.advance(chunk.size_bytes, answer.read_rows, answer.errors)
        with told.spent.on("write"):
            writer.finish()
    told.spent.add(read.seconds)
    return Summary(
        writer.rows,
        len(sources),
        time.perf_counter() - began,
        few(tuple(told.notes)),
        errors=told.errors,
        read_rows=sum(told.rows_of_file.values()),
        out=out,
        quarantine=quarantine,
        spent_s=told.spent.seconds,
        predictions=told.tally.summary(),
    )


class _Told:
    """What is said of chunks, added up in their order."""

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}
        self.rows_of_file: dict[int, int] = {}
        self.errors = 0
        self.tally = Tally()
        self.spent = Spent()

    def add(self, chunk: Chunk, answer: Answer) -> None:
        before = self.rows_of_file.get(chunk.file, 0)
        if answer.refusal is not None:
            raise refused(answer.refusal, before)
        self.rows_of_file[chunk.file] = before + answer.read_rows
        self.notes |= dict.fromkeys(answer.notes)
        self.errors += answer.errors
        self.spent.add(answer.spent_s)
        if answer.tally is not None:
            self.tally.add(Tally.from_json(answer.tally))


def refused(refusal: Refusal, rows_before: int) -> InvalidInput:
    """Return the error for a chunk that ends the job, its row counted from the first of the file."""
    text, row = refusal.text, None
    if refusal.row is not None:
        row = rows_before + refusal.row
        # The model counts rows from the first one it was given.
        text = text.replace(f", row {refusal.row_in_text}:", f", row {row}:", 1)
    place = f"{refusal.place}: " if refusal.place else ""
    return InvalidInput(f"{place}{text}", column=refusal.column, row=row)


def in_order(done: Iterator[tuple[Chunk, Answer]]) -> Iterator[tuple[Chunk, Answer]]:
    """Yield answers in the order of their chunks."""
    waiting: dict[int, tuple[Chunk, Answer]] = {}
    number = 0
    for chunk, answer in done:
        waiting[chunk.number] = (chunk, answer)
        while number in waiting:
            yield waiting.pop(number)
            number += 1


@contextmanager
def opened(out: str | None) -> Iterator[BinaryIO]:
    """Open what is written: standard output, a pipe, or a file that takes its name when the block ends well."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif is_stream(out):
        with open(out, "wb") as file:
            yield file
    else:
        with storage_of(out).creating(out) as file:
            yield file


def stream_format(out: str | None, format_name: str | None) -> Format:
    """Return the format of an output that is no job of its own: CSV on standard output.

    Raises:
        ConfigError: The name says none, is that of a folder, or lies in a folder that is not there.
    """
    if out is not None and not is_stream(out):
        check_file(out)
    if format_name is not None:
        return format_named(format_name)
    found = FORMATS["csv"] if out is None else format_of(out)
    if found is None:
        raise no_format(str(out))
    return found
