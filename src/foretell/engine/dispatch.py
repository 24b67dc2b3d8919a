"""Forms batches and sends them: what is due first runs first, with all that may share its batch. Settles no answer."""

from __future__ import annotations

from collections.abc import Callable

from foretell.clock import Clock
from foretell.engine import scheduling
from foretell.engine.admission import Admission
from foretell.engine.batch import MOST_PICTURES, PICTURES, Tensors, merge
from foretell.engine.instance import Instance
from foretell.engine.limits import Limits
from foretell.engine.loop import Loop
from foretell.engine.queue import Queue
from foretell.engine.recovery import Recovery
from foretell.engine.seats import Seat, Seats
from foretell.engine.settling import Settling
from foretell.engine.suspects import Group
from foretell.engine.ticket import Ticket
from foretell.engine.watch import LOOK_S, Watch
from foretell.errors import DeadlineExceeded, ForetellError

__all__ = ["Dispatch"]

_BULK_SLACK_S = 0.4
"""However late bulk requests are due, their batches are no longer than those of requests due so soon."""


class Dispatch:
    """The way of the requests of one version from the queue to its instances.

    Attributes:
        batchable: Whether several requests may share a batch.
    """

    __slots__ = (
        "_admission", "_is_due", "_limits", "_loop", "_now", "_on_death", "_queue", "_recovery", "_seats", "_settling",
        "_watch", "batchable",
    )  # fmt: skip

    def __init__(
        self,
        queue: Queue,
        seats: Seats,
        recovery: Recovery,
        settling: Settling,
        admission: Admission,
        watch: Watch,
        limits: Limits,
        clock: Clock,
        loop: Loop,
        on_death: Callable[[Instance, str], None],
    ) -> None:
        self._queue = queue
        self._seats = seats
        self._recovery = recovery
        self._settling = settling
        self._admission = admission
        self._watch = watch
        self._limits = limits
        self._now = clock.now
        self._loop = loop
        self._on_death = on_death
        self._is_due = False
        self.batchable = True

    def soon(self) -> None:
        """Flush in the next iteration of the loop: everything admitted until then joins."""
        if not self._is_due and self._seats.free() is not None:
            self._is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send batches while an instance takes more."""
        self._is_due = False
        now = self._now()
        doomed: list[Ticket] = []
        while (seat := self._seats.free()) is not None:
            group = self._recovery.first() if self._recovery else None
            if group is not None:
                if group.exclusive and seat.jobs:
                    break  # It needs an instance of its own: nothing else is sent until one is empty.
                self._recovery.pop()
                self._send(seat, group.tickets, group, now)
                continue
            first = self._queue.first()
            if first is None:
                break
            slack_s = first.deadline - now - seat.ahead_s(now)
            pace = self._admission.pace_of(first.key)
            # A prediction dooms nothing that could run at once: if it is wrong, only a run puts it right.
            if slack_s <= pace.seconds(first.rows) and (slack_s <= 0 or seat.jobs or len(self._queue) > 1):
                doomed += self._queue.take(first, 0, 0, alone=True)
                continue
            if first.rows == self._queue.rows:
                self._send(seat, self._queue.take(first, 0, 0, alone=True), None, now)
                break
            is_brief = False
            if first.priority:
                slack_s, is_brief = min(slack_s, _BULK_SLACK_S), self._queue.expects_interactive(now)
            most_rows = scheduling.batch_rows(pace, slack_s, self._limits.max_batch_size, is_brief=is_brief)
            if first.key is PICTURES:
                most_rows = min(most_rows, MOST_PICTURES)
            alone = not self.batchable
            self._send(seat, self._queue.take(first, most_rows, self._limits.max_batch_bytes, alone), None, now)
        if doomed:
            self._admission.was_late()
        for ticket in doomed:
            error = DeadlineExceeded("request: its deadline was too near when its turn came; it was not run")
            self._settling.fail(ticket, error, now)

    def _send(self, seat: Seat, tickets: list[Ticket], group: Group | None, now: float) -> None:
        if group is not None and group.row is not None:
            inputs: Tensors = {name: a[group.row : group.row + 1] for name, a in tickets[0].inputs.items()}
            rows = 1
        else:
            rows = sum([ticket.rows for ticket in tickets])
            inputs = _one_piece(tickets, rows) or merge([ticket.inputs for ticket in tickets])
        expected_s = self._admission.pace_of(tickets[0].key).seconds(rows)
        job = self._seats.put(seat, tickets, rows, group, now, expected_s)
        if now + LOOK_S < self._watch.wake_at:
            self._watch.wake_by(now + LOOK_S, now)
        try:
            seat.instance.send(job.id, inputs, rows)
        except ForetellError as error:
            self._loop.call_soon(self._on_death, seat.instance, str(error))


def _one_piece(tickets: list[Ticket], rows: int) -> Tensors | None:
    """Return the inputs of tickets that came in one piece and are all there, in their order; else None."""
    first, last = tickets[0], tickets[-1]
    chunk, start = first.chunk, first.chunk_row
    if not chunk or last.chunk is not chunk or last.chunk_row + last.rows - start != rows:
        return None
    at = start
    for ticket in tickets:
        if ticket.chunk is not chunk or ticket.chunk_row != at:
            return None
        at += ticket.rows
    return {name: array[start : start + rows] for name, array in chunk.items()}
