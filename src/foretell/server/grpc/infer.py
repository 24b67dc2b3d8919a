"""ModelInfer: one message in, one out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foretell.errors import ForetellError
from foretell.request import InferResponse
from foretell.server.grpc.calls import Call
from foretell.server.grpc.lane import Lane
from foretell.server.grpc.service import Service
from foretell.server.grpc.wire import Caller
from foretell.server.http2.stream import Stream

__all__ = ["Infer"]


class _Asker:
    """Asks for one stream."""

    __slots__ = ("_call", "_stream", "began")

    def __init__(self, call: Call, stream: Stream, began: float) -> None:
        self._call = call
        self._stream = stream
        self.began = began

    @property
    def is_gone(self) -> bool:
        """Whether the client takes no answer any more."""
        return self._stream.closed

    @property
    def cancel(self) -> Callable[[], Any] | None:
        """What takes the message back."""
        return self._stream.cancel

    @cancel.setter
    def cancel(self, cancel: Callable[[], Any] | None) -> None:
        self._stream.cancel = cancel

    def answer(self, message: bytes, response: InferResponse | None, settled: float) -> None:
        """Send the answer."""
        self._call.reply(self._stream, message, self.began, response, settled)

    def fail(self, error: ForetellError) -> None:
        """Send the error."""
        self._call.fail(self._stream, error, self.began)


class Infer(Call):
    """The calls of one head."""

    def __init__(self, service: Service, name: str, caller: Caller, lane: Lane) -> None:
        super().__init__(service, name, caller)
        self._lane = lane

    def start(self, stream: Stream, data: bytes, began: float) -> None:
        """Give the message to the engine."""
        self._lane.take(data, _Asker(self, stream, began), self._caller.timeout_s, self._caller.request_id)
