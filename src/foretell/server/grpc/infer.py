"""ModelInfer: one message in, one out, by callbacks of the engine; no task and no future.

1. read     by the frames the door knows, or by the protobuf library with all checks
2. infer    the engine takes it, with the sooner of the call's deadline and the message's
3. write    in the callback of its answer, straight to the connection
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Any

from foretell.errors import ForetellError, InternalError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import AskedMessage, OpenInferenceProto, parse
from foretell.protocol.parameters import sooner
from foretell.protocol.plain_proto import Address, address_of
from foretell.request import InferRequest, InferResponse
from foretell.server.doors import Door
from foretell.server.grpc.calls import Call
from foretell.server.grpc.service import Service, proto_of
from foretell.server.http2.stream import Stream

__all__ = ["Infer", "Inferring"]

_LOG = logging.getLogger("foretell.server")
Settle = Callable[[list[bytes] | ForetellError, InferResponse | None], None]
Cancel = Callable[[], Any]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Inferring:
    """Messages to the engine, and its answers to messages."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._now = service.engine.clock.now

    def start(self, data: bytes, deadline: float | None, request_id: str, settle: Settle) -> Cancel | None:
        """Take a ModelInferRequest.

        Args:
            data: Its bytes.
            deadline: Of the call.
            request_id: For the log; empty: the message's own, or a new one.
            settle: Called once, with the parts of a ModelInferResponse and what they tell, or with an error; from
                within, or later.

        Returns:
            What takes the request back, or None where it is settled.

        Raises:
            ForetellError: It is refused; `settle` is not called.
        """
        began = perf_counter()
        address = address_of(data)
        door = None if address is None else self._door_of(address)
        if address is None or door is None:
            return self._start_slowly(data, None, deadline, request_id, settle)
        proto = door.proto or proto_of(door)
        known = proto.plain.read(data, address)
        if known is None:
            return self._start_slowly(data, address, deadline, request_id, settle)
        frame, tensors = known
        if frame.timeout_s is not None:
            own = self._now() + frame.timeout_s
            deadline = own if deadline is None else min(deadline, own)
        request = InferRequest(
            door.served.name, "", request_id or address.id.decode(), tensors, frame.rows, None, deadline,
            frame.priority, _NOTHING, frame.nbytes,
        )  # fmt: skip
        door.prepared.observe_each((perf_counter() - began,))
        ticket = door.served.infer(request, _PlainReply(settle, proto, frame.outputs, address.id))
        return None if ticket is None else ticket.cancel

    def _door_of(self, address: Address) -> Door | None:
        """Return the door of a version; None: no such version answers, and the long way tells why."""
        try:
            return self._service.doors.of(address.model.decode(), address.version.decode())
        except (ForetellError, UnicodeDecodeError):
            return None

    def _start_slowly(
        self, data: bytes, address: Address | None, deadline: float | None, request_id: str, settle: Settle
    ) -> Cancel | None:
        message = parse(pb.ModelInferRequest, data)
        door = self._service.doors.of(message.model_name, message.model_version)
        proto, now = proto_of(door), self._now()
        request, asked = proto.decode(
            message,
            request_id=request_id or self._service.new_id(),
            now=now,
            timeout_s=None if deadline is None else deadline - now,
        )
        reply = _Reply(settle, proto, asked)
        if request.rows == 0:
            reply(door.nothing(request.id))
            return None
        is_plain = asked.raw and not asked.say_final and not any(classes for _, classes in asked.outputs)
        if address is not None and is_plain and not _are_columns(door, message):
            outputs = tuple(index for index, _ in asked.outputs)
            proto.plain.learn(data, address, request, sooner(None, dict(request.parameters)), outputs)
        ticket = door.served.infer(request, reply)
        return None if ticket is None else ticket.cancel


def _are_columns(door: Door, message: Any) -> bool:
    return door.columns is not None and door.columns.are_meant([tensor.name for tensor in message.inputs])


class _Reply:
    """Takes the engine's answer, and raises nothing into the engine."""

    __slots__ = ("_asked", "_proto", "_settle")

    def __init__(self, settle: Settle, proto: OpenInferenceProto, asked: AskedMessage) -> None:
        self._settle = settle
        self._proto = proto
        self._asked = asked

    def __call__(self, result: InferResponse | ForetellError) -> None:
        """Settle the call."""
        try:
            found: Any = result
            if isinstance(result, InferResponse):
                found = [self._proto.encode(result, self._asked).SerializeToString()]
        except ForetellError as error:
            found = error
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("grpc: an answer could not be written")
            found = InternalError("the answer could not be written. This is a bug.")
        self._settle(found, result if isinstance(result, InferResponse) else None)


class _PlainReply:
    """Takes the engine's answer to a request of a known frame."""

    __slots__ = ("_id", "_outputs", "_proto", "_settle")

    def __init__(self, settle: Settle, proto: OpenInferenceProto, outputs: tuple[int, ...], id: bytes) -> None:
        self._settle = settle
        self._proto = proto
        self._outputs = outputs
        self._id = id

    def __call__(self, result: InferResponse | ForetellError) -> None:
        """Settle the call."""
        if not isinstance(result, InferResponse):
            self._settle(result, None)
            return
        parts = self._proto.plain.write(result, self._outputs, self._id)
        if parts is not None:
            self._settle(parts, result)
            return
        asked = AskedMessage(self._id.decode(), tuple((at, 0) for at in self._outputs), True, False)
        _Reply(self._settle, self._proto, asked)(result)


class Infer(Call):
    """The calls of one head."""

    def __init__(self, service: Service, name: str, caller: Any, inferring: Inferring) -> None:
        super().__init__(service, name, caller)
        self._inferring = inferring
        self._now = service.engine.clock.now

    def start(self, stream: Stream, data: bytes, began: float) -> None:
        """Give the message to the engine."""
        timeout_s = self._caller.timeout_s

        def settle(result: list[bytes] | ForetellError, response: InferResponse | None) -> None:
            if isinstance(result, ForetellError):
                self.fail(stream, result, began)
            else:
                self.reply(stream, result, began, response, perf_counter())

        deadline = None if timeout_s is None else self._now() + timeout_s
        cancel = self._inferring.start(data, deadline, self._caller.request_id, settle)
        if not stream.closed:
            stream.cancel = cancel
