"""Pictures in, what was found in them out: folders, files, or one picture on standard input.

Pictures are answered a few at a time, on all cores, and written in their order. A job of pictures is not resumed. A
broken one ends it, or is left out and told of.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from foretell import machine
from foretell.bulk.answering import Answer, How, OnError, Refusal, encode_rows
from foretell.bulk.bad_rows import BadRow, bad_columns
from foretell.bulk.blocks import AnsweredPictures, Predictor
from foretell.bulk.chunks import Chunk
from foretell.bulk.columns import Keep
from foretell.bulk.drawing import Drawing
from foretell.bulk.encode import to_arrow
from foretell.bulk.formats import FORMATS
from foretell.bulk.pictures import PictureBlock, PictureSource, find_pictures
from foretell.bulk.progress import Progress, Shown
from foretell.bulk.quarantine import check_quarantine, quarantine_format
from foretell.bulk.sources import STDIN
from foretell.bulk.spent import Spent
from foretell.bulk.straight import go_straight, stream_format
from foretell.bulk.summary import Summary
from foretell.bulk.tally import Tally
from foretell.errors import ConfigError, InternalError, InvalidInput
from foretell.model.data.image_probe import Limits

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["predict_pictures"]


def predict_pictures(
    model: Predictor,
    inputs: Sequence[str],
    out: str | None,
    *,
    keep: Keep = (),
    draw: str | None = None,
    format_name: str | None = None,
    on_error: OnError = "fail",
    quarantine: str | None = None,
    progress: Shown = "nothing",
    threads: int | None = None,
) -> Summary:
    """Predict pictures; see `job.predict_files`, of which this is the part for them.

    Raises:
        InvalidInput: A picture is broken, and that ends the job.
        ConfigError: Nothing is there, or what is asked for cannot be.
        MachineError: A file may not be read or written, the disk is full.
    """
    began, workers = time.perf_counter(), threads or machine.cores()
    if keep:
        raise ConfigError("--keep: pictures have no columns; leave it out")
    files = [STDIN] if list(inputs) == [STDIN] else find_pictures(inputs)
    kind = stream_format(out, format_name)
    drawing = None if draw is None else Drawing(draw, files)
    if quarantine is not None:
        check_quarantine(quarantine, files, [], [out or ""])
    bad_kind = FORMATS["jsonl"].part if quarantine is None else quarantine_format(quarantine).part
    source = PictureSource(files, workers) if files != [STDIN] else PictureSource([STDIN], contents=[_stdin()])
    work = partial(_answer, model, How((kind.part,), on_error, bad_kind), drawing)
    with Progress([source], shown=progress) as bar:
        summary = go_straight(work, [source], files[:1], out, kind, bar, workers, began, quarantine)
    if drawing is not None:
        drawing.finish()
    return replace(summary, files=len(files))


def _stdin() -> bytes:
    """Read a picture; one that is over the limit is judged by that."""
    return sys.stdin.buffer.read(Limits().bytes + 1)


def _answer(model: Predictor, how: How, drawing: Drawing | None, chunk: Chunk, stop: threading.Event) -> Answer:
    """Predict some pictures, and draw copies; the answer has any number of rows."""
    (block,) = chunk.blocks
    if not isinstance(block, PictureBlock):
        raise InternalError(f"{chunk.path}: rows among pictures. This is a bug.")
    spent, tally = Spent(), Tally()
    with spent.on("predict"):
        try:
            files, answered, bad = _predicted(model, block, skips=how.on_error != "fail")
        except InvalidInput as e:  # it names the file
            return Answer(b"", (), 0, 0, refusal=Refusal(str(e), "", None, None, e.column))
        if drawing is not None:
            drawing.take(files, answered)
    with spent.on("encode"):
        columns = _columns(answered, files)
        tally.take(columns)
        count = len(columns["source"])
        keeps = bad and how.on_error == "quarantine"
        return Answer(
            encode_rows(how.kind_of(chunk), [columns]),
            tuple(columns),
            count,
            len(block.files),
            errors=len(bad),
            quarantined=encode_rows(how.bad_kind, [bad_columns(bad)]) if keeps else b"",
            notes=answered.notes,
            tally=tally.to_json(),
            spent_s=spent.seconds,
        )


def _predicted(
    model: Predictor, block: PictureBlock, *, skips: bool
) -> tuple[list[str], AnsweredPictures, list[BadRow]]:
    """Predict the pictures of a block; return the files that were answered, their predictions, and the broken ones."""
    files, pictures, bad = list(block.files), list(block.pictures), list[BadRow]()
    while True:
        try:
            return files, model.predict_pictures(pictures), bad
        except InvalidInput as e:
            if e.row is None or not skips:
                raise
            file = files.pop(e.row)
            del pictures[e.row]
            # The name that the message begins with is a column of its own.
            bad.append(BadRow(file, None, None, None, str(e).partition('": ')[2] or str(e), file))


def _columns(answered: AnsweredPictures, files: Sequence[str]) -> dict[str, pa.Array]:
    """Return the columns of the output; the picture of standard input is called by its sign."""
    columns = answered.to_columns()
    if not files or list(files) == [STDIN]:
        rows = len(next(iter(columns.values())))
        columns = {"source": np.full(rows, STDIN, object if rows else str)} | {
            name: column for name, column in columns.items() if name != "source"
        }
    return to_arrow(columns)
