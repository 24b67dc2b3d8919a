"""A ModelStreamInfer in which the newest request wins: those that wait too long are dropped, and counted.

The parameter `stream_mode` of its first request turns it on. Answers say which request they are to by `frame`, how old
it is by `age_us`, and how many older ones were `dropped` and not told of yet; one that comes after that of a newer
request has `stale` and no tensors. Knows no HTTP/2 and no gRPC library: both doors have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from foretell.engine.engine import Engine
from foretell.errors import ForetellError, InternalError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import parse
from foretell.protocol.plain_proto import address_of
from foretell.protocol.status import Refused, error_text, status_of
from foretell.request import InferResponse
from foretell.server.doors import Doors
from foretell.server.streams.freshest import Delivery, Frame, Mode
from foretell.server.streams.gate import Gate
from foretell.server.streams.options import MOST_IN_FLIGHT
from foretell.server.streams.pacer import Pacer

__all__ = ["Latest", "mode_of"]

_PARAMETER = "stream_mode"
_MODES: dict[str, Mode] = {"latest": "latest", "every": "every"}


def mode_of(message: bytes) -> Mode:
    """Return how a stream runs, as its first message says.

    Raises:
        Refused: It is no ModelInferRequest, or the parameter has no such value.
    """
    if _PARAMETER.encode() not in message:
        return "every"
    parameters = parse(pb.ModelInferRequest, message).parameters
    if _PARAMETER not in parameters:  # the name of a tensor, say
        return "every"
    mode = _MODES.get(parameters[_PARAMETER].string_param)
    if mode is None:
        raise Refused(f'"{_PARAMETER}": expected "latest" or "every"', code="bad_parameter")
    return mode


@dataclass(slots=True)
class _Asked:
    """A request, and what became of it. It asks itself: see `Asker` of the lane."""

    latest: Latest
    data: bytes
    began: float
    id: bytes
    frame: Frame[_Asked] | None = None
    cancel: Callable[[], Any] | None = None
    message: bytes = b""
    """A ModelInferResponse."""
    error: ForetellError | None = None
    response: InferResponse | None = None
    settled: float = 0.0

    @property
    def is_gone(self) -> bool:
        """Whether it takes no answer any more."""
        return self.latest.is_gone

    def answer(self, message: bytes, response: InferResponse | None, settled: float) -> None:
        """Take a ModelInferResponse."""
        self.message, self.response, self.settled = message, response, settled
        self.latest.settle(self)

    def fail(self, error: ForetellError) -> None:
        """Take an error."""
        self.error = error
        self.latest.settle(self)


Ask = Callable[[bytes, _Asked], None]
"""Asks a ModelInferRequest, and tells its asker. It raises what it refuses at once."""
Tell = Callable[[bytes, str, float, InferResponse | ForetellError | None, float], None]
"""Takes a ModelStreamInferResponse; and for the count the name of gRPC's code, the instant at which the request came,
what came of it, and the instant of that."""


class Latest:
    """The requests of one stream.

    Attributes:
        is_gone: Nobody waits any more.
    """

    def __init__(self, engine: Engine, doors: Doors, first: bytes, ask: Ask, tell: Tell) -> None:
        """Begin a stream for the model that its first request names.

        Raises:
            ForetellError: The model does not answer.
        """
        address = parse(pb.ModelInferRequest, first)
        self._doors, self._ask_one, self._tell = doors, ask, tell
        self._model, self._version = address.model_name, address.model_version
        served = doors.of(self._model, self._version).served
        self._names = served.name, served.version
        self._frames = engine.metrics.stream_frames
        self._ages = engine.metrics.stream_age_seconds
        gate = doors.gates.setdefault(self._names, Gate())
        self._pacer: Pacer[_Asked] = Pacer("latest", MOST_IN_FLIGHT, gate, self._capacity, self._ask)
        self.is_gone = False

    @property
    def is_busy(self) -> bool:
        """Whether a request waits or runs."""
        frames = self._pacer.frames
        return bool(frames.waiting or frames.in_flight)

    def take(self, data: bytes) -> None:
        """Take a request."""
        address = address_of(data)
        asked = _Asked(self, data, perf_counter(), b"" if address is None else address.id)
        if self._pacer.offer(asked):
            self._count("dropped")

    def leave(self) -> None:
        """Forget the client."""
        self.is_gone = True
        for frame in self._pacer.abandon():
            if frame.item.cancel is not None:
                frame.item.cancel()

    def settle(self, asked: _Asked) -> None:
        """Enter what came of a request, and tell what is to be told."""
        frame, asked.cancel = asked.frame, None
        if self.is_gone or frame is None:
            return
        for delivery in self._pacer.settle(frame, failed=asked.error is not None):
            self._deliver(delivery)

    def _capacity(self) -> tuple[int, int]:
        try:
            served = self._doors.of(self._model, self._version).served
        except ForetellError:
            return 1, 1
        return len(served.instances), served.company

    def _ask(self, frame: Frame[_Asked]) -> None:
        asked = frame.item
        asked.frame, data, asked.data = frame, asked.data, b""
        try:
            self._ask_one(data, asked)
        except ForetellError as error:
            asked.fail(error)

    def _deliver(self, delivery: Delivery[_Asked]) -> None:
        asked, outcome = delivery.frame.item, delivery.outcome
        age_s = perf_counter() - asked.began
        status, result = "OK", asked.response if asked.error is None else asked.error
        found = pb.ModelStreamInferResponse()
        if outcome == "stale":
            found.infer_response.model_name, found.infer_response.model_version = self._names
            found.infer_response.id = asked.id.decode("utf-8", "replace")
            found.infer_response.parameters["stale"].bool_param = True
        elif outcome == "answered":
            found.infer_response.MergeFromString(asked.message)
            self._ages.child(*self._names).observe(age_s)
        else:
            error = asked.error or InternalError("the request has no answer. This is a bug.")
            status, found.error_message = status_of(error).grpc, error_text(error)
        parameters = found.infer_response.parameters
        parameters["frame"].int64_param = delivery.frame.number
        parameters["age_us"].int64_param = round(age_s * 1e6)
        parameters["dropped"].int64_param = delivery.dropped
        self._count(outcome)
        self._tell(found.SerializeToString(), status, asked.began, result, asked.settled)

    def _count(self, outcome: str) -> None:
        self._frames.child(*self._names, outcome).value += 1
