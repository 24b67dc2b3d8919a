"""One frame on its way to the model: its message becomes a request, the answer becomes predictions.

A message of text is JSON as `:predict` takes it, one of bytes is a picture. What takes long for one frame is done in a
thread. Knows no socket, and not which frame is started when.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import MappingProxyType
from typing import Any

from foretell.engine.engine import Engine
from foretell.errors import ForetellError, InternalError, RequestTooLarge
from foretell.model.data.table import Prepared
from foretell.protocol.picture_rows import decode_pictures
from foretell.protocol.predict_rows import decode_rows
from foretell.protocol.status import Refused
from foretell.request import InferRequest, InferResponse, Parts
from foretell.server.doors import Door, Doors
from foretell.server.pictures import Content, request_of
from foretell.server.urgency import Urgency

__all__ = ["MOST_ROWS", "Asking", "Done", "Question"]

_LOG = logging.getLogger("foretell.server")
_BODY_BYTES = 1 << 18
"""Longer messages are read in a thread."""
MOST_ROWS = 4096
"""Of one frame: its answer is written at once."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})

Done = Callable[["Question", Door | None, InferResponse | ForetellError], None]


class Question:
    """One frame that was asked."""

    __slots__ = ("asked", "cancel", "done")

    def __init__(self, done: Done) -> None:
        self.done: Done | None = done
        """None: nobody waits any more."""
        self.cancel: Callable[[], Any] | None = None
        self.asked = 0.0
        """Instant of `perf_counter` at which the engine got it; 0: it did not."""

    def settle(self, door: Door | None, result: InferResponse | ForetellError) -> None:
        """Tell whoever waits, once."""
        done, self.done, self.cancel = self.done, None, None
        if done is not None:
            done(self, door, result)

    def drop(self) -> None:
        """Wait no more."""
        cancel, self.done, self.cancel = self.cancel, None, None
        if cancel is not None:
            cancel()


class Asking:
    """Asks one model, by one path, with the urgency a client gave."""

    def __init__(self, engine: Engine, doors: Doors, names: tuple[str, str], version: str, urgency: Urgency) -> None:
        """Take whom to ask.

        Args:
            engine: That answers.
            doors: To its versions.
            names: Of the model and the version that answers as the stream begins: how it is counted.
            version: That the client named; empty: the default one, whichever that is when a frame comes.
            urgency: Of every frame.
        """
        self.names = names
        self._engine = engine
        self._doors = doors
        self._model = names[0]
        self._version = version
        self._urgency = urgency

    def capacity(self) -> tuple[int, int]:
        """Return how many instances answer now, and how many frames each runs in about the time of one."""
        try:
            served = self._doors.of(self._model, self._version).served
        except ForetellError:
            return 1, 1  # the frame will be told
        return len(served.instances), served.company

    def ask(self, message: bytes | Parts, is_text: bool, request_id: str, done: Done) -> Question:
        """Ask about a frame; `done` is called once, now or later, unless the question is dropped."""
        question = Question(done)
        door: Door | None = None
        try:
            door = self._doors.of(self._model, self._version)
            text = bytes(message) if is_text else b""  # the same object: a text never comes in parts
            if not is_text:
                self._see(question, door, [message], request_id)
            elif door.pictures is not None:
                self._see(question, door, decode_pictures(text, door.pictures.inputs[0].name), request_id)
            elif len(text) > _BODY_BYTES:
                self._later(question, door, text, request_id)
            else:
                self._infer(question, door, decode_rows(text, door.preparation), request_id)
        except ForetellError as error:
            question.settle(door, error)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("stream %s: a frame failed", request_id)
            question.settle(door, InternalError("the frame could not be read. This is a bug."))
        return question

    def _later(self, question: Question, door: Door, message: bytes, request_id: str) -> None:
        future = asyncio.get_running_loop().run_in_executor(None, decode_rows, message, door.preparation)
        question.cancel = future.cancel

        def prepared(future: asyncio.Future[Prepared]) -> None:
            if future.cancelled() or question.done is None:
                return
            try:
                self._infer(question, door, future.result(), request_id)
            except ForetellError as error:
                question.settle(door, error)
            except Exception:  # noqa: BLE001 - whatever it is, the server lives on
                _LOG.exception("stream %s: a frame failed", request_id)
                question.settle(door, InternalError("the frame could not be read. This is a bug."))

        future.add_done_callback(prepared)

    def _see(self, question: Question, door: Door, pictures: Sequence[Content], request_id: str) -> None:
        if door.pictures is None:
            raise Refused("frame: this model takes rows, not pictures; send them as JSON, in a message of text")
        if not pictures:
            raise Refused('"instances": there is no picture in it; send one at least')
        request = request_of(
            door, pictures, version=self._version, request_id=request_id, deadline=self._deadline(),
            priority=self._urgency.priority,
        )  # fmt: skip
        self._start(question, door, request)

    def _infer(self, question: Question, door: Door, prepared: Prepared, request_id: str) -> None:
        if prepared.rows > MOST_ROWS:
            raise RequestTooLarge(f"frame: {prepared.rows} rows, expected at most {MOST_ROWS}; send many by :predict")
        request = InferRequest(
            door.served.name, self._version, request_id, prepared.inputs, prepared.rows, None, self._deadline(),
            self._urgency.priority, _NOTHING,
        )  # fmt: skip
        self._start(question, door, request)

    def _deadline(self) -> float | None:
        timeout_s = self._urgency.timeout_s
        return None if timeout_s is None else self._engine.clock.now() + timeout_s

    def _start(self, question: Question, door: Door, request: InferRequest) -> None:
        question.asked = perf_counter()
        if request.rows == 0:
            question.settle(door, door.nothing(request.id))
            return
        ticket = door.served.infer(request, lambda result: question.settle(door, result))
        if ticket is not None and question.done is not None:
            question.cancel = ticket.cancel
