"""The short way of the commonest call: plain JSON to one version of a model, and all of its outputs back as JSON.

The calls of one iteration of the event loop are read, admitted and answered together, so what is done once for all
of them costs each of them little. Whatever is not plain goes the long way, `inference`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sized
from time import perf_counter

from foretell.engine.batch import Tensors
from foretell.engine.batcher import Asked
from foretell.engine.ticket import Ticket
from foretell.errors import ForetellError, InternalError
from foretell.request import Batch, InferResponse
from foretell.server.call import Call, timing_of
from foretell.server.doors import Door, Doors
from foretell.server.refusals import Refusals
from foretell.server.urgency import Urgency, may_be_longer

__all__ = ["Lane"]

_LOG = logging.getLogger("foretell.server")


class Lane:
    """The plain calls of one model, by one path."""

    def __init__(
        self,
        model: str,
        version: str,
        urgency: Urgency,
        doors: Doors,
        refusals: Refusals,
        long_way: Callable[[Call], None],
        replied: Callable[[list[Call]], None],
        connections: Sized,
        *,
        is_observed: bool,
    ) -> None:
        """Make the lane.

        Args:
            model: Name of the model.
            version: From the path; empty for the default.
            urgency: Of all of them.
            doors: To every version.
            refusals: Tells calls that have no chance.
            long_way: Handles a call that is not plain.
            replied: Counts calls that were answered with 200.
            connections: Those over which calls come.
            is_observed: Somebody wants to know of each call.
        """
        self._model = model
        self._version = version
        self._urgency = urgency
        self._doors = doors
        self._refusals = refusals
        self._loop = asyncio.get_running_loop()
        self._long_way = long_way
        self._replied = replied
        self._connections = connections
        self._is_observed = is_observed
        self._calls: list[Call] = []

    def take(self, call: Call) -> None:
        """Answer a call, later."""
        call.label, call.priority = "infer", self._urgency.priority
        self._calls.append(call)
        if len(self._connections) == 1:
            self._flush()  # nobody is there who could join
        elif len(self._calls) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        calls, self._calls = self._calls, []
        try:
            door = self._doors.of(self._model, self._version)
            room, refusal = door.served.room(len(calls), *self._urgency)
            plain, tensors = self._read(calls[:room], door)
            if plain:
                self._infer(plain, tensors, door)
            if refusal is not None:
                self._refuse(calls[room:], refusal, door)
        except ForetellError as error:
            for call in calls:
                if not call.is_gone and call.response is None:
                    call.fail(error)

    def _read(self, calls: list[Call], door: Door) -> tuple[list[Asked], Tensors | None]:
        """Return what plain calls ask, and the tensors of several in one piece; the others go the long way."""
        bodies, limits = door.plain_bodies, door.served.limits
        calls = [call for call in calls if not call.is_gone]
        if bodies is None or not calls:
            for call in calls:
                self._long_way(call)
            return [], None
        if len(calls) == 1:
            matrix = bodies.decode(calls[0].body)
            counts = [0 if matrix is None else len(matrix)]
        else:
            matrix, counts = bodies.decode_all([call.body for call in calls])
        if matrix is None or max(counts) > limits.max_batch_size or matrix.nbytes > limits.max_batch_bytes:
            for call in calls:
                self._long_way(call)
            return [], None
        if len(calls) == 1:
            return [({bodies.name: matrix}, len(matrix), matrix.nbytes, calls[0])], None
        row_bytes = matrix.nbytes // len(matrix)
        asked: list[Asked] = []
        for call, rows in zip(calls, counts, strict=True):
            if rows:
                asked.append((None, rows, rows * row_bytes, call))
            else:
                self._long_way(call)
        return asked, {bodies.name: matrix}

    def _refuse(self, calls: list[Call], refusal: ForetellError, door: Door) -> None:
        """Refuse calls unread."""
        hopeless: list[Call] = []
        for call in calls:
            if may_be_longer(self._urgency, call.body):
                if not call.is_gone:
                    self._long_way(call)
            else:
                hopeless.append(call)
        self._refusals.refuse(hopeless, refusal, door.served)

    def _infer(self, asked: list[Asked], tensors: Tensors | None, door: Door) -> None:
        now = perf_counter()
        sink = door.sink
        if sink is None:
            sink = door.sink = LaneSink(door, self._replied, self._is_observed)
        tickets = door.served.infer_all(asked, sink, *self._urgency, tensors)
        for ticket in tickets:
            if ticket.done is not None:
                ticket.caller.cancel = ticket.cancel
        door.prepared.observe_each([now - ticket.caller.started for ticket in tickets])


class LaneSink:
    """Writes the answers of one version to plain calls, those of a batch together."""

    def __init__(self, door: Door, replied: Callable[[list[Call]], None], is_observed: bool) -> None:
        self._door = door
        self._replied = replied
        self._is_observed = is_observed

    def answer(self, batch: Batch, tickets: list[Ticket]) -> None:
        """Answer the calls of these tickets."""
        began = perf_counter()
        answers = self._door.plain_answers
        numbers = answers.numbers(batch)
        done: list[Call] = []
        admitted, timing = -1.0, b""
        for ticket in tickets:
            call: Call = ticket.caller
            try:
                if numbers is None or self._is_observed:
                    response = InferResponse(batch, "", ticket.batch_row, ticket.rows, ticket.admitted)
                    call.rows, call.result, call.settled = ticket.rows, response, began
                    if numbers is None:
                        call.reply_timed(self._door.json.encode(response, None)[0], response.timing)
                        continue
                first, rows = ticket.batch_row, ticket.rows
                if rows == 1:
                    texts = [output[first] for output in numbers]
                else:
                    texts = [b",".join(output[first : first + rows]) for output in numbers]
                if ticket.admitted != admitted:  # those that came together waited alike
                    admitted = ticket.admitted
                    timing = timing_of(batch, admitted)
                call.reply_numbers(answers.frame(rows, batch), texts, timing)
                done.append(call)
            except ForetellError as error:
                call.fail(error)
            except Exception:  # noqa: BLE001 - whatever it is, the server lives on
                _LOG.exception("request %s: its answer could not be written", call.id.decode("ascii"))
                call.fail(InternalError("the answer could not be written. This is a bug."))
        self._replied(done)
        self._door.answered.observe((perf_counter() - began) / len(tickets), len(tickets))
