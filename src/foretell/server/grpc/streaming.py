"""ModelStreamInfer: the requests of a stream go to the engine as they come, and are answered in their order.

An error is one answer and does not end the stream. No more is read than so many requests in the engine; then the
client gets no more room. Where the first request asks for it, the newest wins instead: see `latest`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from foretell.errors import DeadlineExceeded, ForetellError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.proto_cuts import varint
from foretell.protocol.status import Refused, error_text, status_of
from foretell.request import InferResponse
from foretell.server.grpc.calls import PREFIX_BYTES, Call
from foretell.server.grpc.lane import Asker, Lane
from foretell.server.grpc.latest import Latest, mode_of
from foretell.server.grpc.service import Service
from foretell.server.grpc.wire import REPLY, Caller, frame_size, framed, trailers, unpacked
from foretell.server.http2.stream import Stream

__all__ = ["StreamInfer"]

_STREAMED = 64
"""Requests of one stream that are in the engine at once."""
_UNSENT_BYTES = 1 << 20
"""With so many bytes of answers waiting for room, no more is read."""
_FOUND = b"\x12"
"""Tag of an answer in a ModelStreamInferResponse."""


class _Slot:
    """One request of a stream: asks it, and keeps its answer until it is its turn."""

    __slots__ = ("_call", "_stream", "began", "cancel", "data")

    def __init__(self, call: StreamInfer, stream: Stream) -> None:
        self._call = call
        self._stream = stream
        self.began = perf_counter()
        self.cancel: Callable[[], Any] | None = None
        self.data: bytes | None = None
        """Its answer."""

    @property
    def is_gone(self) -> bool:
        """Whether the stream is over."""
        return self._stream.closed

    def answer(self, message: bytes, response: InferResponse | None, settled: float) -> None:
        """Keep the answer."""
        self.data = framed(b"".join((_FOUND, varint(len(message)), message)))
        self._call.settled(self._stream, self, "OK", response, settled)

    def fail(self, error: ForetellError) -> None:
        """Keep the error, which is an answer."""
        self.data = framed(pb.ModelStreamInferResponse(error_message=error_text(error)).SerializeToString())
        self._call.settled(self._stream, self, status_of(error).grpc, error, 0.0)


class _Talk:
    """One stream."""

    __slots__ = ("buffer", "deadline", "has_begun", "is_first", "latest", "slots", "timer")

    def __init__(self, deadline: float | None) -> None:
        self.buffer = bytearray()
        self.slots: deque[_Slot] = deque()
        self.deadline = deadline
        self.has_begun = False
        self.is_first = True
        """Its next request is the first one."""
        self.latest: Latest | None = None
        """Takes the requests, where the newest wins."""
        self.timer: asyncio.TimerHandle | None = None


class StreamInfer(Call):
    """The streams of one head."""

    whole = False

    def __init__(self, service: Service, name: str, caller: Caller, lane: Lane) -> None:
        super().__init__(service, name, caller)
        self._lane = lane
        self._now = service.engine.clock.now

    def begin(self, stream: Stream) -> None:
        """Begin a stream."""
        timeout_s = self._caller.timeout_s
        talk = _Talk(None if timeout_s is None else self._now() + timeout_s)
        stream.note, stream.cancel = talk, lambda: _cancel(talk)
        if timeout_s is not None:
            talk.timer = stream.connection.loop.call_later(timeout_s, self._expire, stream)

    def feed(self, stream: Stream, part: bytes) -> None:
        """Take a part of its requests."""
        talk = stream.note
        talk.buffer += part
        stream.connection.hold(stream, len(part))
        self._read(stream, talk)

    def end(self, stream: Stream) -> None:
        """Take the end of its requests."""
        self._read(stream, stream.note)

    def fail(self, stream: Stream, error: ForetellError, began: float = 0.0) -> None:
        """End the stream with an error."""
        if stream.closed:
            return
        talk = stream.note
        if talk is None or not talk.has_begun:
            super().fail(stream, error, began)
            return
        _cancel(talk)
        self._tell(status_of(error).grpc, began or perf_counter(), error)
        stream.connection.out.finish(stream, trailers(error, self._caller.request_id))

    def _read(self, stream: Stream, talk: _Talk) -> None:
        try:
            self._read_messages(stream, talk)
        except ForetellError as error:
            self.fail(stream, error)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            self.fail_unexpectedly(stream, 0.0)

    def _read_messages(self, stream: Stream, talk: _Talk) -> None:
        buffer = talk.buffer
        while len(talk.slots) < _STREAMED and len(stream.outbox or b"") < _UNSENT_BYTES:
            size = len(buffer)
            end = PREFIX_BYTES + frame_size(buffer, self._limit) if size >= PREFIX_BYTES else size + 1
            if end > size:
                self._wait(stream, size)
                break
            flag, message = buffer[0], bytes(memoryview(buffer)[PREFIX_BYTES:end])
            del buffer[:end]
            stream.connection.hold(stream, -min(end, stream.held))
            self._start(stream, talk, flag, message)
            if stream.closed:
                return
        is_busy = talk.slots or (talk.latest is not None and talk.latest.is_busy)
        if not stream.closed and stream.ended and not buffer and not is_busy:
            self._finish(stream, talk)

    def _wait(self, stream: Stream, size: int) -> None:
        """Let the rest of a message come."""
        if size and stream.ended:
            raise Refused("message: the stream ended within it")
        if stream.connection.desk.body_bytes > self._service.settings.max_bodies_bytes:
            stream.connection.desk.too_large(stream, crowded=True)
            return
        stream.connection.give_room(stream, stream.taken)

    def _start(self, stream: Stream, talk: _Talk, flag: int, message: bytes) -> None:
        try:
            data = unpacked(flag, message, self._caller.encoding, self._limit)
            if talk.is_first:
                self._choose(stream, talk, data)
        except ForetellError as error:
            self._slot(stream, talk).fail(error)
            return
        if talk.latest is not None:
            talk.latest.take(data)
            return
        slot = self._slot(stream, talk)
        try:
            self._ask(talk, data, slot)
        except ForetellError as error:
            slot.fail(error)

    def _slot(self, stream: Stream, talk: _Talk) -> _Slot:
        slot = _Slot(self, stream)
        talk.slots.append(slot)
        return slot

    def _ask(self, talk: _Talk, data: bytes, asker: Asker) -> None:
        left_s = None if talk.deadline is None else talk.deadline - self._now()
        self._lane.take(data, asker, left_s, self._caller.request_id)

    def _choose(self, stream: Stream, talk: _Talk, data: bytes) -> None:
        """Let the first request say how the stream runs; where it is refused, the next one may."""

        def tell(
            found: bytes, status: str, began: float, result: InferResponse | ForetellError | None, settled: float
        ) -> None:
            self._tell(status, began, result, settled)
            self._answer(stream, talk, [framed(found)])

        if mode_of(data) == "latest":
            service = self._service
            talk.latest = Latest(service.engine, service.doors, data, partial(self._ask, talk), tell)
        talk.is_first = False

    def settled(
        self, stream: Stream, slot: _Slot, status: str, result: InferResponse | ForetellError | None, settled: float
    ) -> None:
        """Count an answer, and send it when it is its turn."""
        self._tell(status, slot.began, result, settled)
        talk = stream.note
        if talk.slots and talk.slots[0] is slot:
            self._send(stream, talk)

    def _send(self, stream: Stream, talk: _Talk) -> None:
        """Send the answers whose turn it is."""
        slots, ready = talk.slots, []
        while slots and (data := slots[0].data) is not None:
            slots.popleft()
            ready.append(data)
        self._answer(stream, talk, ready)

    def _answer(self, stream: Stream, talk: _Talk, ready: list[bytes]) -> None:
        if stream.closed:
            return
        out = stream.connection.out
        if not talk.has_begun:
            talk.has_begun = True
            out.begin(stream, REPLY)
        stream.on_room = lambda: self._read(stream, talk)
        stream.connection.patience.served += 1
        for data in ready:
            out.send(stream, data)
        if stream.ended or talk.buffer:
            stream.connection.loop.call_soon(self._resume, stream, talk)
        elif stream.taken:
            stream.connection.give_room(stream, stream.taken)

    def _resume(self, stream: Stream, talk: _Talk) -> None:
        if not stream.closed:
            self._read(stream, talk)

    def _finish(self, stream: Stream, talk: _Talk) -> None:
        out = stream.connection.out
        if not talk.has_begun:
            talk.has_begun = True
            out.begin(stream, REPLY)
        if stream.trailers is None:
            _cancel(talk)
            out.finish(stream, self._ok)

    def _expire(self, stream: Stream) -> None:
        self.fail(stream, DeadlineExceeded("stream: its deadline passed"))


def _cancel(talk: _Talk) -> None:
    for slot in talk.slots:
        if slot.cancel is not None:
            slot.cancel()
    talk.slots.clear()
    if talk.latest is not None:
        talk.latest.leave()
        talk.latest = None  # they hold each other
    if talk.timer is not None:
        talk.timer.cancel()
