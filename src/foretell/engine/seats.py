"""The instances of a version as the batcher sees them: what each of them has in flight. Sends and settles nothing."""

from __future__ import annotations

from collections import deque

from foretell.engine.instance import Instance
from foretell.engine.suspects import Group
from foretell.engine.ticket import Ticket

__all__ = ["Job", "Seat", "Seats"]


class Job:
    """A batch in flight."""

    __slots__ = ("deadline", "expected_s", "group", "id", "rows", "seat", "sent", "tickets")

    def __init__(
        self, id: int, tickets: list[Ticket], rows: int, group: Group | None, seat: Seat, sent: float, expected_s: float
    ) -> None:
        self.id = id
        self.tickets = tickets
        self.rows = rows
        self.group = group
        self.seat = seat
        self.sent = sent
        self.expected_s = expected_s
        self.deadline = tickets[0].deadline if len(tickets) == 1 else min([t.deadline for t in tickets])
        """The earliest among its callers' that is still to come."""

    def waiting(self) -> list[Ticket]:
        """Return the tickets somebody still waits for."""
        return [ticket for ticket in self.tickets if ticket.done is not None]


class Seat:
    """One instance and the batches it holds, in the order in which it runs them."""

    __slots__ = ("freed", "instance", "is_exclusive", "jobs", "overdue")

    def __init__(self, instance: Instance, now: float) -> None:
        self.instance = instance
        self.jobs: deque[Job] = deque()
        self.freed = now
        """When it last reported."""
        self.is_exclusive = False
        """Takes nothing else until it has reported."""
        self.overdue = 0
        """The job that was found late at the last look; 0: none."""

    def began(self) -> float:
        """Return when the first of its jobs began to run."""
        return max(self.jobs[0].sent, self.freed)

    def ahead_s(self, now: float) -> float:
        """Return the predicted seconds until it is free."""
        if not self.jobs:
            return 0.0
        return max(0.0, sum(job.expected_s for job in self.jobs) - (now - self.began()))


class Seats:
    """All instances of a version.

    Attributes:
        all: Every seat.
        in_flight: Batches in flight.
        flying_s: Predicted seconds of everything in flight.
    """

    __slots__ = ("_depth", "_jobs", "_last", "all", "flying_s", "in_flight")

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self.all: list[Seat] = []
        self._jobs: dict[int, Job] = {}
        self._last = 0
        self.in_flight = 0
        self.flying_s = 0.0

    def jobs(self) -> list[Job]:
        """Return everything in flight."""
        return list(self._jobs.values())

    def add(self, instance: Instance, now: float) -> None:
        """Let an instance take batches."""
        self.all.append(Seat(instance, now))

    def remove(self, instance: Instance) -> Seat | None:
        """Take an instance out, with its jobs, which are in flight no more. None: it is not here."""
        seat = next((s for s in self.all if s.instance is instance), None)
        if seat is not None:
            self.all.remove(seat)
            for job in seat.jobs:
                self._land(job)
        return seat

    def free(self) -> Seat | None:
        """Return the seat with the fewest jobs that takes one more, or None."""
        best = None
        for seat in self.all:
            held = len(seat.jobs)
            if held < self._depth and not seat.is_exclusive and (best is None or held < len(best.jobs)):
                if not held:
                    return seat
                best = seat
        return best

    def put(
        self, seat: Seat, tickets: list[Ticket], rows: int, group: Group | None, now: float, expected_s: float
    ) -> Job:
        """Enter a batch that is about to be sent."""
        self._last += 1
        job = Job(self._last, tickets, rows, group, seat, now, expected_s)
        self._jobs[job.id] = job
        seat.jobs.append(job)
        seat.is_exclusive = group is not None and group.exclusive
        self.in_flight += 1
        self.flying_s += expected_s
        return job

    def reported(self, job_id: int, now: float) -> tuple[Job, float] | None:
        """Enter that an instance has reported a job: the job, and how long it ran. None: it is not known (any more)."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        seat = job.seat
        # Reports come in the order of the jobs, so it began when it was sent or when the one before was done.
        began = seat.began()
        seat.jobs.remove(job)
        seat.freed = now
        seat.is_exclusive = False
        seat.overdue = 0
        self._land(job)
        return job, now - began

    def _land(self, job: Job) -> None:
        del self._jobs[job.id]
        self.in_flight -= 1
        self.flying_s = self.flying_s - job.expected_s if self.in_flight else 0.0
