"""One stream over a WebSocket: messages become frames, answers and errors go back as messages.

Which frame is started when is the pacer's business, and how one is asked is `asking`'s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Protocol

import orjson
from websockets.frames import CloseCode

from foretell.errors import ForetellError, InternalError
from foretell.metrics import Metrics
from foretell.model.tasks.predictions import Predictions
from foretell.protocol.predict_rows import encode_predictions
from foretell.protocol.status import Refused
from foretell.request import InferResponse, Parts
from foretell.server.doors import Door
from foretell.server.logs import log_failure
from foretell.server.streams.answers import Tag, Tracks, error_message, stale_message, tag_of, told, with_predictions
from foretell.server.streams.asking import Asking, Question
from foretell.server.streams.freshest import Delivery, Frame
from foretell.server.streams.gate import Gate
from foretell.server.streams.options import Options
from foretell.server.streams.pacer import Pacer

__all__ = ["Observe", "Seen", "Socket", "Stream"]

_LOG = logging.getLogger("foretell.server")
_AHEAD = 4
"""Frames that wait in mode `every` while no more may run; then nothing more is read."""


class Socket(Protocol):
    """Where the messages go."""

    def send(self, text: bytes) -> None:
        """Send a message."""
        ...

    def hold(self, is_full: bool) -> None:
        """Read nothing more for now, or read on."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Close."""
        ...


@dataclass(slots=True)
class Seen:
    """A message that is a frame, and what became of it."""

    message: bytes | Parts
    """Empty once it is asked."""
    is_text: bool
    tag: Tag
    arrived: float
    """Instant of `perf_counter`."""
    arrived_s: float
    """The same in seconds since 1970."""
    question: Question | None = None
    door: Door | None = None
    result: InferResponse | ForetellError | None = None


Observe = Callable[[Frame[Seen], float], None]
"""Takes a frame that was asked, and the instant at which the engine had its answer."""


class Stream:
    """The frames of one client."""

    def __init__(
        self,
        socket: Socket,
        asking: Asking,
        gate: Gate,
        options: Options,
        stream_id: str,
        metrics: Metrics,
        observe: Observe | None,
    ) -> None:
        """Start without frames.

        Args:
            socket: Where the messages go.
            asking: Asks the model.
            gate: Of the model.
            options: Of the client.
            stream_id: With a frame's number it is that frame's id in the log.
            metrics: Count frames.
            observe: Somebody who wants to know of each frame that was asked.
        """
        self._socket = socket
        self._asking = asking
        self._is_latest = options.mode == "latest"
        self._pacer: Pacer[Seen] = Pacer(options.mode, options.in_flight, gate, asking.capacity, self._ask)
        self._tracks = Tracks() if options.track else None
        self._id = stream_id
        self._frames = metrics.stream_frames
        self._ages = metrics.stream_age_seconds
        self._names = asking.names
        self._observe = observe
        self._tag: Tag = None
        self._is_gone = self._is_draining = False

    def __repr__(self) -> str:
        return f"<Stream {self._id}: {self._pacer.frames!r}>"

    # The socket.

    @property
    def is_busy(self) -> bool:
        """Whether answers are owed."""
        return bool(self._pacer.frames.in_flight)

    def take(self, message: bytes | Parts, is_text: bool) -> None:
        """Take a message: a frame, or the tag of the next one."""
        if self._is_gone or self._is_draining:
            return
        try:
            tag = tag_of(bytes(message)) if is_text else None
        except Refused as error:
            self._socket.send(error_message({}, error))
            return
        if tag is not None:
            self._tag = tag[0]
            return
        seen = Seen(message, is_text, self._tag, perf_counter(), time.time())
        self._tag = None
        if self._pacer.offer(seen):
            self._count("dropped")
        self._hold()

    def gone(self) -> None:
        """Forget the client: what runs is taken back."""
        self._is_gone = True
        for frame in self._pacer.abandon():
            if frame.item.question is not None:
                frame.item.question.drop()

    def drain(self) -> None:
        """Take nothing more; answer what runs, then close."""
        self._is_draining = True
        self._count("dropped", self._pacer.stop())
        self._end_if_done()

    def _hold(self) -> None:
        """Read no more than can be asked; where the newest frame wins, read all."""
        if not self._is_latest:
            self._socket.hold(self._pacer.frames.waiting >= _AHEAD)

    def _end_if_done(self) -> None:
        if self._is_draining and not self.is_busy:
            self._socket.close(CloseCode.GOING_AWAY, "server: it is about to stop; ask another")

    # The model.

    def _ask(self, frame: Frame[Seen]) -> None:
        seen, settle = frame.item, partial(self._settle, frame)
        message, seen.message = seen.message, b""
        question = self._asking.ask(message, seen.is_text, f"{self._id}-{frame.number}", settle)
        seen.question = seen.question or question

    def _settle(
        self, frame: Frame[Seen], question: Question, door: Door | None, result: InferResponse | ForetellError
    ) -> None:
        settled, seen = perf_counter(), frame.item
        seen.door, seen.result, seen.question = door, result, question
        # The model gets its next frame before the answer to this one is written.
        for delivery in self._pacer.settle(frame, failed=isinstance(result, ForetellError)):
            self._deliver(delivery)
        self._hold()
        if self._observe is not None:
            self._observe(frame, settled)
        self._end_if_done()

    # Answers.

    def _deliver(self, delivery: Delivery[Seen]) -> None:
        number, seen, outcome = delivery.frame.number, delivery.frame.item, delivery.outcome
        age_s = perf_counter() - seen.arrived
        about = told(number, seen.tag, seen.arrived_s, age_s, delivery.dropped)
        try:
            if isinstance(seen.result, ForetellError):
                raise seen.result
            text = stale_message(about) if outcome == "stale" else self._answer(delivery, about)
        except ForetellError as error:
            outcome, seen.result = "failed", error
            log_failure(error, f"{self._id}-{number}")
            text = error_message(about, error)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("stream %s: the answer to frame %d could not be written", self._id, number)
            outcome = "failed"
            text = error_message(about, InternalError("the answer could not be written. This is a bug."))
        self._count(outcome)
        if outcome == "answered":
            self._ages.child(*self._names).observe(age_s)
        self._socket.send(text)

    def _answer(self, delivery: Delivery[Seen], about: dict[str, object]) -> bytes:
        seen = delivery.frame.item
        response, door, question = seen.result, seen.door, seen.question
        if not isinstance(response, InferResponse) or door is None or question is None:
            raise InternalError("the frame has no answer. This is a bug.")
        timing = response.timing
        wait_s = question.asked - seen.arrived + timing.queue_ns * 1e-9
        about["wait_ms"], about["run_ms"] = round(wait_s * 1e3, 3), round(timing.run_ns * 1e-6, 3)
        if self._tracks is None:
            return with_predictions(about, encode_predictions(door.reader, response.outputs))
        pictures = Predictions(door.reader, response.outputs).to_list()
        self._tracks.number(pictures, delivery.passed)
        return orjson.dumps(about | {"predictions": pictures})

    def _count(self, outcome: str, frames: int = 1) -> None:
        self._frames.child(*self._names, outcome).value += frames
