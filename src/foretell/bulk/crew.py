"""Who answers chunks: threads of this process here; `on_ray` has a cluster.

1. read     one thread takes chunks, and waits when enough are on the way
2. answer   all workers are at work on the oldest chunk, each on a piece of it; who finds none begins the next chunk
3. yield    what is answered is yielded in the thread that asked, in the order in which it comes

No more chunks are begun and not done with than there are workers: so much is lost if the process is killed.
Knows no file and no output.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from foretell.bulk.answering import Answer, Stopped
from foretell.bulk.chunks import Chunk
from foretell.bulk.pieces import joined, pieces_of

__all__ = ["Crew", "ThreadCrew"]

_AHEAD = 1
"""Chunks that are read and not begun: workers find the next one there."""


class Crew(Protocol):
    """Answers chunks."""

    def run(self, chunks: Iterator[Chunk]) -> Generator[tuple[Chunk, Answer]]:
        """Yield what comes of chunks, in any order; closing the generator ends all that is under way.

        A chunk is yielded without its blocks. What `answer` raises is raised here when all chunks before that one
        are yielded. Asking for the next says that the one before is done with: it will not be answered again.
        """
        ...


@dataclass(slots=True)
class _Begun:
    """A chunk at work."""

    order: int
    chunk: Chunk
    """Without its data."""
    pieces: deque[Chunk]
    """Not begun."""
    answers: dict[int, Answer] = field(default_factory=dict)
    """By the place of the piece."""
    taken: int = 0

    @property
    def is_answered(self) -> bool:
        return not self.pieces and len(self.answers) == self.taken


class ThreadCrew:
    """Some threads, all with the same model. For one run."""

    def __init__(self, answer: Callable[[Chunk, threading.Event], Answer], workers: int) -> None:
        """Make a crew.

        Args:
            answer: Answers a chunk; raises `Stopped` soon after the event is set.
            workers: How many threads, at least one.
        """
        self._answer = answer
        self._workers = workers
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._ready: deque[tuple[int, Chunk]] = deque()
        self._begun: dict[int, _Begun] = {}
        """Begun and not yet done with, by the order of reading."""
        self._done: deque[tuple[_Begun, Answer]] = deque()
        self._open: set[int] = set()
        """Read and not yet done with."""
        self._errors: dict[int, BaseException] = {}
        self._read_all = False

    def run(self, chunks: Iterator[Chunk]) -> Generator[tuple[Chunk, Answer]]:
        """Yield what comes of chunks; see `Crew`."""
        threads = [threading.Thread(target=self._work, name=f"foretell-bulk-{i}") for i in range(self._workers)]
        threads.append(threading.Thread(target=self._read, args=(chunks,), name="foretell-bulk-read"))
        for thread in threads:
            thread.start()
        try:
            while (found := self._next_done()) is not None:
                begun, answer = found
                del found
                yield begun.chunk, answer
                del answer
                with self._changed:
                    self._open.discard(begun.order)
                    del self._begun[begun.order]
                    self._changed.notify_all()
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _next_done(self) -> tuple[_Begun, Answer] | None:
        with self._changed:
            while True:
                if self._done:
                    return self._done.popleft()
                if self._errors and min(self._open) in self._errors:
                    raise self._errors[min(self._open)]
                if self._read_all and not self._open:
                    return None
                self._changed.wait()

    def _read(self, chunks: Iterator[Chunk]) -> None:
        order = 0
        try:
            while self._wait_for_room(order):
                chunk = next(chunks, None)
                if chunk is None:
                    break
                with self._changed:
                    self._open.add(order)
                    self._ready.append((order, chunk))
                    self._changed.notify_all()
                del chunk
                order += 1
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            self._failed(order, error)
        with self._changed:
            self._read_all = True
            self._changed.notify_all()

    def _wait_for_room(self, order: int) -> bool:
        """Return whether to read on, once so few are on the way that another may be read."""
        with self._changed:
            while not self._stop.is_set() and not self._errors:
                if len(self._ready) < _AHEAD and order < min(self._open, default=order) + self._workers + _AHEAD:
                    return True
                self._changed.wait()
            return False

    def _work(self) -> None:
        while (found := self._next_piece()) is not None:
            begun, place, piece = found
            del found
            try:
                answer = self._answer(piece, self._stop)
                del piece
                if (answers := self._answered(begun, place, answer)) is not None:
                    self._finished(begun, joined(answers))
                del answer, answers
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                self._failed(begun.order, error)

    def _next_piece(self) -> tuple[_Begun, int, Chunk] | None:
        """Return a piece of the oldest chunk that has one to give, beginning another chunk if need be and may be."""
        with self._changed:
            while not self._stop.is_set():
                first_error = min(self._errors, default=1 << 62)
                for begun in self._begun.values():
                    if begun.pieces and begun.order < first_error:
                        begun.taken += 1
                        return begun, begun.taken - 1, begun.pieces.popleft()
                if self._ready and self._ready[0][0] < first_error:
                    if len(self._begun) < self._workers:
                        order, chunk = self._ready.popleft()
                        self._begun[order] = _Begun(order, chunk.emptied(), deque(pieces_of(chunk)))
                        del chunk
                        self._changed.notify_all()
                        continue
                elif self._read_all or self._errors:
                    return None
                self._changed.wait()
            return None

    def _answered(self, begun: _Begun, place: int, answer: Answer) -> list[Answer] | None:
        """Take the answer of a piece; return all of the chunk's, in order, to whom brings the last one."""
        with self._changed:
            begun.answers[place] = answer
            if answer.refusal is not None:
                begun.pieces.clear()  # what is behind it counts for nothing
            if not begun.is_answered:
                return None
            answers = [begun.answers[at] for at in sorted(begun.answers)]
            begun.answers = {}
            begun.taken = 0
            return answers

    def _finished(self, begun: _Begun, answer: Answer) -> None:
        with self._changed:
            self._done.append((begun, answer))
            self._changed.notify_all()

    def _failed(self, order: int, error: BaseException) -> None:
        with self._changed:
            self._open.add(order)
            self._errors.setdefault(order, error)
            self._changed.notify_all()
