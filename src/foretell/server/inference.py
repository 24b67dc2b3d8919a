"""The calls that run a model: tensors and rows over HTTP.

1. decode   the body, by the door of its version; the caller's faults end here
2. infer    the engine takes it, with the deadline the caller gave
3. encode   in the callback of its answer, straight to the connection

The short way of each call is one function without a task or a future. Work that takes long for one call, large
bodies and tables, is done in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import Any

from foretell.engine.engine import Engine
from foretell.errors import ForetellError, InternalError
from foretell.model.data.table import Prepared
from foretell.protocol.answers_json import Asked
from foretell.protocol.picture_bodies import PictureBodies
from foretell.protocol.picture_rows import decode_pictures, is_picture
from foretell.protocol.predict_rows import decode_rows, encode_predictions
from foretell.protocol.status import Refused
from foretell.request import InferRequest, InferResponse, Parts
from foretell.server.call import JSON, Call, timing_header
from foretell.server.doors import Door, Doors
from foretell.server.guard import media_type
from foretell.server.pictures import Content, request_of
from foretell.server.refusals import Refusals
from foretell.server.tables import read_table
from foretell.server.urgency import Urgency, may_be_longer, urgency_of

__all__ = ["Inference"]

_LOG = logging.getLogger("foretell.server")
_BINARY = b"application/octet-stream"
_TABLES = frozenset((b"text/csv", b"application/csv", b"application/vnd.apache.arrow.stream"))
_BODY_BYTES = 1 << 18
"""Rows in larger bodies are read in a thread."""
_ROWS = 4096
"""Answers of more rows are written in a thread."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Inference:
    """Answers `infer`, `predict` and `invocations`."""

    def __init__(self, engine: Engine, doors: Doors, refusals: Refusals) -> None:
        self._engine = engine
        self._doors = doors
        self._refusals = refusals
        self._clock = engine.clock

    def infer(self, call: Call, model: str, version: str) -> None:
        """Answer a call of the Open Inference Protocol."""
        door = self._doors.of(model, version)
        headers = call.headers
        urgency = urgency_of(headers)
        if self._refuse(call, door, urgency, unless=may_be_longer):
            return
        given = headers.get(b"inference-header-content-length")
        kind = JSON if call.plain else media_type(headers.get(b"content-type", JSON))
        asked_of: dict[str, Any] = {
            "version": version,
            "request_id": call.id.decode("ascii"),
            "now": self._clock.now(),
            "timeout_s": urgency.timeout_s,
        }
        if given is None and kind != JSON and door.pictures is not None and is_picture(call.body):
            given = b"0"
        elif given is None and kind == _BINARY:
            given = b"%d" % len(call.body)
        if kind.startswith(b"image/") and isinstance(door.json, PictureBodies):
            request, asked = door.json.decode_picture(_picture(call), **asked_of)
        else:
            json_bytes = None if given is None else _header_number(given, "inference-header-content-length")
            request, asked = door.json.decode(call.body, json_bytes, **asked_of)
        if b"x-request-priority" in headers:
            request.priority = urgency.priority
        self._start(call, door, request, TensorsReply(call, door, asked))

    def predict(self, call: Call, model: str, version: str) -> None:
        """Answer a call with rows."""
        door = self._doors.of(model, version)
        if self._refuse(call, door, urgency_of(call.headers)):
            return
        kind = JSON if call.plain else media_type(call.headers.get(b"content-type", JSON))
        if door.pictures is not None:
            self._see(call, door, version, kind)
        elif kind in _TABLES:
            self._in_thread(call, door, version, partial(read_table, call.body, kind, door))
        elif kind == _BINARY:
            raise Refused("content-type: expected application/json, text/csv or application/vnd.apache.arrow.stream",
                          code="unsupported_media_type", status=415)  # fmt: skip
        elif len(call.body) > _BODY_BYTES:
            self._in_thread(call, door, version, partial(decode_rows, call.body, door.preparation))
        else:
            self._start_rows(call, door, version, decode_rows(call.body, door.preparation))

    def _see(self, call: Call, door: Door, version: str, kind: bytes) -> None:
        """Answer a call with pictures."""
        contents: Sequence[Content]
        if kind.startswith(b"image/"):
            contents = [_picture(call)]
        elif kind != JSON and is_picture(call.body):
            contents = [call.body]
        elif kind in _TABLES or kind == _BINARY:
            raise Refused("content-type: expected a picture, image/jpeg for example, or application/json",
                          code="unsupported_media_type", status=415)  # fmt: skip
        else:
            contents = decode_pictures(call.body, door.pictures.inputs[0].name if door.pictures else "")
        timeout_s, priority = urgency_of(call.headers)
        deadline = None if timeout_s is None else self._clock.now() + timeout_s
        request = request_of(
            door, contents, version=version, request_id=call.id.decode("ascii"), deadline=deadline, priority=priority
        )
        self._start(call, door, request, RowsReply(call, door, self._later))

    def _start_rows(self, call: Call, door: Door, version: str, prepared: Prepared) -> None:
        timeout_s, priority = urgency_of(call.headers)
        request = InferRequest(
            door.served.name, version, call.id.decode("ascii"), prepared.inputs, prepared.rows, None,
            None if timeout_s is None else self._clock.now() + timeout_s, priority, _NOTHING,
        )  # fmt: skip
        self._start(call, door, request, RowsReply(call, door, self._later))

    def _refuse(
        self, call: Call, door: Door, urgency: Urgency, unless: Callable[[Urgency, bytes], bool] | None = None
    ) -> bool:
        """Refuse a call unread, if it has no chance, unless something in its body may give it one."""
        _, refusal = door.served.room(1, *urgency)
        if refusal is None or (unless is not None and unless(urgency, call.body)):
            return False
        self._refusals.refuse([call], refusal, door.served)
        return True

    def _start(self, call: Call, door: Door, request: InferRequest, reply: Reply) -> None:
        door.prepared.observe_each((perf_counter() - call.started,))
        call.rows, call.priority = request.rows, request.priority
        if request.rows == 0:
            reply.settle(door.nothing(request.id, pictures=reply.pictures))
            return
        ticket = door.served.infer(request, reply.settle)
        if ticket is not None and call.response is None:
            call.cancel = ticket.cancel

    def _in_thread(self, call: Call, door: Door, version: str, prepare: Callable[[], Prepared]) -> None:
        self._later(call, prepare, lambda prepared: self._start_rows(call, door, version, prepared))

    @staticmethod
    def _later(call: Call, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do work in a thread, then go on in the loop, unless the client has gone."""
        future = asyncio.get_running_loop().run_in_executor(None, work)
        call.cancel = future.cancel

        def done(future: asyncio.Future[Any]) -> None:
            if future.cancelled():
                return
            call.cancel = None
            try:
                then(future.result())
            except ForetellError as error:
                call.fail(error)
            except Exception:  # noqa: BLE001 - whatever it is, the server lives on
                _LOG.exception("request %s: failed", call.id.decode("ascii"))
                call.fail(InternalError("the request could not be prepared. This is a bug."))

        future.add_done_callback(done)


class Reply:
    """Takes the engine's answer to a call, writes it, and raises nothing into the engine."""

    __slots__ = ("call", "door")

    def __init__(self, call: Call, door: Door) -> None:
        self.call = call
        self.door = door

    @property
    def pictures(self) -> bool:
        """Whether it answers to encoded pictures."""
        return self.door.pictures is not None

    def settle(self, result: InferResponse | ForetellError) -> None:
        """Answer the call."""
        self.call.settled = began = perf_counter()
        self.call.result = result
        try:
            if isinstance(result, InferResponse):
                self.write(result)
            else:
                self.call.fail(result)
        except ForetellError as error:
            self.call.fail(error)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("request %s: its answer could not be written", self.call.id.decode("ascii"))
            self.call.fail(InternalError("the answer could not be written. This is a bug."))
        self.door.answered.observe_each((perf_counter() - began,))

    def write(self, response: InferResponse) -> None:
        """Write an answer."""
        raise NotImplementedError


class TensorsReply(Reply):
    """Answers with tensors."""

    __slots__ = ("asked",)

    def __init__(self, call: Call, door: Door, asked: Asked) -> None:
        self.call = call
        self.door = door
        self.asked = asked

    @property
    def pictures(self) -> bool:
        """Whether it answers to encoded pictures."""
        return self.asked.pictures

    def write(self, response: InferResponse) -> None:
        """Write the outputs that were asked for, as JSON or binary."""
        body, json_bytes = self.door.json.encode(response, self.asked)
        if json_bytes is None:
            self.call.reply_timed(body, response.timing)
            return
        head = b"inference-header-content-length: %d\r\n" % json_bytes
        self.call.reply(200, body, _BINARY, timing_header(response.timing) + head)


class RowsReply(Reply):
    """Answers with predictions."""

    __slots__ = ("_later",)

    def __init__(self, call: Call, door: Door, later: Callable[..., None]) -> None:
        self.call = call
        self.door = door
        self._later = later

    def write(self, response: InferResponse) -> None:
        """Write a prediction for each row; many of them in a thread."""
        call, task, outputs = self.call, self.door.reader, response.outputs
        if len(outputs[0]) <= _ROWS:
            call.reply_timed(encode_predictions(task, outputs), response.timing)
            return
        self._later(
            call, lambda: encode_predictions(task, outputs), lambda body: call.reply_timed(body, response.timing)
        )


def _picture(call: Call) -> Content:
    """Return the body of a call that says that it is a picture."""
    parts: list[bytes] | None = getattr(call, "parts", None)
    return call.body if parts is None else Parts(parts)


def _header_number(given: bytes, name: str) -> int:
    if not given.isdigit() or len(given) > 18:
        raise Refused(f"{name}: expected a number of bytes", code="bad_binary_section")
    return int(given)
