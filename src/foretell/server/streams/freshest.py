"""Which frame of a stream is started next, and what becomes of every other one.

    offer --> waits --> next --> runs --> settle --> answered, stale or failed
                +--> dropped

`latest`: one frame waits at most, the newest; it takes the place of the one before, which is dropped. What is answered
after a newer one is stale. `every`: all wait and are started in their order, and answers are delivered in it.

Pure: knows no clock, no socket and no model.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

__all__ = ["Delivery", "Frame", "Freshest", "Mode", "Outcome"]

Mode = Literal["latest", "every"]
Outcome = Literal["answered", "stale", "failed"]
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Frame(Generic[T]):
    """One frame."""

    number: int
    """In its stream, from 0 on."""
    item: T
    """Whatever was offered."""
    outcome: Outcome | None = None
    """None until it is settled."""


class Delivery(NamedTuple, Generic[T]):
    """A frame whose turn it is to be told of."""

    frame: Frame[T]
    outcome: Outcome
    dropped: int
    """Older frames that were dropped, and of which no delivery has told yet."""
    passed: int
    """How many frames further on it is than the last one answered."""


class Freshest(Generic[T]):
    """The frames of one stream.

    Attributes:
        offered: Frames so far. All of them are in one of the counts below.
        dropped: Frames that were never started.
        answered: Frames whose answers were delivered.
        stale: Frames whose answers came after that of a newer one.
        failed: Frames that ended in an error.
    """

    def __init__(self, mode: Mode, in_flight: int) -> None:
        """Start without frames; `in_flight` of them run at once, at most."""
        self._is_latest = mode == "latest"
        self._most = in_flight
        self._waiting: deque[Frame[T]] = deque()
        self._started: deque[Frame[T]] = deque()
        self._last = -1
        self._untold: deque[tuple[int, int]] = deque()
        """Runs of frames that were dropped: number of the first, and how many."""
        self.offered = self.dropped = self.answered = self.stale = self.failed = 0

    @property
    def waiting(self) -> int:
        """Frames not started yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Frames started and not settled."""
        return sum(frame.outcome is None for frame in self._started)

    @property
    def in_flight(self) -> list[Frame[T]]:
        """Frames started and not delivered."""
        return list(self._started)

    @property
    def held(self) -> int:
        """Frames settled and not delivered: their turn is yet to come."""
        return len(self._started) - self.running

    def __repr__(self) -> str:
        return (
            f"<Freshest: {self.offered} offered, {self.waiting} waiting, {self.running} running, {self.held} held, "
            f"{self.answered} answered, {self.stale} stale, {self.failed} failed, {self.dropped} dropped>"
        )

    def offer(self, item: T) -> Frame[T] | None:
        """Take a new frame, and return the one that is dropped for it."""
        dropped = None
        if self._is_latest and self._waiting:
            dropped = self._waiting.popleft()
            self._drop(dropped.number)
        self._waiting.append(Frame(self.offered, item))
        self.offered += 1
        return dropped

    @property
    def can_start(self) -> bool:
        """Whether `next` has one."""
        return bool(self._waiting) and len(self._started) < self._most

    def next(self) -> Frame[T] | None:
        """Return the frame to start now, which then runs; None: none waits, or enough are in flight."""
        if not self.can_start:
            return None
        frame = self._waiting.popleft()
        self._started.append(frame)
        return frame

    def settle(self, frame: Frame[T], *, failed: bool = False) -> list[Delivery[T]]:
        """Enter that a frame has its answer or its error, and return what is to be delivered now, in order."""
        if not self._is_latest:
            frame.outcome = "failed" if failed else "answered"
            ready: list[Delivery[T]] = []
            while self._started and self._started[0].outcome is not None:
                ready.append(self._deliver(self._started.popleft()))
            return ready
        frame.outcome = "failed" if failed else "stale" if frame.number < self._last else "answered"
        self._started.remove(frame)
        return [self._deliver(frame)]

    def give_up(self) -> list[Frame[T]]:
        """Drop what waits; return those frames."""
        left = list(self._waiting)
        self._waiting.clear()
        for frame in left:
            self._drop(frame.number)
        return left

    def _drop(self, number: int) -> None:
        self.dropped += 1
        first, count = self._untold.pop() if self._untold else (number, 0)
        if first + count < number:  # one between them was started
            self._untold.append((first, count))
            first, count = number, 0
        self._untold.append((first, count + 1))

    def _deliver(self, frame: Frame[T]) -> Delivery[T]:
        dropped = 0
        while self._untold and self._untold[0][0] < frame.number:
            dropped += self._untold.popleft()[1]
        passed = frame.number - self._last
        if frame.outcome == "answered":
            self.answered += 1
            self._last = frame.number
        elif frame.outcome == "stale":
            self.stale += 1
        else:
            self.failed += 1
        return Delivery(frame, frame.outcome or "failed", dropped, passed)
