"""One timer for everything of a version that happens because time passes: deadlines, and instances that hang.

In the queue, in flight or while a worker is replaced, a caller is told at its deadline. The timer runs only while
something is pending.
"""

from __future__ import annotations

from collections.abc import Callable

from foretell.clock import Clock
from foretell.engine import scheduling
from foretell.engine.admission import SILENCE_S, Admission
from foretell.engine.batch import PICTURES
from foretell.engine.limits import Limits
from foretell.engine.loop import Loop, Timer
from foretell.engine.queue import Queue
from foretell.engine.recovery import Recovery
from foretell.engine.seats import Seat, Seats
from foretell.engine.settling import Settling
from foretell.errors import DeadlineExceeded

__all__ = ["LOOK_S", "Watch"]

LOOK_S = 0.25
"""How often instances that have something in flight are looked at."""
_PICTURE_S = 10.0
"""More than it takes to decode the worst picture that is let through, on a busy machine."""
_NEVER = float("inf")


class Watch:
    """The timer of one version.

    Attributes:
        wake_at: When it rings, or infinity.
        on_hang: Called with the seat that hangs, and how.
    """

    def __init__(
        self,
        queue: Queue,
        seats: Seats,
        recovery: Recovery,
        settling: Settling,
        admission: Admission,
        limits: Limits,
        clock: Clock,
        loop: Loop,
        on_hang: Callable[[Seat, str], None],
    ) -> None:
        self._queue = queue
        self._seats = seats
        self._recovery = recovery
        self._settling = settling
        self._admission = admission
        self._limits = limits
        self._now = clock.now
        self._loop = loop
        self._on_hang = on_hang
        self._timer: Timer | None = None
        self.wake_at = _NEVER

    def wake_by(self, instant: float, now: float) -> None:
        """Ring at `instant` at the latest; the caller has looked that this is sooner than `wake_at`."""
        self.stop()
        self.wake_at = instant
        self._timer = self._loop.call_later(max(0.0, instant - now), self._wake)

    def stop(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.wake_at = None, _NEVER

    def _wake(self) -> None:
        self._timer, self.wake_at = None, _NEVER
        now = self._now()
        self._tell_late(now)
        for seat in list(self._seats.all):
            self._look(seat, now)
        instant = self._next(now)
        if instant < self.wake_at:
            self.wake_by(instant, now)

    def _tell_late(self, now: float) -> None:
        late = [(ticket, "in the queue; it was not run") for ticket in self._queue.expire(now)]
        late += [(t, "while its worker was replaced") for t in self._recovery.waiting() if t.deadline <= now]
        for job in self._seats.jobs():
            if job.deadline <= now:
                waiting = job.waiting()
                late += [(t, "while it ran") for t in waiting if t.deadline <= now]
                job.deadline = min((t.deadline for t in waiting if t.deadline > now), default=_NEVER)
        if late:
            self._admission.was_late()
        for ticket, where in late:
            self._settling.fail(ticket, DeadlineExceeded(f"request: its deadline passed {where}"), now)

    def _look(self, seat: Seat, now: float) -> None:
        """Find out whether an instance hangs."""
        if not seat.jobs:
            return
        job, ran_s = seat.jobs[0], now - seat.began()
        retries = max(ticket.deaths for ticket in job.tickets)
        pace = self._admission.pace_of(job.tickets[0].key)
        after_s = scheduling.hang_after_s(pace, job.expected_s, retries, self._limits)
        if job.tickets[0].key is PICTURES:
            after_s = max(after_s, job.rows * _PICTURE_S * 2.0**retries)
        if ran_s < after_s:
            return
        if seat.overdue != job.id:
            # If this process itself was stopped, the answer may be there and just not read yet: look again.
            seat.overdue = job.id
            self._admission.disturb(now + SILENCE_S)
            return
        self._on_hang(seat, f"no answer for {ran_s:.1f} s, expected within {after_s:.1f} s")

    def _next(self, now: float) -> float:
        """Return when something happens next."""
        instants = [self._queue.earliest(), *(ticket.deadline for ticket in self._recovery.waiting())]
        if self._seats.in_flight:
            instants += [now + LOOK_S, *(job.deadline for job in self._seats.jobs())]
        return min(instants)
