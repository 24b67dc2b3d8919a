"""Settles each caller exactly once: with its rows of an answer, or with an error. Decides nothing.

A ticket whose `done` is None is settled, or its caller has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.engine.ledger import Ledger
from foretell.engine.loop import Loop
from foretell.engine.seats import Job
from foretell.engine.ticket import Done, Sink, Ticket
from foretell.errors import ForetellError, InvalidInput
from foretell.request import Batch, InferResponse

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
        batch = Batch(self._name, self._version, outputs, job.rows, job.sent, run_ns, now)
        at = rows = 0
        admitted: list[float] = []
        answers: list[tuple[Done, InferResponse]] = []
        shares: dict[Sink, list[Ticket]] = {}
        for ticket in job.tickets:
            count, done = ticket.rows, ticket.done
            if done is not None:
                ticket.done = None
                rows += count
                if ticket.weight:
                    admitted.append(ticket.admitted)
                sink = ticket.sink
                if sink is None:
                    answers.append((done, InferResponse(batch, ticket.id, at, count, ticket.admitted)))
                else:
                    ticket.batch_row = at
                    share = shares.get(sink)
                    if share is None:
                        shares[sink] = [ticket]
                    else:
                        share.append(ticket)
            at += count
        settled = len(answers)
        for sink, tickets in shares.items():
            settled += len(tickets)
            try:
                sink.answer(batch, tickets)
            except Exception as error:  # noqa: BLE001  # As below.
                self._fault(error)
        for done, response in answers:
            try:
                done(response)
            except Exception as error:  # noqa: BLE001  # A caller's fault must not cost its neighbours their answers.
                self._fault(error)
        # The callers first: what is counted need not make them wait.
        self._ledger.batch(job.rows, run_ns)
        self._ledger.answered(admitted, rows, job.sent, run_ns, now)
        self.release(settled)

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

    def fail_rows(self, job: Job, errors: NDArray[np.object_], now: float) -> None:
        """Tell the callers whose own rows are at fault.

        Args:
            job: That ran.
            errors: For each of its rows an error, whose subject is `image`, or None.
            now: The instant.
        """
        if not any(errors):
            return
        at = 0
        for ticket in job.tickets:
            for row, error in enumerate(errors[at : at + ticket.rows], ticket.first_row):
                if error is not None:
                    self.fail(ticket, _of_row(error, row), now)
                    break
            at += ticket.rows

    def release(self, count: int) -> None:
        """Count so many requests as no longer pending."""
        self._ledger.pending -= count
        if self.on_settled is not None and self._ledger.pending == 0:
            self.on_settled()

    def _fault(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a request's done callback raised", "exception": error})


def _of_row(error: ForetellError, row: int) -> ForetellError:
    """Return an error of a picture, which its worker knows by its place in the batch alone, as its caller knows it."""
    subject, _, rest = str(error).partition(":")
    message = f"{subject}, row {row}:{rest}"
    return InvalidInput(message, column=subject, row=row) if isinstance(error, InvalidInput) else type(error)(message)
