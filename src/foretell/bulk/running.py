"""Runs a planned job: goes on where its journal ends, commits what comes, makes the outputs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing

from foretell.bulk.answering import Answer
from foretell.bulk.assembly import Assembly
from foretell.bulk.chunks import Chunk, Known, chunks_of, named
from foretell.bulk.crew import Crew
from foretell.bulk.journal import ChunkLine, Journal, State
from foretell.bulk.parts import Parts
from foretell.bulk.plan import Plan
from foretell.bulk.progress import Progress
from foretell.bulk.resuming import resumed
from foretell.bulk.room import is_full, needed_bytes
from foretell.bulk.spent import Spent
from foretell.bulk.straight import refused
from foretell.bulk.summary import Summary, few
from foretell.bulk.tally import Tally
from foretell.errors import MachineError

__all__ = ["Interrupted", "run_job"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is done and how to go on."""


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
    state = resumed(plan, journal, overwrite=overwrite)
    before = sum(line.rows for line in state.chunks.values())
    parts = Parts(plan.storage, plan.parts_folder)
    assembly = Assembly(plan.storage, plan.targets, journal, parts, state.outputs)
    run = _Run(plan, journal, parts, assembly, state, bar)
    try:
        run.go(crew)
    except KeyboardInterrupt as e:
        raise Interrupted(_how_to_go_on(plan, state)) from e
    except MachineError as e:
        raise run.with_room_needed(e) from e
    finally:
        assembly.abandon()
        _clear(plan, state, is_complete=len(assembly.complete) == len(plan.targets.each))
    return _summary(plan, state, run.spent, began, before)


def _how_to_go_on(plan: Plan, state: State) -> str:
    if not state.chunks:
        return "interrupted: no chunk was done yet, so nothing is kept"
    rows = sum(line.read_rows for line in state.chunks.values())
    return (
        f'interrupted: {rows:,} rows are done and kept in "{plan.targets.job_folder}"; '
        "the same command goes on behind them"
    )


def _clear(plan: Plan, state: State, *, is_complete: bool) -> None:
    """Remove what nobody needs: all of a job that did nothing or wrote its one file, the parts of a complete one.

    A complete folder keeps its journal, which says so when the same command is given again.
    """
    is_over = is_complete and (plan.quarantine is None or state.quarantine is not None)
    if not state.chunks or (is_over and not plan.targets.is_folder):
        plan.storage.remove(plan.targets.job_folder)
    elif is_over:
        plan.storage.remove(plan.parts_folder)


def _summary(plan: Plan, state: State, spent: Spent, began: float, before: int) -> Summary:
    lines = [state.chunks[number] for number in sorted(state.chunks)]
    tally = Tally()
    for line in lines:
        if line.tally is not None:
            tally.add(Tally.from_json(line.tally))
    return Summary(
        sum(line.rows for line in lines),
        len(plan.sources),
        time.perf_counter() - began,
        few(tuple(dict.fromkeys(note for line in lines for note in line.notes))),
        before,
        sum(line.errors for line in lines),
        sum(line.read_rows for line in lines),
        plan.out,
        plan.quarantine.path if plan.quarantine is not None else None,
        spent.seconds,
        tally.summary(),
    )


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
        self._in_hand: ChunkLine | None = None
        self.spent = Spent()
        self._read = Spent()  # in the thread that reads

    def go(self, crew: Crew) -> None:
        lines = self._state.chunks
        for number in sorted(lines):
            self._bar.resume(lines[number].size_bytes)
            self._assembly.take(lines[number])
        known = {(line.file, line.begins.at): Known(line.ends, line.is_last) for line in lines.values()}
        chunks = named(chunks_of(self._plan.sources, self._plan.chunk_rows, known=known), self._plan.paths)
        with closing(crew.run(self._until_refused(self._read.over("read", chunks)))) as done:
            for chunk, answer in done:
                if answer.refusal is not None:
                    self._refused[chunk.number] = (chunk, answer)
                else:
                    self.spent.add(answer.spent_s)
                    with self.spent.on("write"):
                        self._commit(chunk, answer)
        self.spent.add(self._read.seconds)
        if self._refused:
            self._refuse()
        with self.spent.on("write"):
            self._finish_quarantine()

    def _finish_quarantine(self) -> None:
        quarantine = self._plan.quarantine
        if quarantine is None:
            return
        if self._state.quarantine is None:
            lines = self._state.chunks
            self._state.quarantine = quarantine.write(lines[number] for number in sorted(lines))
            self._journal.quarantine_done(self._state.quarantine)
        quarantine.clear()

    def _until_refused(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            yield chunk
            del chunk
            if self._refused:  # those before it come still; none behind it is begun
                return

    def _commit(self, chunk: Chunk, answer: Answer) -> None:
        if chunk.is_last:
            self._plan.check_unchanged(chunk.file)
        quarantine, bad_sha256 = self._plan.quarantine, ""
        if quarantine is not None and answer.quarantined and self._state.quarantine is None:
            bad_sha256 = quarantine.keep(chunk.number, answer.quarantined)
        line = ChunkLine(
            chunk=chunk.number,
            file=chunk.file,
            begins=chunk.begins,
            ends=chunk.ends,
            is_last=chunk.is_last,
            rows=answer.rows,
            read_rows=answer.read_rows,
            part_bytes=len(answer.encoded),
            sha256=hashlib.sha256(answer.encoded).hexdigest(),
            size_bytes=chunk.size_bytes,
            columns=answer.columns if chunk.begins.at == 0 else (),
            errors=answer.errors,
            bad_sha256=bad_sha256,
            notes=answer.notes,
            tally=answer.tally,
        )
        self._in_hand = line
        whole = self._assembly.write_whole(line, answer.encoded)
        if whole is None:
            self._parts.write(chunk.number, answer.encoded)
        self._journal.chunk_done(line, whole)
        self._in_hand = None
        self._state.chunks[line.chunk] = line
        if whole is None:
            self._assembly.take(line, answer.encoded)
        else:
            self._assembly.whole_done(whole)
        self._bar.advance(chunk.size_bytes, answer.read_rows, answer.errors)

    def with_room_needed(self, error: MachineError) -> MachineError:
        """Return an error of a full disk with about how much room is needed; any other as it is."""
        lines = [*self._state.chunks.values(), *([self._in_hand] if self._in_hand is not None else [])]
        done = self._assembly.complete.values()
        written = sum(line.part_bytes for line in self._state.chunks.values()) + sum(o.file_bytes for o in done)
        known = [source.size_bytes for source in self._plan.sources]
        needed = needed_bytes(lines, sum(known) if all(known) else 0, written)
        if not is_full(error) or needed is None:
            return error
        kept = f"; {len(self._state.chunks):,} chunks are kept" if self._state.chunks else ""
        return MachineError(f"{error}; about {max(needed / 1e6, 0.1):,.1f} MB are needed{kept}")

    def _refuse(self) -> None:
        number = min(self._refused)
        chunk, answer = self._refused[number]
        assert answer.refusal is not None
        lines = self._state.chunks.values()
        raise refused(
            answer.refusal, sum(line.read_rows for line in lines if line.file == chunk.file and line.chunk < number)
        )
