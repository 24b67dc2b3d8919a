"""The calls of the service as takers of HTTP/2 requests: those refused by their heads, and those of one message.

Inference is `infer`'s and `streaming`'s.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Any, cast

from foretell.errors import ForetellError, InternalError
from foretell.protocol.openinference_proto import parse
from foretell.protocol.status import Refused, status_of
from foretell.request import InferResponse
from foretell.server.bodies import JOINED_BYTES
from foretell.server.grpc.service import Service
from foretell.server.grpc.wire import REPLY, Caller, frame_size, framed, trailers, trailers_only, unpacked
from foretell.server.http2.stream import Stream

__all__ = ["Call", "Refusing", "Unary"]

_LOG = logging.getLogger("foretell.server")
PREFIX_BYTES = 5


class Refusing:
    """Refuses every request of a head."""

    whole = False

    def __init__(self, block: bytes) -> None:
        self._block = block

    def take(self, stream: Stream, body: bytes) -> None:
        """Is not called."""

    def begin(self, stream: Stream) -> None:
        """Refuse the request."""
        stream.connection.out.begin(stream, self._block, ends=True)

    def feed(self, stream: Stream, part: bytes) -> None:
        """Leave the body."""

    def end(self, stream: Stream) -> None:
        """Leave the body."""


class Call:
    """Takes the requests of one head and method.

    Attributes:
        name: Of the method.
    """

    whole = True

    def __init__(self, service: Service, name: str, caller: Caller) -> None:
        self.name = name
        self._service = service
        self._caller = caller
        self._limit = service.settings.max_body_bytes
        self._ok = trailers(None, caller.request_id)
        self._replies = service.engine.metrics.responses.child("grpc", name, "OK")

    def take(self, stream: Stream, body: bytes) -> None:
        """Answer the request."""
        began = perf_counter()
        try:
            self.start(stream, self.message_of(body), began)
        except ForetellError as error:
            self.fail(stream, error, began)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            self.fail_unexpectedly(stream, began)

    def start(self, stream: Stream, data: bytes, began: float) -> None:
        """Answer a message, now or later."""
        raise NotImplementedError

    def begin(self, stream: Stream) -> None:
        """Is not called of a call that takes a whole body."""

    def feed(self, stream: Stream, part: bytes) -> None:
        """Is not called of a call that takes a whole body."""

    def end(self, stream: Stream) -> None:
        """Is not called of a call that takes a whole body."""

    def message_of(self, body: bytes) -> bytes:
        """Return the only message of a body."""
        if len(body) < PREFIX_BYTES or frame_size(body, self._limit) != len(body) - PREFIX_BYTES:
            raise Refused("message: the body is not one message with its length before it")
        # A view of a large one is all it takes to find the pictures in it.
        message = cast("bytes", memoryview(body)[PREFIX_BYTES:]) if len(body) > JOINED_BYTES else body[PREFIX_BYTES:]
        return unpacked(body[0], message, self._caller.encoding, self._limit)

    def reply(
        self,
        stream: Stream,
        message: bytes,
        began: float,
        result: InferResponse | None = None,
        settled: float = 0.0,
    ) -> None:
        """Answer with a message."""
        if stream.closed:
            return
        stream.connection.out.answer(stream, REPLY, framed(message), self._ok)
        if self._service.observer is None:
            self._replies.value += 1
        else:
            self._tell("OK", began, result, settled)

    def fail(self, stream: Stream, error: ForetellError, began: float = 0.0) -> None:
        """Answer with an error; where a part of the answer is out, it ends with it."""
        if stream.closed:
            return
        began = began or perf_counter()
        self._tell(status_of(error).grpc, began, error)
        stream.connection.out.begin(stream, trailers_only(error, self._caller.request_id), ends=True)

    def fail_unexpectedly(self, stream: Stream, began: float) -> None:
        """Answer with our own fault, whose trace is in the log."""
        _LOG.exception("grpc %s: failed", self.name)
        self.fail(stream, InternalError(f"{self.name}: it failed. This is a bug."), began)

    def _tell(
        self, status: str, began: float, result: InferResponse | ForetellError | None, settled: float = 0.0
    ) -> None:
        caller = self._caller
        self._service.settled(
            self.name, status, began, result, request_id=caller.request_id, settled=settled, trace=caller.trace
        )


class Unary(Call):
    """A method of the service that is neither inference nor health."""

    def __init__(self, service: Service, name: str, caller: Caller) -> None:
        super().__init__(service, name, caller)
        self._kind, self._method = service.methods[name]

    def start(self, stream: Stream, data: bytes, began: float) -> None:
        """Answer a message, now or, where it takes long, in a task."""
        found = self._method(parse(self._kind, data))
        if not asyncio.iscoroutine(found):
            self.reply(stream, found.SerializeToString(), began)
            return
        task = asyncio.ensure_future(found)
        stream.cancel = task.cancel
        task.add_done_callback(lambda done: self._settle(stream, done, began))

    def _settle(self, stream: Stream, done: asyncio.Task[Any], began: float) -> None:
        if done.cancelled():
            return
        try:
            self.reply(stream, done.result().SerializeToString(), began)
        except ForetellError as error:
            self.fail(stream, error, began)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            self.fail_unexpectedly(stream, began)
