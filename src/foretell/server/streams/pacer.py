"""Starts the frames of one stream: the shell round `freshest`, `rhythm` and the gate that streams of a model share.

It knows the time, and neither what a frame is nor how it is asked or answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Generic, TypeVar

from foretell.server.streams.freshest import Delivery, Frame, Freshest, Mode
from foretell.server.streams.gate import Gate
from foretell.server.streams.rhythm import Rhythm
from foretell.server.streams.turns import Round

__all__ = ["Capacity", "Pacer"]

T = TypeVar("T")
Capacity = Callable[[], tuple[int, int]]
"""Gives how many instances answer now, and how many frames each of them runs in about the time of one."""


class Pacer(Generic[T]):
    """The frames of one stream.

    Attributes:
        frames: Their states and counts.
    """

    def __init__(
        self, mode: Mode, in_flight: int, gate: Gate, capacity: Capacity, ask: Callable[[Frame[T]], None]
    ) -> None:
        """Start without frames.

        Args:
            mode: `latest`: the newest frame wins, and streams take turns. `every`: all are asked, as many at once as
                may be in flight.
            in_flight: Most frames of this stream that run at once.
            gate: Of the model.
            capacity: Of the model.
            ask: Asks a frame; raises nothing. It may settle it before it returns.
        """
        self.frames: Freshest[T] = Freshest(mode, in_flight)
        self._gate = gate if mode == "latest" else None
        self._capacity = capacity
        self._ask = ask
        self._rhythm = Rhythm()
        self._rounds: dict[Frame[T], Round] = {}
        self._later: asyncio.TimerHandle | None = None
        """When the frame that waits is started, if no newer one has come until then."""
        self._has_waited = False
        """No newer frame came in time for the one that waits."""
        self._is_starting = self._is_over = False

    def offer(self, item: T) -> bool:
        """Take a frame that has just come, and start what may be started. True: another was dropped for it."""
        self._rhythm.beat(perf_counter())
        self._wait_no_longer()
        is_dropped = self.frames.offer(item) is not None
        self.start()
        return is_dropped

    def settle(self, frame: Frame[T], *, failed: bool) -> list[Delivery[T]]:
        """Enter that a frame has its answer or its error, start the next one, and return what is to be told now."""
        deliveries = self.frames.settle(frame, failed=failed)
        self._leave_round(frame)
        self.start()
        return deliveries

    def start(self) -> None:
        """Start what may be started."""
        frames, gate = self.frames, self._gate
        if self._is_over:
            return
        if gate is not None:
            if frames.can_start and self._later is None:
                gate.ask(self, *self._capacity())
            return
        if self._is_starting:  # a frame that is refused is settled before `_ask` returns
            return
        self._is_starting = True
        while (frame := frames.next()) is not None:
            self._ask(frame)
        self._is_starting = False

    def begin(self, joined: Round) -> None:
        """Start the newest frame, whose turn it is; or wait for the next one, which is about to come."""
        gate = self._gate
        wait_s = 0.0 if gate is None or gate.is_wanted else self._rhythm.wait_s(perf_counter())
        if wait_s > 0.0 and not self._has_waited and not self._is_over:
            self._later = asyncio.get_running_loop().call_later(wait_s, self._start_anyway)
        frame = self.frames.next() if self._later is None else None
        if frame is not None:
            self._rounds[frame] = joined
            self._ask(frame)
        elif gate is not None:
            gate.done(joined)

    def stop(self) -> int:
        """Start nothing more; what runs goes on. Returns how many frames are dropped that waited."""
        self._is_over = True
        self._wait_no_longer()
        if self._gate is not None:
            self._gate.leave(self)
        return len(self.frames.give_up())

    def abandon(self) -> list[Frame[T]]:
        """Let go of everything; returns the frames that ran, which nobody waits for any more."""
        self.stop()
        left = [frame for frame in self.frames.in_flight if frame.outcome is None]
        for frame in left:
            self._leave_round(frame)
        self._ask = _forgotten  # whoever asks holds this: a circle, which nobody may look for for long
        return left

    def _start_anyway(self) -> None:
        self._later, self._has_waited = None, True
        self.start()

    def _wait_no_longer(self) -> None:
        if self._later is not None:
            self._later.cancel()
        self._later, self._has_waited = None, False

    def _leave_round(self, frame: Frame[T]) -> None:
        joined = self._rounds.pop(frame, None)
        if joined is not None and self._gate is not None:
            self._gate.done(joined)


def _forgotten(_frame: object) -> None:
    """Stand in for whom to ask when nothing is asked any more."""
