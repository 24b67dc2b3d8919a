"""A loop and instances in virtual time: an hour of overload runs in a second, and the same way every time.

Nothing sleeps and no process is started. For tests of whatever stands on the engine.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from foretell.clock import FakeClock
from foretell.engine.instance import OnAnswer, OnDeath, OnError
from foretell.engine.loop import Loop
from foretell.errors import ForetellError

__all__ = ["FakeInstance", "FakeLoop", "FakeTimer"]

Tensors = dict[str, NDArray[Any]]


class FakeTimer:
    """A call to come."""

    __slots__ = ("args", "callback", "is_cancelled")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not call."""
        self.is_cancelled = True


class FakeLoop:
    """The part of an event loop that the engine needs, on a clock that it moves itself."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.faults: list[dict[str, Any]] = []
        """What was given to `call_exception_handler`."""
        self._soon: deque[FakeTimer] = deque()
        self._later: list[tuple[float, int, FakeTimer]] = []
        self._count = 0

    def call_soon(self, callback: Callable[..., Any], /, *args: Any) -> FakeTimer:
        """Call in the next iteration."""
        timer = FakeTimer(callback, args)
        self._soon.append(timer)
        return timer

    def call_later(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> FakeTimer:
        """Call after so many virtual seconds."""
        timer = FakeTimer(callback, args)
        self._count += 1
        heapq.heappush(self._later, (self.clock.now() + delay, self._count, timer))
        return timer

    def call_exception_handler(self, context: dict[str, Any], /) -> None:
        """Remember it."""
        self.faults.append(context)

    def step(self) -> None:
        """Run what is due now, once."""
        due = [self._soon.popleft() for _ in range(len(self._soon))]
        while self._later and self._later[0][0] <= self.clock.now():
            due.append(heapq.heappop(self._later)[2])
        for timer in due:
            if not timer.is_cancelled:
                timer.callback(*timer.args)

    def run(self, seconds: float = float("inf")) -> None:
        """Run for so many virtual seconds, or until nothing is left to do."""
        end = self.clock.now() + seconds
        while True:
            while self._soon or (self._later and self._later[0][0] <= self.clock.now()):
                self.step()
            if not self._later or self._later[0][0] > end:
                break
            self.clock.advance(self._later[0][0] - self.clock.now())
        if seconds != float("inf"):
            self.clock.advance(end - self.clock.now())


class FakeInstance:
    """Answers each batch with a function of its inputs, after a time that depends on its rows."""

    def __init__(
        self,
        loop: Loop,
        answer: Callable[[Tensors], list[NDArray[Any]]],
        seconds: Callable[[int], float] = lambda rows: 0.001,
        kills: Callable[[Tensors], bool] = lambda inputs: False,
        fails: Callable[[Tensors], ForetellError | None] = lambda inputs: None,
    ) -> None:
        self.on_answer: OnAnswer
        self.on_error: OnError
        self.on_death: OnDeath
        self.ready = True
        self.pid = 0
        self.is_hung = False
        """Takes batches and answers none."""
        self.ran: list[Tensors] = []
        """The inputs of every batch it began."""
        self._loop = loop
        self._answer = answer
        self._seconds = seconds
        self._kills = kills
        self._fails = fails
        self._jobs: deque[tuple[int, Tensors, int]] = deque()

    @property
    def in_flight(self) -> int:
        """Batches sent and not yet reported."""
        return len(self._jobs)

    def send(self, job_id: int, inputs: Tensors, rows: int) -> None:
        """Take a batch."""
        self._jobs.append((job_id, inputs, rows))
        if len(self._jobs) == 1:
            self._begin()

    def kill(self) -> None:
        """End it; nothing else is reported."""
        self.ready = False
        self._jobs.clear()

    def die(self, reason: str = "killed by SIGSEGV") -> None:
        """End it as if by itself."""
        if self.ready:
            self.kill()
            self.on_death(self, reason)

    def _begin(self) -> None:
        _, inputs, rows = self._jobs[0]
        self.ran.append(inputs)
        self._loop.call_later(self._seconds(rows), self._end, self._jobs[0])

    def _end(self, job: tuple[int, Tensors, int]) -> None:
        if not self._jobs or self._jobs[0] is not job or self.is_hung:
            return
        job_id, inputs, rows = job
        if self._kills(inputs):
            self.die()
            return
        self._jobs.popleft()
        if self._jobs:
            self._begin()
        error = self._fails(inputs)
        if error is not None:
            self.on_error(self, job_id, error)
        else:
            self.on_answer(self, job_id, self._answer(inputs), int(self._seconds(rows) * 1e9))
