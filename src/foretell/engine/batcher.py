"""One model version: requests come in, batches go out, reports come back. Its parts do the work; this ties them.

1 infer     check, admit or refuse; the first request of an iteration of the loop schedules one flush
2 flush     in `dispatch`: while an instance takes more, run what is due first, with all that may share its batch
3 report    send what is next, and only then settle the callers; a death or an error goes to `recovery`

What happens because time passes is `watch`. Knows no process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from foretell.clock import Clock
from foretell.engine import scheduling
from foretell.engine.admission import LOSS_S, SILENCE_S, Admission
from foretell.engine.batch import MOST_PICTURES, PICTURES, Layout, Tensors, count_bytes
from foretell.engine.dispatch import Dispatch
from foretell.engine.instance import Instance
from foretell.engine.ledger import Ledger
from foretell.engine.limits import Limits
from foretell.engine.loop import Loop
from foretell.engine.pace import Pace
from foretell.engine.pieces import Whole, cut
from foretell.engine.queue import Queue
from foretell.engine.recovery import Recovery
from foretell.engine.seats import Job, Seat, Seats
from foretell.engine.settling import Settling
from foretell.engine.suspects import deaths_needed
from foretell.engine.ticket import Done, Sink, Ticket
from foretell.engine.watch import Watch
from foretell.errors import ForetellError, InvalidOutput
from foretell.request import INTERACTIVE, InferRequest, InferResponse

__all__ = ["Asked", "Batcher", "Caller"]

_LOG = logging.getLogger("foretell.engine")
_NEVER = float("inf")


class Caller(Protocol):
    """Somebody who asked, with many others."""

    def fail(self, error: ForetellError) -> None:
        """Take a refusal or an error."""
        ...


Asked = tuple[Tensors | None, int, int, Caller]
"""Inputs, or None where they are in one piece with those of others; rows, bytes, and who asks."""


class Batcher:
    """Requests of one version on their way to its instances.

    Attributes:
        admission: The gate.
        settling: The way back.
        on_loss: Called with an instance that died or hung, and why; it is out already.
        on_work: Called when an instance has answered.
    """

    def __init__(
        self,
        name: str,
        version: str,
        layout: Layout,
        pace: Pace,
        limits: Limits,
        clock: Clock,
        loop: Loop,
        ledger: Ledger,
        picture_pace: Pace | None = None,
    ) -> None:
        self._name = name
        self._version = version
        self._layout = layout
        self._limits = limits
        self._now = clock.now
        self._ledger = ledger
        self._queue = queue = Queue()
        self._seats = seats = Seats(limits.batches_in_flight)
        self.admission = Admission(name, pace, limits, queue, seats, picture_pace)
        self._quarantine = self.admission.quarantine
        self._patience_s = self.admission.patience_s
        self.settling = Settling(name, version, ledger, loop)
        self._recovery = Recovery(name, self._quarantine, self.settling, ledger)
        self._watch = Watch(
            queue, seats, self._recovery, self.settling, self.admission, limits, clock, loop, self._hangs
        )
        self._dispatch = Dispatch(
            queue, seats, self._recovery, self.settling, self.admission, self._watch, limits, clock, loop, self._died
        )
        self._dispatch.batchable = self._recovery.can_cut = layout.batchable
        self.on_loss: Callable[[Instance, str], None] = lambda instance, reason: None
        self.on_work: Callable[[], None] = lambda: None

    @property
    def pending(self) -> int:
        """Requests admitted and not yet settled."""
        return self._ledger.pending

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a batch."""
        return self._queue.rows

    @property
    def queued_bytes(self) -> int:
        """Bytes of their tensors."""
        return self._queue.nbytes

    @property
    def instances(self) -> list[Instance]:
        """Instances that take batches."""
        return [seat.instance for seat in self._seats.all]

    def __repr__(self) -> str:
        return (
            f'<Batcher "{self._name}" version {self._version}: {len(self._queue)} queued, '
            f"{self._seats.in_flight} batches in flight, {len(self._seats.all)} instances, {self.pending} pending>"
        )

    # 1 infer

    def infer(self, request: InferRequest, done: Done) -> Ticket | Whole | None:
        """Admit a request or refuse it; see `Engine.infer`."""
        now, limits = self._now(), self._limits
        inputs, rows, deadline = request.inputs, request.rows, request.deadline
        if deadline is None:
            deadline = now + limits.default_timeout_s
        nbytes = request.nbytes or count_bytes(inputs)
        self.admission.ask(rows, 1)
        try:
            key = self._layout.check(inputs, rows)
            priority = 1 if request.priority else 0
            ticket = Ticket(request.id, inputs, rows, nbytes, key, priority, now, deadline, done, self._gone)
            patience_s = limits.max_queue_s
            if request.deadline is None:
                patience_s = self._patience_s(rows, priority, now)
                ticket.due = now + patience_s
            self._let_in(ticket, patience_s)
        except ForetellError as error:
            self._ledger.refused(error, done)
            return None
        most_rows = self._most_rows(rows, nbytes) if key is not PICTURES else min(MOST_PICTURES, limits.max_batch_size)
        if rows > most_rows:
            return self._push_pieces(ticket, most_rows, done)
        self._push(ticket)
        return ticket

    def _most_rows(self, rows: int, nbytes: int) -> int:
        """Return how many rows of a request may run at once."""
        limits = self._limits
        if (rows <= limits.max_batch_size and nbytes <= limits.max_batch_bytes) or not self._dispatch.batchable:
            return rows
        return max(1, min(limits.max_batch_size, limits.max_batch_bytes * rows // nbytes))

    def room(self, requests: int, timeout_s: float | None, priority: int) -> tuple[int, ForetellError | None]:
        """Return how many of so many requests are worth reading, and why the others are not.

        Reading a request costs more than refusing it. While nothing is refused, all of them are worth it.

        Args:
            requests: Not read yet; each is taken for one row.
            timeout_s: The longest they can have; None: the default.
            priority: The highest they can have.
        """
        if not self.admission.is_pressed:
            return requests, None
        now = self._now()
        return self.admission.room(requests, priority, *self._time_of(timeout_s, 1, priority, now), now)

    def count_refused(self, error: ForetellError, requests: int) -> None:
        """Count requests that were refused because there was no `room`."""
        self._ledger.count_refused(error, requests)

    @property
    def spare_s(self) -> float:
        """Seconds for which nobody need look after its instances: a quarter of what they were given to do."""
        return self._seats.flying_s / (4 * max(1, len(self._seats.all)))

    def infer_all(
        self,
        asked: list[Asked],
        sink: Sink,
        timeout_s: float | None = None,
        priority: int = INTERACTIVE,
        chunk: Tensors | None = None,
    ) -> list[Ticket]:
        """Admit or refuse many requests that came in one iteration of the loop, and send what can be sent.

        They need not be cut, and their tensors were checked by whoever made them.

        Args:
            asked: Inputs, rows, bytes, and the caller, whose `fail` takes a refusal or an error.
            sink: Takes the answers.
            timeout_s: Time of each; None: the default.
            priority: Of all.
            chunk: The inputs of all of them in one piece, in order: if they run together, nothing is copied.

        Returns:
            For each its ticket; that of one that was refused is settled.
        """
        now = self._now()
        left_s, patience_s = self._time_of(timeout_s, asked[0][1], priority, now)
        deadline = now + left_s
        due = now + patience_s if timeout_s is None else _NEVER
        rows, nbytes = sum([each[1] for each in asked]), sum([each[2] for each in asked])
        self.admission.ask(rows, len(asked))
        fit = not self._quarantine.until and self.admission.fits(rows, nbytes, left_s, patience_s)
        first = chunk if chunk is not None else asked[0][0] or {}
        key: tuple[Any, ...] = self._layout.check(first, rows if chunk is not None else asked[0][1])
        at = 0
        tickets: list[Ticket] = []
        gone = self._gone
        for inputs, count, size, caller in asked:
            fail = cast("Done", caller.fail)  # the sink takes its answer
            ticket = Ticket("", inputs, count, size, key, priority, now, deadline, fail, gone)
            ticket.sink, ticket.caller, ticket.due = sink, caller, due
            if chunk is not None:
                ticket.chunk, ticket.chunk_row = chunk, at
                at += count
            tickets.append(ticket)
        if fit:
            self._ledger.pending += len(tickets)
            self._queue.push_all(tickets, rows, nbytes)
        else:
            self._push_fitting(tickets, timeout_s)
        if deadline < self._watch.wake_at and self._queue.rows:
            self._watch.wake_by(deadline, now)
        self._dispatch.flush()
        return tickets

    def _time_of(self, timeout_s: float | None, rows: int, priority: int, now: float) -> tuple[float, float]:
        """Return the time until the deadline of a request, and its longest wait."""
        if timeout_s is None:
            return self._limits.default_timeout_s, self._patience_s(rows, priority, now)
        return timeout_s, self._limits.max_queue_s

    def _push_fitting(self, tickets: list[Ticket], timeout_s: float | None) -> None:
        """Let in one after another, with a close look at each."""
        for ticket in tickets:
            try:
                _, patience_s = self._time_of(timeout_s, ticket.rows, ticket.priority, ticket.admitted)
                self._let_in(ticket, patience_s)
            except ForetellError as error:
                fail, ticket.done = ticket.done, None
                if fail is not None:
                    self._ledger.refused(error, fail)
            else:
                self._ledger.pending += 1
                self._queue.push(ticket)

    def _let_in(self, ticket: Ticket, patience_s: float) -> None:
        """Raise why a ticket is not let in, if it is not."""
        now = ticket.admitted
        if self._quarantine.until:
            self._quarantine.check(ticket.inputs, ticket.rows, now)
        left_s = ticket.deadline - now
        self.admission.refuse_late(ticket.rows, ticket.nbytes, ticket.priority, left_s, patience_s, now)

    def _push(self, ticket: Ticket) -> None:
        self._ledger.pending += 1
        self._queue.push(ticket)
        self._dispatch.soon()
        if ticket.deadline < self._watch.wake_at:
            self._watch.wake_by(ticket.deadline, ticket.admitted)

    def _push_pieces(self, ticket: Ticket, most_rows: int, done: Done) -> Whole:
        """Let the pieces of a request that no batch can take wait; the whole of it is counted once, here."""
        admitted, ledger = ticket.admitted, self._ledger

        def settled(result: InferResponse | ForetellError) -> None:
            if isinstance(result, ForetellError):
                ledger.failed(result, self._now() - admitted)
            else:
                ledger.answered_whole(result.timing, self._now())
            done(result)

        parts = cut(ticket.inputs, ticket.rows, most_rows)
        whole = Whole(ticket.id, len(parts), settled, lambda: ledger.cancelled(self._now() - admitted))
        for index, (first_row, inputs) in enumerate(parts):
            piece = ticket.piece(first_row, inputs, min(most_rows, ticket.rows - first_row), whole.part(index))
            whole.pieces.append(piece)
        for piece in whole.pieces:
            self._push(piece)
        return whole

    def _gone(self, ticket: Ticket) -> None:
        """Enter that a caller has gone; `ticket.done` is None already."""
        self._queue.forget(ticket)
        if ticket.weight:
            self._ledger.cancelled(self._now() - ticket.admitted)
        self.settling.release(1)

    # 3 report

    def add(self, instance: Instance) -> None:
        """Let an instance take batches."""
        instance.on_answer = self._answered
        instance.on_error = self._failed
        instance.on_death = self._died
        if not instance.ready:
            self.on_loss(instance, "ended before its first batch")
            return
        self.admission.outage = ""
        self._seats.add(instance, self._now())
        self._dispatch.flush()

    def tell_outage(self, reason: str, until: float) -> None:
        """Enter that there is no instance until that instant. With a reason it lasts: what waits is refused."""
        self.admission.outage, self.admission.outage_until = reason, until
        if reason:
            now = self._now()
            for ticket in self._queue.clear() + self._recovery.clear():
                self.settling.fail(ticket, self.admission.not_ready(now), now)

    def _answered(self, instance: Instance, job_id: int, outputs: list[NDArray[Any]], run_ns: int) -> None:
        now = self._now()
        reported = self._seats.reported(job_id, now)
        if reported is None:
            return
        job, seconds = reported
        self._report(job, outputs, run_ns, now)
        if now > job.tickets[0].due:
            self.admission.was_late()
        self.admission.observe(job.rows, seconds, run_ns * 1e-9, job.tickets[0].key)
        if scheduling.is_silence(job.expected_s, seconds):
            self.admission.disturb(now + SILENCE_S)
        self.on_work()

    def _report(self, job: Job, outputs: list[NDArray[Any]], run_ns: int, now: float) -> None:
        if job.group is not None and job.group.row is not None:
            self._recovery.next_row(job.group, now)
            self._dispatch.flush()
            return
        # The instance gets its next batch before the callers get this one's answers.
        if self._queue.rows or self._recovery:
            self._dispatch.flush()
        if job.tickets[0].key is PICTURES:
            *outputs, errors = outputs
            self.settling.fail_rows(job, errors, now)
        for output in outputs:
            if output.shape[:1] != (job.rows,) and not self._is_one_whole(job):
                self._unbatch(job, now)
                return
        self.settling.answer(job, outputs, run_ns, now)

    def _failed(self, instance: Instance, job_id: int, error: ForetellError) -> None:
        now = self._now()
        reported = self._seats.reported(job_id, now)
        if reported is None:
            return
        job, _ = reported
        if job.group is not None and job.group.row is not None:
            self._recovery.next_row(job.group, now)
        else:
            self._recovery.failed(job, error, now)
        self._dispatch.flush()

    def _is_one_whole(self, job: Job) -> bool:
        """Return whether its outputs all belong to one caller, however many rows they have."""
        return len(job.tickets) == 1 and job.tickets[0].weight > 0

    def _unbatch(self, job: Job, now: float) -> None:
        """Run one by one, from now on, what cannot be split: axis 0 of this model's outputs does not count rows."""
        self._dispatch.batchable = self._recovery.can_cut = False
        reason = f"its outputs do not have a row for each of {job.rows} rows; send one row a request"
        error = InvalidOutput(f'model "{self._name}": {reason}')
        for ticket in job.tickets:
            if not ticket.weight:
                self.settling.fail(ticket, error, now)
        self._recovery.failed(job, error, now)
        self._dispatch.flush()

    def _died(self, instance: Instance, reason: str) -> None:
        self._lose(instance, "died", reason)

    def _hangs(self, seat: Seat, reason: str) -> None:
        seat.instance.kill()
        self._lose(seat.instance, "hung", reason)

    def _lose(self, instance: Instance, why: str, reason: str) -> None:
        seat = self._seats.remove(instance)
        if seat is None:
            return
        self._ledger.restarted(why)
        self.admission.disturb(self._now() + LOSS_S)
        _LOG.warning('model "%s" version %s: worker %d %s: %s', self._name, self._version, instance.pid, why, reason)
        self.on_loss(instance, reason)
        self._recovery.died(seat, deaths_needed(why, reason), self._now())
        self._dispatch.flush()

    def close(self, error: ForetellError) -> None:
        """Settle everything with an error and let go of every instance. The instances themselves go on."""
        now = self._now()
        waiting = self._queue.clear() + self._recovery.clear()
        for job in self._seats.jobs():
            waiting += job.waiting()
        for instance in self.instances:
            self._seats.remove(instance)
        for ticket in waiting:
            self.settling.fail(ticket, error, now)
        self._watch.stop()
