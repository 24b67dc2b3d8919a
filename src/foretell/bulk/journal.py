"""The journal of a job: a line of JSON for what is done for good, and what follows from these lines.

    {"job": {facts}, "identity": sha256}             first: what job this is
    {"chunk": 3, "file": 0, "begins": [at, line], ..., "sha256": ...}   a part is on the disk
    {"chunk": 4, ..., "whole": {"output": 0, ...}}   the chunk is all of an output, which is complete
    {"void": 3}                                      that part is lost or damaged: the chunk is to be answered again
    {"output": 0, "rows": ..., "sha256": ...}        a file of the output is complete, under its name
    {"quarantine": path, "rows": ..., ...}           so is the file of the rows that got no answer

Lines are added, never changed. Reading is pure; what cannot be read is left out, and so is done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foretell.bulk.blocks import Mark
from foretell.bulk.storage import Storage

__all__ = ["ChunkLine", "Journal", "OutputLine", "State", "state_of"]


@dataclass(frozen=True, slots=True)
class ChunkLine:
    """A chunk that is answered, its part on the disk."""

    chunk: int
    file: int
    begins: Mark
    ends: Mark
    is_last: bool
    rows: int
    read_rows: int
    part_bytes: int
    sha256: str
    size_bytes: int
    """Of its input, as the progress bar counts."""
    columns: tuple[str, ...] = ()
    """Those of the output; given where the chunk is the first of its file."""
    errors: int = 0
    """Rows that were left out."""
    bad_sha256: str = ""
    """Of those rows, where they are kept for the quarantine."""
    notes: tuple[str, ...] = ()
    tally: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A file of the output that is complete."""

    output: int
    path: str
    rows: int
    file_bytes: int
    sha256: str


@dataclass(slots=True)
class State:
    """What the lines of a journal say together."""

    facts: dict[str, Any] | None = None
    chunks: dict[int, ChunkLine] = field(default_factory=dict)
    outputs: dict[int, OutputLine] = field(default_factory=dict)
    quarantine: OutputLine | None = None


def state_of(lines: Iterable[str]) -> State:
    """Return what a journal says. A later line about the same thing counts."""
    state = State()
    for line in lines:
        try:
            found = json.loads(line)
            if "job" in found:
                state.facts = found["job"]
            elif "chunk" in found:
                whole = found.pop("whole", None)
                chunk = _chunk(found)
                output = None if whole is None else OutputLine(**whole)
                state.chunks[chunk.chunk] = chunk
                if output is not None:
                    state.outputs[output.output] = output
            elif "void" in found:
                state.chunks.pop(found["void"], None)
            elif "lost" in found:
                state.outputs.pop(found["lost"], None)
            elif "quarantine" in found:
                state.quarantine = OutputLine(-1, found.pop("quarantine"), **found)
            elif "output" in found:
                output = OutputLine(**found)
                state.outputs[output.output] = output
        except (ValueError, TypeError, KeyError):
            continue
    return state


def _chunk(found: Mapping[str, Any]) -> ChunkLine:
    lists: dict[str, Any] = {"begins": Mark(*found["begins"]), "ends": Mark(*found["ends"])}
    lists |= {name: tuple(found.get(name, ())) for name in ("columns", "notes")}
    return ChunkLine(**{**found, **lists})


class Journal:
    """Adds lines. Not safe to use from several threads."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage = storage
        self._path = path

    def read(self) -> State:
        """Return what it says so far."""
        return state_of(self._storage.lines(self._path))

    def begin(self, facts: Mapping[str, Any], identity: str) -> None:
        """Say what job this is."""
        self._add({"job": facts, "identity": identity})

    def chunk_done(self, line: ChunkLine, whole: OutputLine | None = None) -> None:
        """Say that a part is on the disk, or the whole output if the chunk is all of it."""
        told = {name: value for name, value in asdict(line).items() if value not in (None, (), [], "")}
        self._add(told if whole is None else {**told, "whole": asdict(whole)})

    def output_done(self, line: OutputLine) -> None:
        """Say that a file of the output is complete."""
        self._add(asdict(line))

    def quarantine_done(self, line: OutputLine) -> None:
        """Say that the quarantine file is complete."""
        told = asdict(line)
        del told["output"]
        self._add({"quarantine": told.pop("path"), **told})

    def void(self, chunk: int) -> None:
        """Say that a part is not there any more."""
        self._add({"void": chunk})

    def lost(self, output: int) -> None:
        """Say that a file of the output is not there any more."""
        self._add({"lost": output})

    def _add(self, line: Mapping[str, Any]) -> None:
        self._storage.add_line(self._path, json.dumps(line))
