"""Settles each caller exactly once: with its rows of an answer, or with an error. Decides nothing.

A ticket whose `done` is None is settled, or its caller has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from foretell.engine.ledger import Ledger
from foretell.engine.loop import Loop
from foretell.engine.queue import Done, Ticket
from foretell.engine.seats import Job
from foretell.errors import ForetellError
from foretell.request import InferResponse, Timing

__all__ = ["Settling"]


class Settling:
    """The way back to the callers of one version.

    Attributes:
        on_settled: Called when nothing is pending any more, while it is set.
    """

    __slots__ = ("_ledger", "_loop", "_name", "_version", "on_settled")

    def __init__(self, name: str, version: str, ledger: Ledger, loop: Loop) -> None:
        self._name = name
        self._version = version
        self._ledger = ledger
        self._loop = loop
        self.on_settled: Callable[[], None] | None = None

    def answer(self, job: Job, outputs: list[NDArray[Any]], run_ns: int, now: float) -> None:
        """Give everybody who waits for a batch their rows of its outputs."""
        name, version, sent, batch_rows, ledger = self._name, self._version, job.sent, job.rows, self._ledger
        observe_queue, observe_total = ledger.queue.observe, ledger.total.observe
        is_shared = len(job.tickets) > 1
        at = requests = rows = 0
        queued_s = waited_s = 0.0
        answers: list[tuple[Done, InferResponse]] = []
        for ticket in job.tickets:
            end = at + ticket.rows
            done = ticket.done
            if done is not None:
                ticket.done = None
                own = [output[at:end] for output in outputs] if is_shared else outputs
                queue_s = sent - ticket.admitted
                total_s = now - ticket.admitted
                if ticket.weight:
                    requests += 1
                    queued_s += queue_s
                    waited_s += total_s
                    observe_queue(queue_s)
                    observe_total(total_s)
                rows += ticket.rows
                timing = Timing(int(queue_s * 1e9), run_ns, int(total_s * 1e9), batch_rows)
                answers.append((done, InferResponse(name, version, ticket.id, own, timing)))
            at = end
        ledger.batch(batch_rows, run_ns)
        ledger.answered(requests, rows, queued_s, run_ns * requests, waited_s, now)
        for done, response in answers:
            try:
                done(response)
            except Exception as error:  # noqa: BLE001  # A caller's fault must not cost its neighbours their answers.
                self._fault(error)
        self.release(len(answers))

    def fail(self, ticket: Ticket, error: ForetellError, now: float) -> None:
        """Give a caller an error, if it still waits."""
        done = ticket.done
        if done is None:
            return
        ticket.done = None
        if ticket.weight:
            self._ledger.failed(error, now - ticket.admitted)
        try:
            done(error)
        except Exception as fault:  # noqa: BLE001  # As above.
            self._fault(fault)
        self.release(1)

    def release(self, count: int) -> None:
        """Count so many requests as no longer pending."""
        self._ledger.pending -= count
        if self.on_settled is not None and self._ledger.pending == 0:
            self.on_settled()

    def _fault(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a request's done callback raised", "exception": error})
