"""Requests that wait, in the order in which they should run. Knows no clock and runs nothing.

Interactive before bulk, then the earliest deadline first, then first come, first served. Only requests of equal keys
share a batch, so each key has a lane of its own. Deadlines mostly come in rising order: a lane is a line to whose end
they are added, and a heap for the few that push in.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterator

from foretell.engine.ticket import Ticket

__all__ = ["Queue"]

_BUCKET = 4.0
_FAR_S = 30.0


class _Lane:
    """Tickets of one key and priority by deadline."""

    __slots__ = ("count", "heap", "line")

    def __init__(self) -> None:
        self.line: deque[Ticket] = deque()
        self.heap: list[tuple[float, int, Ticket]] = []
        self.count = 0

    def push_in(self, ticket: Ticket) -> None:
        """Add a ticket that is due before the last of the line."""
        self.count += 1
        heapq.heappush(self.heap, (ticket.deadline, self.count, ticket))

    def waiting(self) -> Iterator[Ticket]:
        """Give every ticket somebody waits for."""
        yield from (ticket for ticket in self.line if ticket.done is not None)
        yield from (ticket for _, _, ticket in self.heap if ticket.done is not None)

    def head(self) -> Ticket | None:
        """Return the first ticket somebody waits for; the others before it are dropped."""
        line, heap = self.line, self.heap
        while line and line[0].done is None:
            line.popleft()
        if not heap:
            return line[0] if line else None
        while heap and heap[0][2].done is None:
            heapq.heappop(heap)
        if heap and (not line or heap[0][0] < line[0].deadline):
            return heap[0][2]
        return line[0] if line else None

    def pop(self, ticket: Ticket) -> None:
        """Take out what `head` returned."""
        if self.line and self.line[0] is ticket:
            self.line.popleft()
        else:
            heapq.heappop(self.heap)

    def take(self, taken: list[Ticket], most_rows: int, most_bytes: int) -> None:
        """Move tickets to `taken`, in order, as far as they fit."""
        line = self.line
        while most_rows > 0:
            # Mostly nobody has pushed in or gone away: the line is what comes next.
            ticket = line[0] if line and not self.heap and line[0].done is not None else self.head()
            if ticket is None:
                return
            most_rows -= ticket.rows
            most_bytes -= ticket.nbytes
            if most_rows < 0 or most_bytes < 0:
                return
            if line and line[0] is ticket:
                line.popleft()
            else:
                self.pop(ticket)
            taken.append(ticket)

    def sweep(self) -> None:
        self.line = deque(t for t in self.line if t.done is not None)
        self.heap = [entry for entry in self.heap if entry[2].done is not None]
        heapq.heapify(self.heap)


class _Urgencies:
    """Rows that wait, by priority and by when they are due."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def count(self, ticket: Ticket) -> None:
        """Count a ticket that waits."""
        ticket.bucket = bucket = int(min(ticket.deadline, ticket.admitted + _FAR_S) * _BUCKET)
        rows = self._rows[ticket.priority]
        rows[bucket] = rows.get(bucket, 0) + ticket.rows

    def count_out(self, ticket: Ticket) -> None:
        """Count a ticket that waits no more."""
        rows, bucket = self._rows[ticket.priority], ticket.bucket
        left = rows[bucket] - ticket.rows
        if left:
            rows[bucket] = left
        else:
            del rows[bucket]

    def rows_ahead(self, priority: int, deadline: float) -> int:
        """Return the rows that run before a new ticket."""
        bucket = int(deadline * _BUCKET)
        ahead = sum(rows for key, rows in self._rows[priority].items() if key <= bucket)
        return ahead + sum(self._rows[0].values()) if priority else ahead


class Queue:
    """Everything of one version that waits.

    Attributes:
        rows: That wait.
        nbytes: Of their tensors.
    """

    __slots__ = ("_alive", "_dead", "_lanes", "_latest", "_urgencies", "nbytes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.nbytes = 0
        self._alive = 0
        self._dead = 0
        self._lanes: tuple[dict[Hashable, _Lane], dict[Hashable, _Lane]] = ({}, {})
        self._latest = [0.0, 0.0]
        self._urgencies: _Urgencies | None = None
        """Counted while somebody asks who would push in; mostly everybody comes last."""

    def __len__(self) -> int:
        return self._alive

    def push(self, ticket: Ticket) -> None:
        """Let a ticket wait."""
        priority, deadline = ticket.priority, ticket.deadline
        lane = self._lanes[priority].get(ticket.key)
        if lane is None:
            lane = self._lanes[priority][ticket.key] = _Lane()
        line = lane.line
        if not line or deadline >= line[-1].deadline:
            line.append(ticket)
        else:
            lane.push_in(ticket)
        ticket.is_queued = True
        if not self._alive:
            self._latest, self._urgencies = [0.0, 0.0], None
        if deadline > self._latest[priority]:
            self._latest[priority] = deadline
        self._alive += 1
        self.rows += ticket.rows
        self.nbytes += ticket.nbytes
        if self._urgencies is not None:
            self._urgencies.count(ticket)

    def push_all(self, tickets: list[Ticket], rows: int, nbytes: int) -> None:
        """Let tickets of one key, priority and deadline wait, of so many rows and bytes together."""
        first = tickets[0]
        lanes = self._lanes[first.priority]
        lane = lanes.get(first.key)
        if lane is None:
            lane = lanes[first.key] = _Lane()
        if (lane.line and first.deadline < lane.line[-1].deadline) or (self._urgencies is not None and self._alive):
            for ticket in tickets:
                self.push(ticket)
            return
        lane.line += tickets
        for ticket in tickets:
            ticket.is_queued = True
        if not self._alive:
            self._latest, self._urgencies = [0.0, 0.0], None
        if first.deadline > self._latest[first.priority]:
            self._latest[first.priority] = first.deadline
        self._alive += len(tickets)
        self.rows += rows
        self.nbytes += nbytes

    def rows_ahead(self, priority: int, deadline: float) -> int:
        """Return about how many rows run before a new ticket: those more urgent, or as urgent within 250 ms."""
        latest = self._latest
        if deadline >= latest[priority] and (priority or not latest[1]):
            return self.rows
        if self._urgencies is None:
            self._urgencies = _Urgencies()
            for lanes in self._lanes:
                for lane in lanes.values():
                    for ticket in lane.waiting():
                        self._urgencies.count(ticket)
        return self._urgencies.rows_ahead(priority, deadline)

    def expects_interactive(self, now: float) -> bool:
        """Whether an interactive ticket was due a second ago or later: another may come."""
        return self._latest[0] > now - 1.0

    def forget(self, ticket: Ticket) -> None:
        """Count a waiting ticket out: it was settled or cancelled. Its place is cleared later."""
        if ticket.is_queued:
            self._count_out(ticket)
            self._dead += 1
            if self._dead > 64 and self._dead > self._alive:
                self._sweep()

    def first(self) -> Ticket | None:
        """Return the ticket to run next."""
        for lanes in self._lanes:
            if len(lanes) == 1:
                (only,) = lanes.values()
                found = only.head()
                if found is not None:
                    return found
            best = None
            for key in list(lanes):
                head = lanes[key].head()
                if head is None:
                    del lanes[key]
                elif best is None or head.deadline < best.deadline:
                    best = head
            if best is not None:
                return best
        return None

    def take(self, first: Ticket, most_rows: int, most_bytes: int, alone: bool) -> list[Ticket]:
        """Take out `first`, which `first()` returned, and those that may run with it, in order.

        Args:
            first: The ticket to run next; taken whatever its rows.
            most_rows: Of all together.
            most_bytes: Of their tensors together.
            alone: No other may run with it.
        """
        lane = self._lanes[first.priority][first.key]
        lane.pop(first)
        taken = [first]
        if not alone:
            lane.take(taken, most_rows - first.rows, most_bytes - first.nbytes)
        for ticket in taken:
            self._count_out(ticket)
        return taken

    def expire(self, until: float) -> list[Ticket]:
        """Take out every ticket whose deadline is not after `until`."""
        expired = []
        for lanes in self._lanes:
            for lane in lanes.values():
                while (head := lane.head()) is not None and head.deadline <= until:
                    lane.pop(head)
                    self._count_out(head)
                    expired.append(head)
        return expired

    def earliest(self) -> float:
        """Return the earliest deadline of all, or infinity."""
        heads = (lane.head() for lanes in self._lanes for lane in lanes.values())
        return min((head.deadline for head in heads if head is not None), default=float("inf"))

    def clear(self) -> list[Ticket]:
        """Take out everything."""
        return self.expire(float("inf"))

    def _count_out(self, ticket: Ticket) -> None:
        ticket.is_queued = False
        self._alive -= 1
        self.rows -= ticket.rows
        self.nbytes -= ticket.nbytes
        if self._urgencies is not None:
            self._urgencies.count_out(ticket)

    def _sweep(self) -> None:
        self._dead = 0
        for lanes in self._lanes:
            for lane in lanes.values():
                lane.sweep()
