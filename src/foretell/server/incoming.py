"""One HTTP/1.1 request as it comes in: what llhttp finds in the bytes, within the limits, up to a whole call.

Knows no order of answers; whom a call is handed to, and what a refusal does to the connection, is `connection.py`'s.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import httptools

from foretell.errors import ForetellError, RequestTooLarge
from foretell.protocol.status import Refused
from foretell.server.bodies import Body
from foretell.server.call import Call
from foretell.server.heads import is_plain_id
from foretell.server.settings import ServerSettings

__all__ = ["BODY", "HEAD", "IDLE", "Incoming", "Intake"]

_ONCE = frozenset(
    (
        b"host", b"authorization", b"content-type", b"origin", b"inference-header-content-length", b"sec-websocket-key",
        b"sec-websocket-version",
    )
)  # fmt: skip
IDLE, HEAD, BODY = 0, 1, 2
"""Phases: nothing has come, a head is coming, a body is."""
_GRACE_S = 5.0
_RESERVED_BYTES = 1 << 16
"""Larger bodies count against what all connections may hold at once."""


class Intake(Protocol):
    """What all connections share of what comes in."""

    settings: ServerSettings
    wanted: frozenset[bytes]
    """Headers to keep."""
    body_bytes: int
    """Of all bodies being received."""

    def admit_headers(self, call: Call) -> None:
        """Refuse a call by its headers alone, before its body is read.

        Raises:
            Refused: Whoever sends it may not, or nothing here takes such a body.
        """
        ...

    def new_id(self) -> bytes:
        """Return an id for a request that brought none."""
        ...


class Incoming:
    """The request that a connection is receiving."""

    def __init__(self, connection: Any, intake: Intake) -> None:
        """Begin to receive.

        Args:
            connection: Calls are made for it. It gets `received(call, body, keep_alive)` for each whole request, and
                `may_go_on()` where the client waits to be told so.
            intake: Limits, and who may send.
        """
        self.phase = IDLE
        self.since = 0.0
        """When the phase began, unless nothing has come."""
        self.whole = 0
        """Requests that the last piece of data completed."""
        self.call: Call | None = None
        """The request whose head was let pass and whose body is coming."""
        self.offers_upgrade = False
        self._refusal: ForetellError | None = None
        self._connection = connection
        self._intake = intake
        self._settings = intake.settings
        self._wanted = intake.wanted
        self._parser: Any = httptools.HttpRequestParser(self)
        self._time = asyncio.get_running_loop().time
        self._head_bytes = self._header_bytes = self._header_count = 0
        self._declared = self._received = self._reserved = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | Body = b""

    def feed(self, data: bytes) -> bytes | None:
        """Read what has come, and hand on what is whole.

        Returns:
            What follows a head that offers to upgrade, which is not read yet; else None.

        Raises:
            ForetellError: It is no HTTP, or more than is taken.
        """
        is_body, self.whole = self.phase == BODY, 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except httptools.HttpParserInvalidMethodError:
            allowed = ("GET", "HEAD", "POST")
            raise Refused("request: unknown method", code="method_not_allowed", status=405, allow=allowed) from None
        except httptools.HttpParserError as error:
            cause = str(error)[:100] or type(error).__name__
            raise (self._refusal or Refused(f"request: not HTTP: {cause}", code="bad_http")) from None
        # Where a body ended in this chunk, nobody knows how much of it is the head behind it.
        if self.phase == HEAD and not is_body and not self.whole:
            self._head_bytes += len(data)
            if self._head_bytes > self._settings.max_header_bytes + self._settings.max_url_bytes:
                raise _headers_too_large()
        return None

    def feed_plain(self, data: bytes) -> bytes | None:
        """Read the body of a request that offers to upgrade, which the parser does not read.

        Returns:
            What follows that body, None as long as it is not complete, or where there was no such offer.

        Raises:
            ForetellError: It is more than is taken, or comes in chunks.
        """
        missing = self._declared - self._received
        if data and missing > 0:
            self.on_body(data[:missing])
        if b"transfer-encoding" in self._headers:
            raise Refused("upgrade: with a chunked body it is not understood; send none", code="bad_http")
        if self._received < self._declared or self.call is None:
            return None
        self._complete(self.call, keep_alive=False)
        return data[max(0, missing) :]

    def is_slow(self, waited_s: float) -> bool:
        """Whether a body that began so long ago comes too slowly."""
        settings = self._settings
        return waited_s > settings.body_s or (
            waited_s > _GRACE_S and self._received < settings.min_body_rate * (waited_s - _GRACE_S)
        )

    def release(self) -> None:
        """Give back what was set aside for the body."""
        self._intake.body_bytes -= self._reserved
        self._reserved = 0

    def close(self) -> None:
        """Receive nothing more. Parser, call and connection hold each other: each would keep its last body."""
        self.release()
        self._parser = self._connection = self.call = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self.phase, self.since = HEAD, self._time()
        self._url = b""
        self._headers = {}
        self._header_bytes = self._header_count = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of its target."""
        self._url += url
        longest = self._settings.max_url_bytes
        if len(self._url) > longest:
            error = Refused(f"request: its path is longer than {longest} bytes", code="url_too_long", status=414)
            raise self._refused(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that means something here."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        settings = self._settings
        if self._header_count > settings.max_headers or self._header_bytes > settings.max_header_bytes:
            raise self._refused(_headers_too_large())
        name = name.lower()
        if name not in self._wanted or self.phase == BODY:  # trailers mean nothing here
            return
        if name in self._headers and name in _ONCE:
            raise self._refused(Refused(f'header "{name.decode()}": it is there twice', code="bad_header"))
        self._headers[name] = value.strip()

    def on_headers_complete(self) -> None:
        """Let the request pass, or refuse it before its body is read."""
        headers = self._headers
        call = Call(self._connection, self._parser.get_method(), self._url, headers)
        given = headers.get(b"x-request-id")
        call.id = given if given and is_plain_id(given) else self._intake.new_id()
        self.call = call
        self.phase, self.since, self._head_bytes = BODY, self._time(), 0
        self._body, self._received = b"", 0
        self._check_version(headers)
        declared = headers.get(b"content-length")
        self._declared = int(declared) if declared else 0
        if self._declared > self._settings.max_body_bytes:
            raise self._refused(self._body_too_large())
        try:
            self._intake.admit_headers(call)
        except ForetellError as error:
            raise self._refused(error) from None
        if self._declared > _RESERVED_BYTES:
            self._reserve(self._declared)
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._connection.may_go_on()

    def on_body(self, chunk: bytes) -> None:
        """Take a part of the body."""
        self._received += len(chunk)
        if not self._body:
            self._body = chunk
            return
        if self._received > self._settings.max_body_bytes:
            raise self._refused(self._body_too_large())
        if self._received > _RESERVED_BYTES and self._received > self._reserved:
            self._reserve(max(_RESERVED_BYTES, self._received - self._reserved))
        if isinstance(self._body, bytes):
            first, self._body = self._body, Body()
            self._body.add(first)
        self._body.add(chunk)

    def on_message_complete(self) -> None:
        """Hand the request on."""
        call = self.call
        if call is None:
            raise self._refused(Refused("request: it has no head", code="bad_http"))
        if call.headers.get(b"connection") is not None and self._parser.should_upgrade():
            self.offers_upgrade = True
        else:
            self._complete(call, self._parser.should_keep_alive())

    def _complete(self, call: Call, keep_alive: bool) -> None:
        body = self._body
        self.call, self._body, self.phase = None, b"", IDLE
        self.whole += 1
        if self._reserved:
            self.release()
        self._connection.received(call, body, keep_alive)

    def _check_version(self, headers: dict[bytes, bytes]) -> None:
        # Only a client that mentions its connection, or has no Host, can be an old one.
        if b"host" in headers and b"connection" not in headers and b"transfer-encoding" not in headers:
            return
        version = self._parser.get_http_version()
        is_old = self._connection.is_old = version == "1.0"
        if version not in ("1.0", "1.1") or (is_old and b"transfer-encoding" in headers):
            raise self._refused(Refused("request: only HTTP/1.1 is spoken here", code="bad_http"))
        if not is_old and b"host" not in headers:
            raise self._refused(Refused('header "host": it is missing', code="bad_header"))

    def _reserve(self, count: int) -> None:
        if self._intake.body_bytes + count > self._settings.max_bodies_bytes:
            raise self._refused(
                Refused("body: too many large bodies at once; retry later", code="too_many_bodies", status=503)
            )
        self._intake.body_bytes += count
        self._reserved += count

    def _body_too_large(self) -> RequestTooLarge:
        error = RequestTooLarge(f"body: longer than {self._settings.max_body_bytes} bytes, the limit --max-body-bytes")
        error.code = "body_too_large"
        return error

    def _refused(self, error: ForetellError) -> ForetellError:
        """Remember why parsing stops; the parser wraps what is raised inside of it."""
        self._refusal = error
        return error


def _headers_too_large() -> Refused:
    return Refused("request: its headers are too many or too long", code="headers_too_large", status=431)
