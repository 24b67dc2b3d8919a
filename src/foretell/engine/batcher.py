"""The queue of one model version: the shell round `scheduling`. It admits, forms batches, sends, settles each once.

1 infer     check, admit or refuse; the first request of an iteration of the loop schedules one flush
2 flush     while an instance takes more: run what is due first, with all that may share its batch
3 report    send what is next, and only then split the answers and settle; a death goes to `suspects`
4 wake      one timer: deadlines that pass in the queue or in flight, and instances that hang

A ticket whose `done` is None is settled, or its caller has gone: every step passes it over. Knows no process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from numpy.typing import NDArray

from foretell.clock import Clock
from foretell.engine import scheduling
from foretell.engine.batch import Layout, Tensors, count_bytes, merge
from foretell.engine.instance import Instance
from foretell.engine.ledger import Ledger
from foretell.engine.limits import Limits
from foretell.engine.pace import Pace
from foretell.engine.pieces import Whole, cut
from foretell.engine.queue import Done, Queue, Ticket
from foretell.engine.seats import Job, Seat, Seats
from foretell.engine.suspects import Group, Quarantine, after_death, after_error, fingerprint
from foretell.errors import (
    DeadlineExceeded,
    ForetellError,
    InvalidOutput,
    ModelNotReady,
    Overloaded,
    QueueFull,
    RequestTooLarge,
    WorkerCrashed,
)
from foretell.request import InferRequest, InferResponse, Timing

__all__ = ["Batcher", "Done", "Loop", "Timer"]

_LOOK_S = 0.25
_NEVER = float("inf")


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Do not call."""
        ...


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[..., Any], /, *args: Any) -> Any:
        """Call in this iteration or the next."""
        ...

    def call_later(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> Timer:
        """Call after so many seconds."""
        ...

    def call_exception_handler(self, context: dict[str, Any], /) -> None:
        """Report an exception that nobody else can."""
        ...


class Batcher:
    """Requests of one version on their way to its instances.

    Attributes:
        outage: Why no instance is going to take anything for a while; empty while one is there or about to be.
        outage_until: When the next instance should be ready, while there is none.
        on_loss: Called with an instance that died or hung, and why; it is out already.
        on_settled: Called when nothing is pending any more, while it is set.
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
    ) -> None:
        self._name = name
        self._version = version
        self._layout = layout
        self._pace = pace
        self._limits = limits
        self._now = clock.now
        self._loop = loop
        self._ledger = ledger
        self._queue = Queue()
        self._seats = Seats(limits.batches_in_flight)
        self._groups: deque[Group] = deque()
        self._quarantine = Quarantine(limits.quarantine_s)
        self._batchable = layout.batchable
        self._is_due = False
        self._caution = 1.0
        self._was_late = False
        self._rate_s = 0.0
        self._learn()
        self._wake_at = _NEVER
        self._timer: Timer | None = None
        self.outage = ""
        self.outage_until = 0.0
        self.on_loss: Callable[[Instance, str], None] = lambda instance, reason: None
        self.on_work: Callable[[], None] = lambda: None
        """Called when an instance has answered."""
        self.on_settled: Callable[[], None] | None = None

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
        return [seat.instance for seat in self._seats]

    def __repr__(self) -> str:
        return (
            f'<Batcher "{self._name}" version {self._version}: {len(self._queue)} queued, '
            f"{self._seats.in_flight} batches in flight, {len(self._seats)} instances, {self.pending} pending>"
        )

    # 1 infer

    def infer(self, request: InferRequest, done: Done) -> Ticket | Whole | None:
        """Admit a request or refuse it; see `Engine.infer`."""
        now = self._now()
        inputs, rows = request.inputs, request.rows
        nbytes = request.nbytes or count_bytes(inputs)
        deadline = request.deadline
        if deadline is None:
            deadline = now + self._limits.default_timeout_s
        priority = 1 if request.priority else 0
        try:
            key = self._layout.check(inputs, rows)
            if self._quarantine.until:
                self._quarantine.check(inputs, rows, now)
            self._admit(rows, nbytes, priority, deadline, now)
        except ForetellError as error:
            self._ledger.refused(error, done)
            return None
        most_rows = self._most_rows(rows, nbytes)
        if rows > most_rows:
            return self._push_pieces(request, nbytes, key, priority, now, deadline, most_rows, done)
        ticket = Ticket(request.id, inputs, rows, nbytes, key, priority, now, deadline, done, self._gone)
        self._push(ticket)
        return ticket

    def _admit(self, rows: int, nbytes: int, priority: int, deadline: float, now: float) -> None:
        if self.outage:
            raise ModelNotReady(f'model "{self._name}": {self.outage}', retry_after_s=max(1.0, self.outage_until - now))
        queue, left_s = self._queue, deadline - now
        wait_s = self._wait_s(queue.rows_ahead(priority, deadline) + rows, now)
        why = scheduling.admit(
            rows=rows,
            nbytes=nbytes,
            queued_rows=queue.rows,
            queued_bytes=queue.nbytes,
            wait_s=wait_s,
            left_s=left_s,
            idle=not self._seats.in_flight and not queue.rows and len(self._seats) > 0,
            limits=self._limits,
        )
        if why is not None:
            raise self._refusal(why, rows, nbytes, wait_s, left_s)

    def _wait_s(self, rows: int, now: float) -> float:
        """Return the predicted seconds until the last of so many rows is answered."""
        seats = len(self._seats)
        wait_s = (self._seats.flying_s + rows * self._rate_s) * self._caution
        if not seats:
            return wait_s + max(0.0, self.outage_until - now)
        return wait_s / seats if seats > 1 else wait_s

    def _refusal(self, why: scheduling.Refusal, rows: int, nbytes: int, wait_s: float, left_s: float) -> ForetellError:
        limits, queue = self._limits, self._queue
        if why == "too_large":
            return RequestTooLarge(
                f"request: {rows} rows of {nbytes} bytes; the queue takes at most {limits.max_queue_rows} rows "
                f"(max_queue_rows) and {limits.max_queue_bytes} bytes (max_queue_bytes); send fewer rows at once"
            )
        if why == "expired":
            return DeadlineExceeded("request: its deadline had passed before it was admitted")
        if why == "queue_full":
            return QueueFull(
                f'model "{self._name}": {queue.rows} rows of {queue.nbytes} bytes are waiting, no place for '
                f"{rows} rows of {nbytes} bytes; retry later",
                retry_after_s=max(0.1, wait_s / 2),
            )
        within = min(left_s, limits.max_queue_s)
        return Overloaded(
            f'model "{self._name}": an answer would take about {wait_s * 1e3:.0f} ms, expected within '
            f"{within * 1e3:.0f} ms; retry later",
            retry_after_s=max(0.1, wait_s - within),
        )

    def _most_rows(self, rows: int, nbytes: int) -> int:
        """Return the rows above which this request is cut."""
        if not self._batchable:
            return rows
        if nbytes <= self._limits.max_batch_bytes:
            return self._limits.max_batch_size
        return max(1, min(self._limits.max_batch_size, self._limits.max_batch_bytes * rows // nbytes))

    def _push(self, ticket: Ticket) -> None:
        self._ledger.pending += 1
        self._queue.push(ticket)
        if not self._is_due and self._seats.free() is not None:
            self._is_due = True
            self._loop.call_soon(self._flush)
        if ticket.deadline < self._wake_at:
            self._wake_by(ticket.deadline, ticket.admitted)

    def _push_pieces(
        self,
        request: InferRequest,
        nbytes: int,
        key: Hashable,
        priority: int,
        now: float,
        deadline: float,
        most_rows: int,
        done: Done,
    ) -> Whole:
        def settled(result: InferResponse | ForetellError) -> None:
            if isinstance(result, ForetellError):
                self._ledger.failed(result, self._now() - now)
            else:
                timing = result.timing
                self._ledger.answered(1, 0, timing.queue_ns, timing.run_ns, timing.total_ns, self._now())
            done(result)

        parts = cut(request.inputs, request.rows, most_rows)
        whole = Whole(request, len(parts), settled, lambda: self._ledger.cancelled(self._now() - now))
        for index, (first_row, inputs) in enumerate(parts):
            rows = min(most_rows, request.rows - first_row)
            share = nbytes * rows // request.rows
            piece = Ticket(request.id, inputs, rows, share, key, priority, now, deadline, whole.part(index), self._gone)
            piece.weight, piece.first_row = 0, first_row
            whole.pieces.append(piece)
            self._push(piece)
        return whole

    def _gone(self, ticket: Ticket) -> None:
        """Enter that a caller has gone; `ticket.done` is None already."""
        self._queue.forget(ticket)
        if ticket.weight:
            self._ledger.cancelled(self._now() - ticket.admitted)
        self._release(1)

    # 2 flush

    def _flush(self) -> None:
        self._is_due = False
        now = self._now()
        doomed: list[Ticket] = []
        while (seat := self._seats.free()) is not None:
            if self._groups and not self._drop_empty_groups():
                group = self._groups[0]
                if group.exclusive and seat.jobs:
                    break  # Its seat must be empty: nothing else is sent until one is.
                self._groups.popleft()
                self._send(seat, group.tickets, group, now)
                continue
            first = self._queue.first()
            if first is None:
                break
            slack_s = first.deadline - now - seat.ahead_s(now)
            if slack_s <= self._pace.seconds(first.rows) and (seat.jobs or len(self._queue) > 1 or slack_s <= 0):
                doomed += self._queue.take(first, 0, 0, alone=True)
                continue
            most_rows = scheduling.batch_rows(self._pace, slack_s, self._limits.max_batch_size)
            alone = not self._batchable
            self._send(seat, self._queue.take(first, most_rows, self._limits.max_batch_bytes, alone), None, now)
        self._was_late = self._was_late or bool(doomed)
        for ticket in doomed:
            self._settle_error(
                ticket, DeadlineExceeded("request: its deadline passed in the queue; it was not run"), now
            )

    def _drop_empty_groups(self) -> bool:
        """Drop groups nobody waits for; True if none is left."""
        while self._groups:
            group = self._groups[0]
            group.tickets = [ticket for ticket in group.tickets if ticket.done is not None]
            if group.tickets:
                return False
            self._groups.popleft()
        return True

    def _send(self, seat: Seat, tickets: list[Ticket], group: Group | None, now: float) -> None:
        if group is not None and group.row is not None:
            inputs: Tensors = {name: a[group.row : group.row + 1] for name, a in tickets[0].inputs.items()}
            rows = 1
        else:
            inputs = merge([ticket.inputs for ticket in tickets])
            rows = sum([ticket.rows for ticket in tickets])
        job = self._seats.put(seat, tickets, rows, group, now, self._pace.seconds(rows))
        if now + _LOOK_S < self._wake_at:
            self._wake_by(now + _LOOK_S, now)
        seat.instance.send(job.id, inputs, rows)

    # 3 report

    def add(self, instance: Instance) -> None:
        """Let an instance take batches."""
        instance.on_answer = self._answered
        instance.on_error = self._failed
        instance.on_death = self._died
        if not instance.ready:
            self.on_loss(instance, "died before its first batch")
            return
        self.outage = ""
        self._seats.add(instance, self._now())
        self._flush()

    def _answered(self, instance: Instance, job_id: int, outputs: list[NDArray[Any]], run_ns: int) -> None:
        now = self._now()
        reported = self._seats.reported(job_id, now)
        if reported is None:
            return
        job, seconds = reported
        self._pace.observe(job.rows, seconds)
        self._learn()
        self.on_work()
        self._ledger.batch(job.rows, run_ns)
        self._caution = scheduling.next_caution(self._caution, late=self._was_late)
        self._was_late = False
        if job.group is not None and job.group.row is not None:
            self._next_row(job.group)
            self._flush()
            return
        # The instance gets its next batch before the callers get this one's answers.
        if self._queue.rows or self._groups:
            self._flush()
        if any(output.shape[:1] != (job.rows,) for output in outputs) and not self._is_whole(job):
            self._unbatch(job, now)
            return
        self._settle(job, outputs, run_ns, now)

    def _settle(self, job: Job, outputs: list[NDArray[Any]], run_ns: int, now: float) -> None:
        name, version, sent, batch_rows = self._name, self._version, job.sent, job.rows
        ledger = self._ledger
        at = requests = settled = rows = queue_ns = total_ns = 0
        is_shared = len(job.tickets) > 1
        answers = []
        for ticket in job.tickets:
            end = at + ticket.rows
            done = ticket.done
            if done is not None:
                ticket.done = None
                own = [output[at:end] for output in outputs] if is_shared else outputs
                queue_s, total_s = sent - ticket.admitted, now - ticket.admitted
                ledger.observed(queue_s, total_s)
                timing = Timing(int(queue_s * 1e9), run_ns, int(total_s * 1e9), batch_rows)
                answers.append((done, InferResponse(name, version, ticket.id, own, timing)))
                if ticket.weight:
                    requests += 1
                    queue_ns += timing.queue_ns
                    total_ns += timing.total_ns
                rows += ticket.rows
                settled += 1
            at = end
        ledger.answered(requests, rows, queue_ns, run_ns * requests, total_ns, now)
        for done, response in answers:
            self._call(done, response)
        self._release(settled)

    def _failed(self, instance: Instance, job_id: int, error: ForetellError) -> None:
        now = self._now()
        reported = self._seats.reported(job_id, now)
        if reported is None:
            return
        job, _ = reported
        if job.group is not None and job.group.row is not None:
            self._next_row(job.group)
            self._flush()
            return
        waiting = job.waiting()
        if len(waiting) > 1:
            self._groups.extend(after_error(waiting))
            waiting = []
        self._flush()
        for ticket in waiting:
            self._settle_error(ticket, error, now)

    def _is_whole(self, job: Job) -> bool:
        """Return whether its outputs all belong to one caller, however many rows they have."""
        return len(job.tickets) == 1 and job.tickets[0].weight > 0

    def _unbatch(self, job: Job, now: float) -> None:
        """Run one by one what cannot be split: axis 0 of this model's outputs does not count rows."""
        self._batchable = False
        waiting = job.waiting()
        if len(job.tickets) > 1:
            self._groups.extend(after_error([ticket for ticket in waiting if ticket.weight]))
            waiting = [ticket for ticket in waiting if not ticket.weight]
        self._flush()
        for ticket in waiting:
            reason = f"its outputs do not have a row for each of {job.rows} rows; send one row a request"
            self._settle_error(ticket, InvalidOutput(f'model "{self._name}": {reason}'), now)

    def _died(self, instance: Instance, reason: str) -> None:
        self._lose(instance, "died", reason)

    def _lose(self, instance: Instance, why: str, reason: str) -> None:
        seat = self._seats.remove(instance)
        if seat is None:
            return
        now = self._now()
        self._ledger.restarted(why)
        groups: list[Group] = []
        convicted: list[Ticket] = []
        for job in seat.jobs:
            waiting = job.waiting()
            if job is not seat.jobs[0]:
                groups += [Group(waiting, exclusive=False)] if waiting else []
            elif job.group is not None and job.group.row is not None:
                self._convict(job.tickets[0], job.group.row, now)
            else:
                for ticket in waiting:
                    ticket.deaths += 1
                groups, convicted = after_death(waiting, job.group, reason)
        self._groups.extendleft(reversed(groups))
        for ticket in convicted:
            self._suspect(ticket, now)
        self.on_loss(instance, reason)
        self._flush()

    def _suspect(self, ticket: Ticket, now: float) -> None:
        """Quarantine a convicted request; of several rows, find the one that kills."""
        self._quarantine.add(fingerprint(ticket.inputs), now)
        self._ledger.quarantined()
        if ticket.rows > 1 and self._batchable:
            self._groups.appendleft(Group([ticket], row=0))
        else:
            self._convict(ticket, None, now)

    def _next_row(self, group: Group) -> None:
        """Go on to the next row of a request that kills: this one does not."""
        ticket, row = group.tickets[0], (group.row or 0) + 1
        if row < ticket.rows:
            self._groups.appendleft(Group([ticket], row=row))
        else:
            self._convict(ticket, None, self._now())

    def _convict(self, ticket: Ticket, row: int | None, now: float) -> None:
        subject = "request"
        if row is not None:
            self._quarantine.add(fingerprint(ticket.inputs, row), now)
            subject = f"request: row {ticket.first_row + row}"
        crashed = WorkerCrashed(
            f'{subject}: the worker of model "{self._name}" dies of it; refused for {self._limits.quarantine_s:g} s'
        )
        self._settle_error(ticket, crashed, now)

    # 4 wake

    def _wake_by(self, instant: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake_at = instant
        self._timer = self._loop.call_later(max(0.0, instant - now), self._wake)

    def _wake(self) -> None:
        now = self._now()
        self._wake_at, self._timer = _NEVER, None
        late = [(ticket, "in the queue; it was not run") for ticket in self._queue.expire(now)]
        for group in self._groups:
            late += [(t, "while its worker was replaced") for t in group.tickets if t.deadline <= now and t.done]
        for job in self._seats.jobs():
            if job.deadline <= now:
                late += [(t, "while it ran") for t in job.waiting() if t.deadline <= now]
                job.deadline = min((t.deadline for t in job.waiting() if t.deadline > now), default=_NEVER)
        self._was_late = self._was_late or bool(late)
        for ticket, where in late:
            self._settle_error(ticket, DeadlineExceeded(f"request: its deadline passed {where}"), now)
        self._look_for_hangs(now)
        self._sleep(now)

    def _sleep(self, now: float) -> None:
        """Set the timer for what comes next, if something is pending."""
        instant = self._queue.earliest()
        for group in self._groups:
            instant = min([instant, *(t.deadline for t in group.tickets if t.done is not None)])
        if self._seats.in_flight:
            instant = min(instant, now + _LOOK_S, *(job.deadline for job in self._seats.jobs()))
        if instant < self._wake_at:
            self._wake_by(instant, now)

    def _look_for_hangs(self, now: float) -> None:
        for seat in list(self._seats):
            if not seat.jobs:
                continue
            job = seat.jobs[0]
            retries = max(ticket.deaths for ticket in job.tickets)
            after_s = scheduling.hang_after_s(self._pace, job.expected_s, retries, self._limits)
            if now - seat.began() < after_s:
                continue
            if seat.overdue != job.id:
                # If this process itself was stopped, the answer may be there and just not read yet: look again.
                seat.overdue = job.id
                continue
            seat.instance.kill()
            self._lose(
                seat.instance, "hung", f"no answer for {now - seat.began():.1f} s, expected within {after_s:.1f} s"
            )

    # settling

    def close(self, error: ForetellError) -> None:
        """Settle everything with an error and let go of every instance. The instances themselves go on."""
        now = self._now()
        waiting = self._queue.clear()
        for group in self._groups:
            waiting += [ticket for ticket in group.tickets if ticket.done is not None]
        self._groups.clear()
        for job in self._seats.jobs():
            waiting += job.waiting()
        for instance in self.instances:
            self._seats.remove(instance)
        for ticket in waiting:
            self._settle_error(ticket, error, now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._wake_at = _NEVER

    def tell_outage(self, reason: str, until: float) -> None:
        """Enter that there is no instance until that instant. With a reason it lasts: what waits is refused."""
        self.outage, self.outage_until = reason, until
        if reason:
            self._fail_waiting(ModelNotReady(f'model "{self._name}": {reason}', retry_after_s=1.0))

    def _fail_waiting(self, error: ForetellError) -> None:
        now = self._now()
        waiting = self._queue.clear()
        for group in self._groups:
            waiting += [ticket for ticket in group.tickets if ticket.done is not None]
        self._groups.clear()
        for ticket in waiting:
            self._settle_error(ticket, error, now)

    def _settle_error(self, ticket: Ticket, error: ForetellError, now: float) -> None:
        done = ticket.done
        if done is None:
            return
        ticket.done = None
        if ticket.weight:
            self._ledger.failed(error, now - ticket.admitted)
        self._call(done, error)
        self._release(1)

    def _call(self, done: Done, result: InferResponse | ForetellError) -> None:
        try:
            done(result)
        except Exception as error:  # noqa: BLE001  # A caller's fault must not cost its neighbours their answers.
            self._loop.call_exception_handler({"message": "a request's done callback raised", "exception": error})

    def _release(self, count: int) -> None:
        self._ledger.pending -= count
        if self.on_settled is not None and self._ledger.pending == 0:
            self.on_settled()

    def _learn(self) -> None:
        rows = scheduling.batch_rows(self._pace, _NEVER, self._limits.max_batch_size)
        self._rate_s = self._pace.seconds(rows) / rows
