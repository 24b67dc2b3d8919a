"""ModelInferRequests on their way to the engine, and its answers on their way back; no task and no future.

The short way is that of messages whose frames are known: those of one iteration of the event loop are admitted
together, and the answers of a batch are cut from bytes that are written once. Whatever is not known is read by the
protobuf library with all checks, and goes by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from foretell.engine.batcher import Asked
from foretell.engine.ticket import Ticket
from foretell.errors import ForetellError, InternalError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import AskedMessage, OpenInferenceProto, parse
from foretell.protocol.parameters import sooner
from foretell.protocol.picture_messages import parse_cut
from foretell.protocol.plain_proto import Address, Frame, address_of
from foretell.request import Batch, InferResponse
from foretell.server.doors import Door
from foretell.server.grpc.service import Service, proto_of
from foretell.server.http2.writing import Writing

__all__ = ["Asker", "Lane"]

_LOG = logging.getLogger("foretell.server")
_HEAD_BYTES = 512
"""Of a message; its address, if it can be read by hand, is in them."""
_Key = tuple[Door, float | None, int]


class Asker(Protocol):
    """Asks one message, and takes its answer.

    Attributes:
        began: Instant of `perf_counter` at which it came.
        is_gone: It takes no answer any more.
        cancel: Takes the message back; None: it is settled.
    """

    began: float
    cancel: Callable[[], Any] | None

    @property
    def is_gone(self) -> bool:
        """Whether it takes no answer any more."""
        ...

    def answer(self, message: bytes, response: InferResponse | None, settled: float) -> None:
        """Take a ModelInferResponse; with what it tells, where somebody wants to know."""
        ...

    def fail(self, error: ForetellError) -> None:
        """Take an error."""
        ...


class _Plain:
    """A message of the short way, on its way."""

    __slots__ = ("asker", "id", "outputs", "proto")

    def __init__(self, asker: Asker, proto: OpenInferenceProto, frame: Frame, id: bytes) -> None:
        self.asker = asker
        self.proto = proto
        self.outputs = frame.outputs
        self.id = id

    def message(self, response: InferResponse) -> bytes:
        """Return its answer, written the long way."""
        asked = AskedMessage(self.id.decode(), tuple((at, 0) for at in self.outputs), True, False)
        message: bytes = self.proto.encode(response, asked).SerializeToString()
        return message

    def fail(self, error: ForetellError) -> None:
        """Take a refusal, or an error."""
        self.asker.cancel = None
        self.asker.fail(error)


class Lane:
    """The messages of one server."""

    def __init__(self, service: Service, writing: Writing) -> None:
        self._service = service
        self._writing = writing
        self._is_observed = service.observer is not None
        self._now = service.engine.clock.now
        self._limits = service.engine.limits
        self._call_soon = asyncio.get_running_loop().call_soon
        self._waiting: dict[_Key, list[Asked]] = {}

    def take(self, data: bytes, asker: Asker, timeout_s: float | None, request_id: str) -> None:
        """Ask a message; its answer comes later, or at once.

        Args:
            data: A ModelInferRequest.
            asker: Takes its answer.
            timeout_s: Of the call; the sooner of it and that of the message holds.
            request_id: For the log; empty: the message's own, or a new one.

        Raises:
            ForetellError: It is refused; the asker was told nothing.
        """
        if type(data) is not bytes:  # a large one is a view
            self._take_large(memoryview(data), asker, timeout_s, request_id)
            return
        address = address_of(data)
        door = None if address is None else self._door_of(address)
        if address is None or door is None:
            self._take_slowly(data, None, asker, timeout_s, request_id)
            return
        proto = door.proto or proto_of(door)
        known, limits = proto.plain.read(data, address), self._limits
        if known is None or known[0].rows > limits.max_batch_size or known[0].nbytes > limits.max_batch_bytes:
            self._take_slowly(data, address, asker, timeout_s, request_id, door)
            return
        frame, tensors = known
        if frame.timeout_s is not None and (timeout_s is None or frame.timeout_s < timeout_s):
            timeout_s = frame.timeout_s
        key = door, timeout_s, frame.priority
        asked = tensors, frame.rows, frame.nbytes, _Plain(asker, proto, frame, address.id)
        if not self._waiting:
            self._call_soon(self._flush)
        same = self._waiting.get(key)
        if same is None:
            self._waiting[key] = [asked]
        else:
            same.append(asked)

    def _take_large(self, data: memoryview, asker: Asker, timeout_s: float | None, request_id: str) -> None:
        """Ask a large message, which is not copied where it is of pictures."""
        address = address_of(bytes(data[:_HEAD_BYTES]))
        door = None if address is None else self._door_of(address)
        if door is not None and door.pictures is not None:
            self._take_slowly(data, None, asker, timeout_s, request_id, door)
        else:
            self.take(bytes(data), asker, timeout_s, request_id)

    def _door_of(self, address: Address) -> Door | None:
        """Return the door of a version; None: no such version answers, and the long way tells why."""
        try:
            return self._service.doors.of(address.model.decode(), address.version.decode())
        except (ForetellError, UnicodeDecodeError):
            return None

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for (door, timeout_s, priority), asked in waiting.items():
            alive: list[Asked] = [each for each in asked if not each[3].asker.is_gone]  # type: ignore[attr-defined]
            if not alive:
                continue
            now = perf_counter()
            door.prepared.observe_each([now - each[3].asker.began for each in alive])  # type: ignore[attr-defined]
            for ticket in door.served.infer_all(alive, self, timeout_s, priority):
                if ticket.done is not None:
                    ticket.caller.asker.cancel = ticket.cancel

    def answer(self, batch: Batch, tickets: list[Ticket]) -> None:
        """Answer the askers of these tickets of a batch."""
        writing = self._writing
        writing.held = True
        try:
            self._answer(batch, tickets)
        finally:
            writing.held = False
            writing.flush()

    def _answer(self, batch: Batch, tickets: list[Ticket]) -> None:
        began = perf_counter()
        cuts = tickets[0].caller.proto.plain.cuts(batch.outputs)
        for ticket in tickets:
            plain: _Plain = ticket.caller
            plain.asker.cancel = None
            try:
                if self._is_observed or cuts is None:
                    response = InferResponse(batch, "", ticket.batch_row, ticket.rows, ticket.admitted)
                    message = plain.message(response)
                    plain.asker.answer(message, response, began)
                    continue
                message = cuts.message((ticket.batch_row, ticket.rows), plain.outputs, plain.id)
                plain.asker.answer(message, None, began)
            except Exception:  # noqa: BLE001 - whatever it is, the server lives on
                _LOG.exception("grpc: an answer could not be written")
                plain.asker.fail(InternalError("the answer could not be written. This is a bug."))

    def _take_slowly(
        self,
        data: bytes | memoryview,
        address: Address | None,
        asker: Asker,
        timeout_s: float | None,
        request_id: str,
        door: Door | None = None,
    ) -> None:
        has_pictures = door is not None and door.pictures is not None
        message, raws = parse_cut(data) if has_pictures else (parse(pb.ModelInferRequest, bytes(data)), None)
        door = self._service.doors.of(message.model_name, message.model_version)
        proto = proto_of(door)
        request, asked = proto.decode(
            message, request_id=request_id or self._service.new_id(), now=self._now(), timeout_s=timeout_s, raws=raws
        )
        reply = _Reply(asker, proto, asked)
        if request.rows == 0:
            reply(door.nothing(request.id, pictures=asked.pictures))
            return
        is_plain = asked.raw and not asked.say_final and not asked.pictures
        is_plain = is_plain and not any(classes for _, classes in asked.outputs)
        if address is not None and type(data) is bytes and is_plain and not _are_columns(door, message):
            own_s = sooner(None, dict(request.parameters))
            proto.plain.learn(data, address, request, own_s, tuple(index for index, _ in asked.outputs))
        door.prepared.observe_each((perf_counter() - asker.began,))
        ticket = door.served.infer(request, reply)
        if ticket is not None:
            asker.cancel = ticket.cancel


def _are_columns(door: Door, message: Any) -> bool:
    return door.columns is not None and door.columns.are_meant([tensor.name for tensor in message.inputs])


class _Reply:
    """Takes the engine's answer to a message of the long way, and raises nothing into the engine."""

    __slots__ = ("_asked", "_asker", "_proto")

    def __init__(self, asker: Asker, proto: OpenInferenceProto, asked: AskedMessage) -> None:
        self._asker = asker
        self._proto = proto
        self._asked = asked

    def __call__(self, result: InferResponse | ForetellError) -> None:
        """Tell the asker."""
        self._asker.cancel = None
        try:
            if isinstance(result, ForetellError):
                self._asker.fail(result)
                return
            message = self._proto.encode(result, self._asked).SerializeToString()
            self._asker.answer(message, result, perf_counter())
        except ForetellError as error:
            self._asker.fail(error)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("grpc: an answer could not be written")
            self._asker.fail(InternalError("the answer could not be written. This is a bug."))
