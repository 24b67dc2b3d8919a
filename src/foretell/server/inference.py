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
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

from foretell.engine.engine import Engine
from foretell.errors import ForetellError, InternalError
from foretell.model.data.table import Prepared
from foretell.protocol.openinference_json import Asked
from foretell.protocol.predict_rows import decode_rows, encode_predictions
from foretell.protocol.status import Refused
from foretell.request import BULK, INTERACTIVE, InferRequest, InferResponse, Timing
from foretell.server.connection import JSON, Call
from foretell.server.doors import Door, Doors
from foretell.server.guard import media_type
from foretell.server.tables import read_table

__all__ = ["Inference"]

_LOG = logging.getLogger("foretell.server")
_BINARY = b"application/octet-stream"
_TABLES = frozenset((b"text/csv", b"application/csv", b"application/vnd.apache.arrow.stream"))
_BODY_BYTES = 1 << 18
"""Rows in larger bodies are read in a thread."""
_ROWS = 4096
"""Answers of more rows are written in a thread."""
_LONGEST_MS = 86_400_000.0


class Inference:
    """Answers `infer`, `predict` and `invocations`."""

    def __init__(self, engine: Engine, doors: Doors) -> None:
        self._engine = engine
        self._doors = doors
        self._clock = engine.clock

    def infer(self, call: Call, model: str, version: str) -> None:
        """Answer a call of the Open Inference Protocol."""
        door = self._doors.of(model, version)
        headers = call.headers
        given = headers.get(b"inference-header-content-length")
        if given is None and media_type(headers.get(b"content-type", JSON)) == _BINARY:
            given = b"%d" % len(call.body)
        request, asked = door.json.decode(
            call.body,
            None if given is None else _header_number(given, "inference-header-content-length"),
            version=door.served.version if version else "",
            request_id=call.id.decode("ascii"),
            now=self._clock.now(),
            timeout_s=_timeout_s(headers),
        )
        _set_priority(request, headers)
        self._start(call, door, request, partial(self._encode_tensors, call, door, asked))

    def predict(self, call: Call, model: str, version: str) -> None:
        """Answer a call with rows."""
        door = self._doors.of(model, version)
        kind = call.headers.get(b"content-type", JSON)
        if kind != JSON:
            kind = media_type(kind)
        if kind in _TABLES:
            self._in_thread(call, door, version, partial(read_table, call.body, kind, door))
        elif kind == _BINARY:
            raise Refused("content-type: expected application/json, text/csv or application/vnd.apache.arrow.stream",
                          code="unsupported_media_type", status=415)  # fmt: skip
        elif len(call.body) > _BODY_BYTES:
            self._in_thread(call, door, version, partial(decode_rows, call.body, door.preparation))
        else:
            self._start_rows(call, door, version, decode_rows(call.body, door.preparation))

    def _start_rows(self, call: Call, door: Door, version: str, prepared: Prepared) -> None:
        headers = call.headers
        timeout_s = _timeout_s(headers)
        request = InferRequest(
            door.served.name,
            version,
            call.id.decode("ascii"),
            prepared.inputs,
            prepared.rows,
            None,
            None if timeout_s is None else self._clock.now() + timeout_s,
        )
        _set_priority(request, headers)
        self._start(call, door, request, partial(self._encode_rows, call, door))

    def _start(self, call: Call, door: Door, request: InferRequest, encode: Callable[[InferResponse], None]) -> None:
        door.prepared.add(perf_counter_ns() - call.started_ns)
        if request.rows == 0:
            encode(door.nothing(request.id))
            return
        ticket = door.served.infer(request, partial(self._settle, call, encode))
        if ticket is not None and call.response is None:
            call.cancel = ticket.cancel

    def _settle(
        self, call: Call, encode: Callable[[InferResponse], None], result: InferResponse | ForetellError
    ) -> None:
        """Take the engine's answer; raise nothing into it."""
        try:
            if isinstance(result, InferResponse):
                encode(result)
            else:
                call.fail(result)
        except ForetellError as error:
            call.fail(error)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("request %s: its answer could not be written", call.id.decode("ascii"))
            call.fail(InternalError("the answer could not be written. This is a bug."))

    def _encode_tensors(self, call: Call, door: Door, asked: Asked | None, response: InferResponse) -> None:
        began = perf_counter_ns()
        body, json_bytes = door.json.encode(response, asked)
        timing = _timing(response.timing)
        if json_bytes is None:
            call.reply(200, body, JSON, timing)
        else:
            call.reply(200, body, _BINARY, timing + b"inference-header-content-length: %d\r\n" % json_bytes)
        door.answered.add(perf_counter_ns() - began)

    def _encode_rows(self, call: Call, door: Door, response: InferResponse) -> None:
        began = perf_counter_ns()
        encode = partial(encode_predictions, door.task, response.outputs)
        if len(response.outputs[0]) > _ROWS:
            self._later(call, encode, lambda body: call.reply(200, body, JSON, _timing(response.timing)))
            return
        call.reply(200, encode(), JSON, _timing(response.timing))
        door.answered.add(perf_counter_ns() - began)

    def _in_thread(self, call: Call, door: Door, version: str, prepare: Callable[[], Prepared]) -> None:
        self._later(call, prepare, lambda prepared: self._start_rows(call, door, version, prepared))

    def _later(self, call: Call, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
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


def _timing(timing: Timing) -> bytes:
    """Return where the milliseconds went, as browsers and proxies show it."""
    return b"server-timing: queue;dur=%.3f, run;dur=%.3f, total;dur=%.3f\r\n" % (
        timing.queue_ns * 1e-6,
        timing.run_ns * 1e-6,
        timing.total_ns * 1e-6,
    )


def _timeout_s(headers: dict[bytes, bytes]) -> float | None:
    """Return the time the caller gives, or None."""
    given = headers.get(b"x-request-timeout-ms")
    if given is None:
        return None
    try:
        milliseconds = float(given)
    except ValueError:
        milliseconds = -1.0
    if not 0.0 < milliseconds <= _LONGEST_MS:
        raise Refused("x-request-timeout-ms: expected milliseconds, more than 0 and at most a day", code="bad_header")
    return milliseconds / 1000.0


def _set_priority(request: InferRequest, headers: dict[bytes, bytes]) -> None:
    given = headers.get(b"x-request-priority")
    if given is None:
        return
    if given not in (b"interactive", b"bulk"):
        raise Refused("x-request-priority: expected interactive or bulk", code="bad_header")
    request.priority = BULK if given == b"bulk" else INTERACTIVE


def _header_number(given: bytes, name: str) -> int:
    if not given.isdigit() or len(given) > 18:
        raise Refused(f"{name}: expected a number of bytes", code="bad_binary_section")
    return int(given)
