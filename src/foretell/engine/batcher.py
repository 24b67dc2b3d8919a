"""The queue of one model version: admits, batches, sends, settles. SKELETON: one request a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from foretell.clock import Clock
from foretell.engine.instance import Instance
from foretell.errors import ForetellError
from foretell.request import InferRequest, InferResponse, Timing

Done = Callable[[InferResponse | ForetellError], None]


class Ticket:
    """A request that was admitted."""

    __slots__ = ("admitted", "done", "request")

    def __init__(self, request: InferRequest, done: Done, admitted: float) -> None:
        self.request = request
        self.done: Done | None = done
        self.admitted = admitted

    def cancel(self) -> bool:
        """Forget the caller: its `done` is not called any more. False: it was settled already."""
        if self.done is None:
            return False
        self.done = None
        return True


class Batcher:
    """Requests of one version on their way to its instances."""

    def __init__(self, name: str, version: str, clock: Clock) -> None:
        self._name, self._version, self._clock = name, version, clock
        self._queue: deque[Ticket] = deque()
        self._instances: list[Instance] = []
        self._jobs: dict[int, tuple[Ticket, float]] = {}
        self._next = 0

    def add(self, instance: Instance) -> None:
        instance.on_answer, instance.on_error = self._answered, self._failed
        self._instances.append(instance)

    def infer(self, request: InferRequest, done: Done) -> Ticket:
        ticket = Ticket(request, done, self._clock.now())
        self._queue.append(ticket)
        self._flush()
        return ticket

    def _flush(self) -> None:
        for instance in self._instances:
            while self._queue and instance.in_flight < 2:
                ticket = self._queue.popleft()
                if ticket.done is not None:
                    self._next += 1
                    self._jobs[self._next] = ticket, self._clock.now()
                    instance.send(self._next, ticket.request.inputs, ticket.request.rows)

    def _answered(self, instance: Instance, job_id: int, outputs: list[Any], run_ns: int) -> None:
        ticket, sent = self._jobs.pop(job_id)
        self._flush()
        if ticket.done is not None:
            done, ticket.done = ticket.done, None
            queue, total = sent - ticket.admitted, self._clock.now() - ticket.admitted
            timing = Timing(int(queue * 1e9), run_ns, int(total * 1e9), ticket.request.rows)
            done(InferResponse(self._name, self._version, ticket.request.id, outputs, timing))

    def _failed(self, instance: Instance, job_id: int, error: ForetellError) -> None:
        ticket, _ = self._jobs.pop(job_id)
        self._flush()
        if ticket.done is not None:
            done, ticket.done = ticket.done, None
            done(error)
