"""What is run again after a death or an error, and who is convicted of it: the shell round `suspects`."""

from __future__ import annotations

from collections import deque

from foretell.engine.ledger import Ledger
from foretell.engine.seats import Job, Seat
from foretell.engine.settling import Settling
from foretell.engine.suspects import Group, Quarantine, after_death, after_error, fingerprint
from foretell.engine.ticket import Ticket
from foretell.errors import ForetellError, WorkerCrashed

__all__ = ["Recovery"]


class Recovery:
    """Groups of requests of one version that run again, in order, before anything that waits in the queue."""

    __slots__ = ("_groups", "_ledger", "_name", "_quarantine", "_settling", "can_cut")

    def __init__(self, name: str, quarantine: Quarantine, settling: Settling, ledger: Ledger) -> None:
        self._name = name
        self._quarantine = quarantine
        self._settling = settling
        self._ledger = ledger
        self._groups: deque[Group] = deque()
        self.can_cut = True
        """Whether a row of a request may run alone."""

    def __bool__(self) -> bool:
        return bool(self._groups)

    def first(self) -> Group | None:
        """Return the group to run next; those nobody waits for are dropped."""
        while self._groups:
            group = self._groups[0]
            group.tickets = [ticket for ticket in group.tickets if ticket.done is not None]
            if group.tickets:
                return group
            self._groups.popleft()
        return None

    def pop(self) -> None:
        """Take out what `first` returned."""
        self._groups.popleft()

    def waiting(self) -> list[Ticket]:
        """Return the tickets in it somebody waits for."""
        return [ticket for group in self._groups for ticket in group.tickets if ticket.done is not None]

    def clear(self) -> list[Ticket]:
        """Take out everything; return the tickets somebody waits for."""
        waiting = self.waiting()
        self._groups.clear()
        return waiting

    def died(self, seat: Seat, needed: int, now: float) -> None:
        """Decide about everything an instance had in flight when it died; the first batch is accused.

        Args:
            seat: Of the instance, taken out already.
            needed: Deaths that convict a request.
            now: The instant.
        """
        again: list[Group] = []
        convicted: list[Ticket] = []
        for job in seat.jobs:
            waiting = job.waiting()
            if job is not seat.jobs[0]:
                again += [Group(waiting, exclusive=False)] if waiting else []
                continue
            for ticket in waiting:
                ticket.deaths += 1
            if job.group is not None and job.group.row is not None:
                for ticket in waiting:
                    if ticket.deaths <= needed:
                        again.append(job.group)  # In doubt the row runs once more.
                    else:
                        self._convict(ticket, job.group.row, now)
            else:
                again, convicted = after_death(waiting, job.group, needed)
        self._groups.extendleft(reversed(again))
        for ticket in convicted:
            self._suspect(ticket, now)

    def failed(self, job: Job, error: ForetellError, now: float) -> None:
        """Decide about a batch on which the runtime raised: of several requests, only the guilty gets the error."""
        waiting = job.waiting()
        if len(waiting) > 1:
            self._groups.extend(after_error(waiting))
            return
        for ticket in waiting:
            self._settling.fail(ticket, error, now)

    def next_row(self, group: Group, now: float) -> None:
        """Go on to the next row of a request that kills: this one does not."""
        ticket, row = group.tickets[0], (group.row or 0) + 1
        if row < ticket.rows:
            self._groups.appendleft(Group([ticket], row=row))
        else:
            self._convict(ticket, None, now)

    def _suspect(self, ticket: Ticket, now: float) -> None:
        """Quarantine a convicted request; of several rows, find the one that kills."""
        self._quarantine.add(fingerprint(ticket.inputs), now)
        self._ledger.quarantined()
        if ticket.rows > 1 and self.can_cut:
            self._groups.appendleft(Group([ticket], row=0))
        else:
            self._convict(ticket, None, now)

    def _convict(self, ticket: Ticket, row: int | None, now: float) -> None:
        subject = "request"
        if row is not None:
            self._quarantine.add(fingerprint(ticket.inputs, row), now)
            subject = f"request: row {ticket.first_row + row}"
        kept = f"refused for {self._quarantine.keep_s:g} s"
        crashed = WorkerCrashed(f'{subject}: the worker of model "{self._name}" dies of it; {kept}')
        self._settling.fail(ticket, crashed, now)
