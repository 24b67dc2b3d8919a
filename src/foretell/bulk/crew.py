"""Who answers chunks: threads of this process here; `on_ray` has a cluster.

1. read     one thread takes chunks, and waits when enough are on the way
2. answer   each worker answers one chunk, and takes another when what came of it is done with
3. yield    what is answered is yielded in the thread that asked, in the order in which it comes

Knows no file and no output.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from foretell.bulk.answering import Answer, Stopped
from foretell.bulk.chunks import Chunk

__all__ = ["Crew", "ThreadCrew"]

_AHEAD = 2
"""Chunks on the way beyond those that run: workers find the next one read."""


class Crew(Protocol):
    """Answers chunks."""

    def run(self, chunks: Iterator[Chunk]) -> Generator[tuple[Chunk, Answer]]:
        """Yield what comes of chunks, in any order; closing the generator ends all that is under way.

        A chunk is yielded without its blocks. What `answer` raises is raised here when all chunks before that one
        are yielded. Asking for the next says that the one before is done with: it will not be answered again.
        """
        ...


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
        self._done: deque[tuple[int, Chunk, Answer]] = deque()
        self._open: set[int] = set()
        """Read and not yet done with, by the order of reading."""
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
                order, chunk, answer = found
                del found
                yield chunk, answer
                del answer
                with self._changed:
                    self._open.discard(order)
                    self._changed.notify_all()
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _next_done(self) -> tuple[int, Chunk, Answer] | None:
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
                if order < min(self._open, default=order) + self._workers + _AHEAD:
                    return True
                self._changed.wait()
            return False

    def _work(self) -> None:
        while (found := self._next_ready()) is not None:
            order, chunk = found
            del found
            try:
                answer = self._answer(chunk, self._stop)
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                self._failed(order, error)
                return
            with self._changed:
                self._done.append((order, chunk.emptied(), answer))
                del chunk, answer
                self._changed.notify_all()
                while order in self._open and not self._stop.is_set():
                    self._changed.wait()

    def _next_ready(self) -> tuple[int, Chunk] | None:
        with self._changed:
            while not self._stop.is_set():
                if self._ready and self._ready[0][0] < min(self._errors, default=1 << 62):
                    return self._ready.popleft()
                if self._read_all or self._errors:
                    return None
                self._changed.wait()
            return None

    def _failed(self, order: int, error: BaseException) -> None:
        with self._changed:
            self._open.add(order)
            self._errors[order] = error
            self._changed.notify_all()
