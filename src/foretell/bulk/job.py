"""The way of `foretell predict`: files in, predictions out, exactly once.

1. plan       which files, where their answers go; is there a job like this one already, and how far is it
2. answer     a crew answers chunks: parse, predict, encode
3. commit     each answer is written aside as a part, synced, renamed; then one line in the journal
4. assemble   outputs grow from parts in order, and take their names when they are whole

Whenever it is killed, the same call goes on behind the last line of the journal, and the bytes in the end are those of
an undisturbed run. At most `workers + 1` chunks are in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from foretell import machine
from foretell.bulk.answering import How, OnError, answer
from foretell.bulk.blocks import Predictor
from foretell.bulk.chunks import CHUNK_ROWS
from foretell.bulk.columns import Keep
from foretell.bulk.crew import Crew, ThreadCrew
from foretell.bulk.cut import MAX_ROW_BYTES
from foretell.bulk.plan import given_by, plan_of
from foretell.bulk.progress import Progress, Shown
from foretell.bulk.quarantine import check_quarantine, quarantine_format
from foretell.bulk.running import Interrupted, run_job
from foretell.bulk.seeing import predict_pictures
from foretell.bulk.sources import STDIN, open_source
from foretell.bulk.straight import go_straight, is_stream, stream_format
from foretell.bulk.summary import Summary
from foretell.errors import ConfigError

__all__ = ["Interrupted", "MakesCrew", "Summary", "predict_files"]

MakesCrew = Callable[[How], Crew]
"""Makes who answers chunks, such as a cluster, once it is known how."""


def predict_files(
    model: Predictor,
    inputs: Sequence[str],
    out: str | None,
    *,
    keep: Keep = (),
    draw: str | None = None,
    progress: Shown = "nothing",
    threads: int | None = None,
    max_row_bytes: int = MAX_ROW_BYTES,
    chunk_rows: int = CHUNK_ROWS,
    format_name: str | None = None,
    on_error: OnError = "fail",
    quarantine: str | None = None,
    overwrite: bool = False,
    model_digest: str = "",
    crew: MakesCrew | None = None,
) -> Summary:
    """Predict the rows of files, in their order, in bounded memory; go on where a run before this one ended.

    Args:
        model: What predicts; called from several threads.
        inputs: Files, folders, globs; "-" is standard input.
        out: File to write, its ending says the format; or a folder for a file per input; None writes CSV to standard
            output.
        keep: Names of input columns to put before the predictions, or "all".
        draw: For pictures: file or folder for copies with what was found in them.
        progress: What is shown on standard error while it runs.
        threads: Chunks answered at once; None: one for each core.
        max_row_bytes: Longest row of a text file.
        chunk_rows: About so many rows are answered, and put into the journal, at once.
        format_name: Of the output, one of `formats.FORMATS`; None: that of the name, in a folder those of the inputs.
        on_error: What becomes of rows that cannot be answered.
        quarantine: File that they go to, its ending says the format; if `on_error` says so.
        overwrite: Start anew, whatever is there.
        model_digest: Says which model this is.
        crew: Makes who answers chunks; None: threads of this process.

    Returns:
        Rows, files, seconds, and what was coerced.

    Raises:
        InvalidInput: The data is at fault; the message names file, line or row, column and value.
        ConfigError: Nothing is there, a column to keep is missing or named like an output, or what is there is of
            another job.
        MachineError: A file may not be read or written, the disk is full.
        Interrupted: Ctrl-C.
    """
    began = time.perf_counter()
    workers = threads or machine.cores()
    if model.signature.image is not None:
        _stay_here(crew)
        return predict_pictures(
            model,
            inputs,
            out,
            keep=keep,
            draw=draw,
            format_name=format_name,
            on_error=on_error,
            quarantine=quarantine,
            progress=progress,
            threads=threads,
        )
    if draw is not None:
        raise ConfigError("--draw: the model takes no pictures; leave it out")
    given = given_by(inputs)
    sources = [open_source(g.path, model.signature, keep, max_row_bytes=max_row_bytes) for g in given]
    if out is None or is_stream(out) or any(g.path == STDIN or is_stream(g.path) for g in given):
        _stay_here(crew)
        kind = stream_format(out, format_name)
        bad_kind = "jsonl" if quarantine is None else quarantine_format(quarantine).part
        work = partial(answer, model, How((kind.part,), on_error, bad_kind))
        if quarantine is not None:
            check_quarantine(quarantine, [g.path for g in given], [], [out or ""])
        paths = [g.path for g in given]
        with Progress(sources, shown=progress) as bar:
            return go_straight(work, sources, paths, out, kind, bar, workers, began, quarantine)
    plan = plan_of(given, sources, out, format_name, keep, on_error, chunk_rows, model_digest, quarantine)
    made = crew(plan.how) if crew is not None else ThreadCrew(partial(answer, model, plan.how), workers)
    with plan.storage.holding(plan.lock_path), Progress(sources, shown=progress) as bar:
        return run_job(plan, made, bar, began, overwrite=overwrite)


def _stay_here(crew: MakesCrew | None) -> None:
    if crew is not None:
        raise ConfigError("--on: only rows of files, into files, are answered on a cluster; name them, and -o OUT")
