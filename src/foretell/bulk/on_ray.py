"""Answers chunks on a Ray cluster: some actors, each with the model loaded once.

1. read     the caller's thread takes chunks and puts each into Ray's object store; few are on the way
2. answer   an actor that has none gets the next one
3. yield    in the order in which they come; the actor goes on with another one meanwhile

The driver reads and commits: machines need Foretell and what runs the model, no disk of ours. The chunk of an actor
that dies goes to another. What an actor cannot answer the driver answers itself: errors are those of a job without
a cluster, and name lines of files that only the driver has. Placing and watching actors is Ray's work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from foretell.bulk.answering import Answer, How, answer
from foretell.bulk.chunks import Chunk
from foretell.bulk.ray_actor import restored, sources_of, without_sources
from foretell.bulk.ray_cluster import check, joined, last_line
from foretell.bulk.ray_workers import Workers
from foretell.bulk.shipped import Shipped, ship
from foretell.errors import MachineError
from foretell.model.model import Model

__all__ = ["RayCrew", "crew_on"]

_AHEAD = 2
"""Chunks on the way beyond those that run."""
_MOST_DEATHS = 4
"""A chunk whose actors die so often is what ends them."""
_WAIT_S = 1.0


@dataclass(slots=True)
class _Sent:
    """A chunk on its way."""

    order: int
    chunk: Chunk
    """Without its data."""
    data: Any
    """Reference of the whole chunk in the object store."""
    sources: list[Any]
    """Of its blocks, as the driver has them."""
    deaths: int = 0


def crew_on(
    address: str, model: Model, path: str | Path, *, trust: bool = False, workers: int | None = None
) -> Callable[[How], RayCrew]:
    """Return what makes the crew of a job.

    Args:
        address: Of the cluster; see `RayCrew`.
        model: As the driver has it.
        path: Where it was loaded from; its files are read now.
        trust: Whether a file that may run code may be opened there too.
        workers: How many actors; None: one for each processor of the cluster.

    Raises:
        ConfigError: No cluster can have this address.
        RuntimeMissing: Ray is not installed.
    """
    check(address)
    shipped = ship(path, trust=trust)
    return lambda how: RayCrew(model, shipped, how, address, workers)


class RayCrew:
    """Actors of a cluster. For one run."""

    def __init__(self, model: Model, shipped: Shipped, how: How, address: str, workers: int | None = None) -> None:
        """Make a crew; nothing is started before there is a chunk.

        Args:
            model: As the driver has it.
            shipped: The same, for the actors.
            how: What answers depend on besides.
            address: "ray" for a new cluster on this machine, else that of one that runs, such as "ray://head:10001".
            workers: How many actors; None: one for each processor of the cluster.
        """
        self._model = model
        self._shipped = shipped
        self._how = how
        self._address = address
        self._workers = workers

    def run(self, chunks: Iterator[Chunk]) -> Generator[tuple[Chunk, Answer]]:
        """Yield what comes of chunks; see `Crew`.

        Raises:
            ConfigError: There is no such cluster, or its machines are not like this one.
            MachineError: No actor starts, or a chunk ends every one that takes it.
        """
        first = next(chunks, None)
        if first is None:
            return
        with joined(self._address, self._workers) as count:
            workers = Workers(self._model, self._shipped, count)
            run = _Run(self._model, self._how, chain([first], chunks), workers)
            del first
            try:
                workers.begin()
                yield from run.go()
            finally:
                workers.end()


class _Run:
    """One job on a cluster."""

    def __init__(self, model: Model, how: How, chunks: Iterator[Chunk], workers: Workers) -> None:
        self._model = model
        self._how = how
        self._chunks = chunks
        self._workers = workers
        self._order = 0
        self._read_all = False
        self._open: set[int] = set()
        """Read and not yet done with, by the order of reading."""
        self._waiting: deque[_Sent] = deque()
        self._running: dict[Any, _Sent] = {}
        self._errors: dict[int, BaseException] = {}

    def go(self) -> Generator[tuple[Chunk, Answer]]:
        """Yield what comes of chunks, in any order."""
        while True:
            while self._read_one():
                self._hand_out()
            self._hand_out()
            if self._errors and min(self._open) in self._errors:
                raise self._errors[min(self._open)]
            if not self._open:
                return
            found = self._next()
            self._hand_out()
            if found is not None:
                sent, answered = found
                yield sent.chunk, answered
                self._open.discard(sent.order)
                del sent, answered
            del found

    def _read_one(self) -> bool:
        """Read a chunk, if there is room for one; return whether there was one."""
        import ray

        if self._read_all or self._errors or len(self._open) >= self._workers.count + _AHEAD:
            return False
        order, self._order = self._order, self._order + 1
        try:
            chunk = next(self._chunks, None)
        except Exception as error:  # noqa: BLE001 - raised again when all before it is yielded
            self._fail(order, error)
            return False
        if chunk is None:
            self._read_all = True
            return False
        self._open.add(order)
        data = ray.put(without_sources(chunk))
        self._waiting.append(_Sent(order, chunk.emptied(), data, sources_of(chunk)))
        return True

    def _hand_out(self) -> None:
        while self._waiting and self._workers.has_idle:
            sent = self._waiting.popleft()
            if sent.order > min(self._errors, default=sent.order):
                self._open.discard(sent.order)
            else:
                self._running[self._workers.hand(self._how, sent.data)] = sent

    def _next(self) -> tuple[_Sent, Answer] | None:
        """Wait until something happens; return what was answered, if it was that."""
        import ray

        ref = self._workers.wait(_WAIT_S)
        if ref not in self._running:
            return None
        sent = self._running.pop(ref)
        try:
            answered: Answer | None = ray.get(ref)
        except ray.exceptions.RayTaskError:
            answered = None
        except ray.exceptions.RayError as error:
            self._workers.lost(ref)
            self._died(sent, error)
            return None
        self._workers.freed(ref)
        return self._answered(sent, answered)

    def _answered(self, sent: _Sent, answered: Answer | None) -> tuple[_Sent, Answer] | None:
        import ray

        try:
            if answered is None:
                answered = answer(self._model, self._how, restored(ray.get(sent.data), sent.sources))
        except Exception as error:  # noqa: BLE001 - raised again when all before it is yielded
            self._fail(sent.order, error)
            return None
        return sent, answered

    def _died(self, sent: _Sent, error: Exception) -> None:
        sent.deaths += 1
        if sent.deaths < _MOST_DEATHS:
            self._waiting.appendleft(sent)
            return
        text = (
            f"chunk {sent.chunk.number}: {sent.deaths} workers died while they had it ({last_line(error)}); "
            "take a smaller --chunk-rows, or run it without --on"
        )
        self._fail(sent.order, MachineError(text))

    def _fail(self, order: int, error: BaseException) -> None:
        self._open.add(order)
        self._errors[order] = error
