"""Runs a planned job: goes on where its journal ends, commits what comes, makes the outputs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from foretell.bulk.answering import Answer
from foretell.bulk.assembly import Assembly
from foretell.bulk.chunks import Chunk, Known, chunks_of
from foretell.bulk.crew import Crew
from foretell.bulk.identity import identity_of, what_changed
from foretell.bulk.journal import ChunkLine, Journal, State
from foretell.bulk.parts import Parts
from foretell.bulk.plan import Plan
from foretell.bulk.progress import Progress
from foretell.bulk.straight import refused
from foretell.errors import ConfigError

__all__ = ["Interrupted", "Summary", "few", "run_job"]

_MOST_NOTES = 20


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is done and how to go on."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a job did, all runs of it together."""

    rows: int
    """Of the output."""
    files: int
    seconds: float
    """Of this run."""
    notes: tuple[str, ...]
    """What was coerced or ignored in the data, one line each."""
    rows_before: int = 0
    """How many of the rows were answered by runs before this one."""
    errors: int = 0
    """Rows of the input that were left out."""


def few(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first notes, and how many more there are."""
    more = [f"and {len(notes) - _MOST_NOTES} more"] if len(notes) > _MOST_NOTES else []
    return (*notes[:_MOST_NOTES], *more)


def run_job(plan: Plan, crew: Crew, bar: Progress, began: float, *, overwrite: bool) -> Summary:
    """Run a job whose lock is held.

    Args:
        plan: What is to be done.
        crew: Who answers chunks.
        bar: Shows how far it is.
        began: When, on `time.perf_counter`.
        overwrite: Start anew, whatever is there.

    Raises:
        ConfigError: What is there is of another job.
        InvalidInput: The data is at fault.
        Interrupted: Ctrl-C.
    """
    journal = Journal(plan.storage, plan.journal_path)
    if overwrite:
        plan.storage.remove(plan.journal_path)  # the lock stays
    state = _resumed(plan, journal)
    before = sum(line.rows for line in state.chunks.values())
    parts = Parts(plan.storage, plan.parts_folder)
    assembly = Assembly(plan.storage, plan.targets, journal, parts, state.outputs)
    run = _Run(plan, journal, parts, assembly, state, bar)
    try:
        run.go(crew)
    except KeyboardInterrupt as e:
        raise Interrupted(
            f'interrupted: {len(state.chunks):,} chunks are done and kept in "{plan.targets.job_folder}"; '
            "the same command goes on behind them"
        ) from e
    finally:
        assembly.abandon()
        if not plan.targets.is_folder and (not state.chunks or state.outputs or assembly.complete):
            plan.storage.remove(plan.targets.job_folder)
    lines = state.chunks.values()
    notes = tuple(dict.fromkeys(note for line in lines for note in line.notes))
    return Summary(
        sum(line.rows for line in lines),
        len(plan.sources),
        time.perf_counter() - began,
        few(notes),
        before,
        sum(line.errors for line in lines),
    )


def _resumed(plan: Plan, journal: Journal) -> State:
    """Return how far a job like this one is, its parts checked; begin it if there is none.

    Raises:
        ConfigError: The job that is there is another one.
    """
    state = journal.read()
    if state.facts is None:
        plan.storage.remove(plan.parts_folder)
        journal.begin(plan.facts, identity_of(plan.facts))
        return State(plan.facts)
    if reason := what_changed(state.facts, plan.facts):
        raise ConfigError(
            f'output "{plan.out}": a job was begun there, and {reason}; '
            "write to another place, or start it anew with --overwrite"
        )
    if state.facts != plan.facts:
        journal.begin(plan.facts, identity_of(plan.facts))
    owner = {file: at for at, target in enumerate(plan.targets.each) for file in target.files}
    for at, output in list(state.outputs.items()):
        if not plan.storage.exists(output.path) or plan.storage.size_bytes(output.path) != output.file_bytes:
            journal.lost(at)
            del state.outputs[at]
    parts = Parts(plan.storage, plan.parts_folder)
    for line in list(state.chunks.values()):
        if owner[line.file] not in state.outputs and not parts.is_whole(line):
            journal.void(line.chunk)
            del state.chunks[line.chunk]
    return state


class _Run:
    """One run of a job."""

    def __init__(
        self, plan: Plan, journal: Journal, parts: Parts, assembly: Assembly, state: State, bar: Progress
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._parts = parts
        self._assembly = assembly
        self._state = state
        self._bar = bar
        self._refused: dict[int, tuple[Chunk, Answer]] = {}

    def go(self, crew: Crew) -> None:
        lines = self._state.chunks
        for number in sorted(lines):
            self._bar.advance(lines[number].size_bytes)
            self._assembly.take(lines[number])
        known = {(line.file, line.begins.at): Known(line.ends, line.is_last) for line in lines.values()}
        chunks = chunks_of(self._plan.sources, self._plan.chunk_rows, known=known)
        with closing(crew.run(self._until_refused(chunks))) as done:
            for chunk, answer in done:
                if answer.refusal is not None:
                    self._refused[chunk.number] = (chunk, answer)
                else:
                    self._commit(chunk, answer)
        if self._refused:
            self._refuse()

    def _until_refused(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            yield chunk
            del chunk
            if self._refused:  # those before it come still; none behind it is begun
                return

    def _commit(self, chunk: Chunk, answer: Answer) -> None:
        sha256 = self._parts.write(chunk.number, answer.encoded)
        line = ChunkLine(
            chunk=chunk.number,
            file=chunk.file,
            begins=chunk.begins,
            ends=chunk.ends,
            is_last=chunk.is_last,
            rows=answer.rows,
            read_rows=answer.read_rows,
            part_bytes=len(answer.encoded),
            sha256=sha256,
            size_bytes=chunk.size_bytes,
            columns=answer.columns if chunk.begins.at == 0 else (),
            errors=len(answer.errors),
            notes=answer.notes,
            tally=answer.tally,
        )
        self._journal.chunk_done(line)
        self._state.chunks[line.chunk] = line
        self._assembly.take(line, answer.encoded)
        self._bar.advance(chunk.size_bytes)

    def _refuse(self) -> None:
        number = min(self._refused)
        chunk, answer = self._refused[number]
        assert answer.refusal is not None
        lines = self._state.chunks.values()
        raise refused(
            answer.refusal, sum(line.read_rows for line in lines if line.file == chunk.file and line.chunk < number)
        )
