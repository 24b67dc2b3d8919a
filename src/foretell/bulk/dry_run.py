"""What a job would do, without writing anything: its files, columns, outputs, and how long it takes by a sample.

The sample are the first rows, really read, predicted and encoded for a short time, by as many threads as the job has.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain

from foretell.bulk.answering import Answer, OnError, answer
from foretell.bulk.blocks import Block, Predictor, Source
from foretell.bulk.chunks import CHUNK_ROWS, blocks_as_chunks
from foretell.bulk.columns import Keep
from foretell.bulk.crew import ThreadCrew
from foretell.bulk.forecast import Columns, FileForecast, Forecast
from foretell.bulk.formats import Format
from foretell.bulk.identity import what_changed
from foretell.bulk.journal import Journal
from foretell.bulk.places import storage_of
from foretell.bulk.plan import Plan, given_by, plan_of
from foretell.bulk.sources import STDIN, open_source
from foretell.bulk.straight import in_order, is_stream, refused
from foretell.bulk.writer import Writer
from foretell.errors import ConfigError, InvalidInput
from foretell.signature import Signature

__all__ = ["forecast", "plan_for"]

_SAMPLE_S = 2.0
_MOST_LOOKED_AT = 100
"""Files whose columns are held against the model's."""
_NO_MODEL = Signature(inputs=(), outputs=())


def plan_for(
    model: Predictor,
    inputs: Sequence[str],
    out: str,
    *,
    keep: Keep,
    format_name: str | None,
    chunk_rows: int | None,
    model_digest: str,
    on_error: OnError,
    quarantine: str | None = None,
) -> Plan:
    """Return the plan of a job, as `predict_files` makes it.

    Raises:
        ConfigError: Nothing is there, the output cannot be, or something can be read or written once only.
    """
    given = given_by(inputs)
    once = [path for path in (out, *(g.path for g in given)) if path == STDIN or is_stream(path)]
    if once:
        raise ConfigError(f'--dry-run: "{once[0]}" can be read or written once only; name files')
    sources = [open_source(g.path, model.signature, keep) for g in given]
    rows = chunk_rows or CHUNK_ROWS
    return plan_of(given, sources, out, format_name, keep, on_error, rows, model_digest, quarantine)


def forecast(model: Predictor, plan: Plan, keep: Keep, workers: int, *, overwrite: bool = False) -> Forecast:
    """Say what a job would do.

    Args:
        model: What predicts.
        plan: Of the job.
        keep: Columns to keep.
        workers: Threads of the job.
        overwrite: Whether it would start anew.

    Raises:
        InvalidInput: The job would end so: a column is missing, or a row of the sample is bad.
    """
    for source in plan.sources[:_MOST_LOOKED_AT]:
        _first_block(source)
    columns = _columns(model, plan, keep)
    kind_of = {file: target.format for target in plan.targets.each for file in target.files}
    sample = _run_sample(partial(answer, model, plan.how), plan.sources, kind_of, workers)
    files = [_file(plan, at, sample) for at in range(len(plan.sources))]
    state, done_rows = _state(plan, overwrite=overwrite)
    return Forecast(
        plan.out,
        files,
        Columns(*columns, sample.columns),
        plan.chunk_rows,
        state,
        done_rows,
        workers,
        sample.read_rows,
        sample.rows_per_s,
        sample.output_bytes_per_row,
    )


def _columns(model: Predictor, plan: Plan, keep: Keep) -> tuple[list[str], list[str], list[str]]:
    """Return the columns of the first file: used, ignored, kept."""
    names = _names(open_source(plan.paths[0], _NO_MODEL, "all"))
    kept = names if keep == "all" else list(dict.fromkeys(keep))
    fields = {f.name for f in model.signature.fields}
    used = [name for name in names if name in fields]
    if not used and not model.signature.named:
        used = [name for name in names if keep == "all" or name not in kept]  # they go by position
    return used, [name for name in names if name not in used and name not in kept], kept


def _first_block(source: Source) -> Block:
    """Return the first block of a file; its columns are held against the model's before."""
    return next(iter(source.blocks()))


def _names(source: Source) -> list[str]:
    """Return the names of all columns of a file, for JSON Lines those of the first row."""
    block = _first_block(source)
    with suppress(InvalidInput):
        bad = [fault.row for fault in block.faults()]
        return list((block.without(bad) if bad else block).parse().kept)
    return []


@dataclass(frozen=True)
class _Sample:
    """What came of the first rows."""

    read_rows: int
    size_bytes: int
    """As the progress bar counts them."""
    seconds: float
    output_bytes: int
    rows: int
    columns: tuple[str, ...]
    whole_files: dict[int, int]
    """Rows of the files that were read to their end."""

    @property
    def rows_per_s(self) -> float | None:
        return self.read_rows / self.seconds if self.read_rows else None

    @property
    def output_bytes_per_row(self) -> float | None:
        return self.output_bytes / self.rows if self.rows else None


def _run_sample(
    work: partial[Answer], sources: Sequence[Source], kind_of: Mapping[int, Format], workers: int
) -> _Sample:
    """Answer the first rows for a while. The first block is answered twice: it opens what the model needs."""
    chunks = blocks_as_chunks(sources)
    first = next(chunks)
    if (found := work(first)).refusal is not None:
        raise refused(found.refusal, 0)
    written: dict[Format, tuple[io.BytesIO, Writer]] = {}
    rows_of_file: dict[int, int] = {}
    began, is_whole, size_bytes, columns = time.perf_counter(), True, 0, found.columns
    with closing(ThreadCrew(work, workers).run(chain([first], chunks))) as done:
        for chunk, found in in_order(done):
            if found.refusal is not None:
                raise refused(found.refusal, rows_of_file.get(chunk.file, 0))
            kind = kind_of[chunk.file]
            if kind not in written:
                written[kind] = (file := io.BytesIO()), Writer(file, kind)
            written[kind][1].append(found.columns, found.encoded, found.rows)
            rows_of_file[chunk.file] = rows_of_file.get(chunk.file, 0) + found.read_rows
            size_bytes += chunk.size_bytes
            if time.perf_counter() - began >= _SAMPLE_S:
                is_whole = False
                break
    seconds = time.perf_counter() - began
    for _, writer in written.values():
        writer.finish()
    return _Sample(
        sum(rows_of_file.values()),
        size_bytes,
        seconds,
        sum(len(file.getvalue()) for file, _ in written.values()),
        sum(writer.rows for _, writer in written.values()),
        columns,
        {file: rows for file, rows in rows_of_file.items() if is_whole or file < max(rows_of_file)},
    )


def _file(plan: Plan, at: int, sample: _Sample) -> FileForecast:
    source, path = plan.sources[at], plan.paths[at]
    count, rows = getattr(source, "count_rows", None), sample.whole_files.get(at)
    if rows is None and count is not None:
        rows = count()
    exact = rows is not None
    if rows is None and source.size_bytes and sample.read_rows and sample.size_bytes:
        rows = round(source.size_bytes * sample.read_rows / sample.size_bytes)
    output = next(target.path for target in plan.targets.each if at in target.files)
    return FileForecast(path, storage_of(path).size_bytes(path), rows, exact, output)


def _state(plan: Plan, *, overwrite: bool) -> tuple[str, int]:
    """Return what the job would begin with, and how many rows are done."""
    state = Journal(plan.storage, plan.journal_path).read()
    if overwrite or state.facts is None:
        return "new", 0
    if reason := what_changed(state.facts, plan.facts):
        return f"refused: {reason}", 0
    done = sum(line.read_rows for line in state.chunks.values())
    return ("complete" if len(state.outputs) == len(plan.targets.each) else "goes on"), done
