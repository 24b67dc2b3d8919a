"""One call over HTTP: what was asked, and its answer. Knows no route and no model, and of its connection only turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from foretell.errors import ForetellError
from foretell.protocol.status import Refused, error_body, retry_after_s, status_of
from foretell.request import Batch, InferResponse, Timing
from foretell.server.logs import log_failure

__all__ = ["JSON", "Call", "Head", "Line", "Shortcut", "is_plain", "timing_header", "timing_of"]

JSON = b"application/json"
_STATUS = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
_TIMING = b"server-timing: queue;dur=%.3f, run;dur=%.3f, total;dur=%.3f\r\n"
_TIMED_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
    b"server-timing: queue;dur=%.3f, run;dur=%.3f, total;dur=%.3f\r\n\r\n"
)
_TIMED = _TIMED_HEAD + b"%b"
_QUICK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n"
_FAILED = b'%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b%b"}'


class Shortcut(Protocol):
    """A short way for calls that are alike."""

    def take(self, call: Call) -> None:
        """Answer a call, now or later. Raises nothing."""
        ...


class Head(NamedTuple):
    """The head of a request that passed."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    plain: bool
    body_bytes: int
    lane: Shortcut | None


class Line(Protocol):
    """The connection a call came over."""

    is_old: bool

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        ...

    def is_last(self, call: Call) -> bool:
        """Whether nothing was asked after this call."""
        ...

    def answered(self, call: Call, status: int) -> None:
        """Count the answer, and write it when it is its turn."""
        ...

    def deliver(self, call: Call) -> None:
        """Write the answer when it is its turn."""
        ...

    def hand_over(self, call: Call, head: bytes, successor: asyncio.Protocol) -> None:
        """Answer an upgrade, and give the socket to whoever reads and writes it from here on."""
        ...


class Call:
    """One request on its way to its answer."""

    __slots__ = (
        "body", "cancel", "connection", "headers", "id", "is_gone", "keep_alive", "label", "method", "parts",
        "plain", "priority", "response", "result", "rows", "settled", "started", "target",
    )  # fmt: skip
    parts: list[bytes]
    """Its body, set in place of it where it is a picture that came in parts."""
    rows: int
    priority: int
    result: InferResponse | ForetellError
    settled: float
    """These four are set on the way where they are known, for whoever observes; see `observer.account_of`."""

    def __init__(self, connection: Line, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.headers = headers
        self.body: bytes = b""
        self.id = b""
        self.keep_alive = True
        self.plain = False
        """Its body is JSON, and no header says anything else about it."""
        self.cancel: Callable[[], Any] | None = None
        """Called if the client goes away before the answer."""
        self.label = "other"
        """Route, for metrics and logs."""
        self.is_gone = False
        """Its client has gone away."""
        self.response: bytes | None = None
        self.started = perf_counter()

    def reply(self, status: int, body: bytes, content_type: bytes = JSON, headers: bytes = b"") -> None:
        """Answer, once. `headers` are whole lines."""
        head = self._head(status, len(body), content_type, headers)
        self.response = head if self.method == b"HEAD" else head + body
        self.cancel = None
        self.connection.answered(self, status)

    def _head(self, status: int, length: int, content_type: bytes, headers: bytes) -> bytes:
        connection = self.connection
        if not self.keep_alive or (connection.draining and connection.is_last(self)):
            self.keep_alive = False
            headers += b"connection: close\r\n"
        elif connection.is_old:
            headers += b"connection: keep-alive\r\n"
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n" % (
            _STATUS[status],
            content_type,
            length,
            self.id,
            headers,
        )

    def reply_timed(self, body: bytes, timing: Timing) -> None:
        """Answer with JSON, and with where the time went."""
        connection = self.connection
        if not self.keep_alive or connection.is_old or connection.draining:
            self.reply(200, body, JSON, timing_header(timing))
            return
        queue_ms, run_ms, total_ms = timing.queue_ns * 1e-6, timing.run_ns * 1e-6, timing.total_ns * 1e-6
        self.response = _TIMED % (len(body), self.id, queue_ms, run_ms, total_ms, body)
        self.cancel = None
        connection.answered(self, 200)

    def reply_numbers(self, frame: tuple[bytes, int], texts: list[bytes], timing: bytes) -> None:
        """Answer with JSON that lacks nothing but its numbers; whoever calls counts it.

        Args:
            frame: See `PlainAnswers.frame`.
            texts: The numbers.
            timing: Header that says where the time went.
        """
        connection = self.connection
        body, length = frame
        for text in texts:
            length += len(text)
        if not self.keep_alive or connection.is_old or connection.draining:
            self.response = self._head(200, length, JSON, timing) + body % tuple(texts)
        else:
            self.response = (_QUICK_HEAD + body) % (length, self.id, timing, *texts)
        self.cancel = None
        connection.deliver(self)

    def fail(self, error: ForetellError) -> None:
        """Answer with an error."""
        self.result = error
        log_failure(error, self.id.decode("ascii"))
        body = error_body(error, self.id.decode("ascii"))
        self.reply(status_of(error).http, body, headers=_headers_of(error))

    def fail_as(self, error: ForetellError, status: int, body: bytes) -> None:
        """Do as `fail`, with a body that is ready up to the id, which stands last in it."""
        connection, given = self.connection, self.id
        if not self.keep_alive or connection.is_old or connection.draining or b'"' in given or b"\\" in given:
            self.fail(error)
            return
        self.result = error
        self.response = _FAILED % (_STATUS[status], len(body) + len(given) + 2, given, _headers_of(error), body, given)
        self.cancel = None
        connection.answered(self, status)


def _headers_of(error: ForetellError) -> bytes:
    seconds = retry_after_s(error)
    if seconds is not None:
        return b"retry-after: %d\r\n" % seconds
    if isinstance(error, Refused) and error.status == 401:
        return b'www-authenticate: Bearer realm="foretell"\r\n'
    if isinstance(error, Refused) and error.allow:
        return b"allow: %b\r\n" % ", ".join(error.allow).encode()
    return b""


def timing_of(batch: Batch, admitted: float) -> bytes:
    """Return the same for a request that was admitted at an instant and ran in a batch."""
    return _TIMING % ((batch.sent - admitted) * 1e3, batch.run_ns * 1e-6, (batch.answered - admitted) * 1e3)


def timing_header(timing: Timing) -> bytes:
    """Return where the milliseconds went, as browsers and proxies show it."""
    return _TIMING % (timing.queue_ns * 1e-6, timing.run_ns * 1e-6, timing.total_ns * 1e-6)


def is_plain(headers: dict[bytes, bytes]) -> bool:
    """Whether a body is JSON, and no header says anything else about it."""
    return headers.get(b"content-type", JSON) == JSON and b"inference-header-content-length" not in headers
