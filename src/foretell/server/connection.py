"""One HTTP/1.1 connection: bytes to calls, answers to bytes, in the order of the requests.

llhttp reads the messages; here are the limits, the deadlines of receipt and the order of answers. A call is
handed on when its body is complete, and answered at once or later by whoever holds it: no task and no future.
Knows no route and no model.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Protocol, cast

import httptools

from foretell.errors import ForetellError, RequestTooLarge
from foretell.protocol.status import Refused
from foretell.server.bodies import JOINED_BYTES, Body
from foretell.server.call import Call, Head, Shortcut, is_plain
from foretell.server.heads import Heads, Key, is_plain_id
from foretell.server.settings import ServerSettings

__all__ = ["WANTED", "Connection", "Desk", "Peer"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
WANTED = frozenset(
    (
        b"authorization", b"accept", b"connection", b"content-encoding", b"content-length", b"content-type", b"expect",
        b"host", b"inference-header-content-length", b"origin", b"sec-fetch-site", b"sec-websocket-key",
        b"sec-websocket-version", b"transfer-encoding", b"upgrade", b"x-request-id", b"x-request-priority",
        b"x-request-timeout-ms",
    )
)  # fmt: skip
"""Headers that mean something here; the others are not kept."""
_ONCE = frozenset(
    (
        b"host", b"authorization", b"content-type", b"origin", b"inference-header-content-length", b"sec-websocket-key",
        b"sec-websocket-version",
    )
)  # fmt: skip
_IDLE, _HEAD, _BODY = 0, 1, 2
_FRESH = -1.0
"""Instead of an instant: since the last check. Clocks cost what they cost."""
_PIPELINED = 32
"""From so many unanswered requests on, nothing more is read from a connection."""
_GRACE_S = 5.0
_KNOWN_BYTES = 2048
_STRANGE = frozenset((b"expect", b"transfer-encoding"))
_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20


class Peer(Protocol):
    """A client, whatever it speaks."""

    transport: asyncio.Transport

    @property
    def is_busy(self) -> bool:
        """Whether an answer is owed, or a request is being received."""
        ...

    def check(self, now: float) -> None:
        """Cut off a client that is too slow; called every second or so."""
        ...

    def drain(self) -> None:
        """Close once nothing is unanswered."""
        ...


class Desk(Protocol):
    """Where calls go: the routes, and what all connections share."""

    settings: ServerSettings
    connections: set[Peer]
    draining: bool
    heads: Heads
    wanted: frozenset[bytes]
    """Headers to keep."""
    body_bytes: int
    """Of all bodies being received."""

    def handle(self, call: Call) -> None:
        """Answer a call, now or later. Raises nothing."""
        ...

    def admit_headers(self, call: Call) -> None:
        """Refuse a call by its headers alone, before its body is read.

        Raises:
            Refused: Whoever sends it may not, or nothing here takes such a body.
        """
        ...

    def lane(self, target: bytes, headers: dict[bytes, bytes]) -> Shortcut | None:
        """Return the short way of plain calls to a target that was called before, with these headers, or None."""
        ...

    def new_id(self) -> bytes:
        """Return an id for a request that brought none."""
        ...

    def replied(self, call: Call, status: int) -> None:
        """Count a reply."""
        ...


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.is_old = False
        """HTTP/1.0: keeping the connection must be said."""
        self._settings = desk.settings
        self._wanted = desk.wanted
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._calls: deque[Call] = deque()
        self._phase = _IDLE
        self._since = self._loop.time()
        self._stalled_since = 0.0
        self._head_bytes = self._header_bytes = self._header_count = 0
        self._declared = self._received = self._reserved = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._call: Call | None = None
        self._body: bytes | Body = b""
        self._refusal: ForetellError | None = None
        self._paused = False
        self._discarded = 0
        self._taken: Call | None = None
        self._taken_count = 0
        self._last_head: Key | None = None
        self._offered_upgrade = False
        self._successor: asyncio.Protocol | None = None

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it where there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        connections = self.desk.connections
        if len(connections) >= self._settings.max_connections:
            self._refuse(Refused("connections: too many; retry later", code="too_many_connections", status=503))
            return
        connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self._refusal is not None:
            self._discard(len(data))
            return
        if self._offered_upgrade:
            self._read_plain(data)
            return
        end = data.find(b"\r\n\r\n", 0, _KNOWN_BYTES) + 4
        if self._phase == _IDLE and end > 3:
            text, heads = data[:end], self.desk.heads
            known = heads.same.get(text)
            # After a request that closes, nothing more is taken.
            is_open = not self._calls or self._calls[-1].keep_alive
            if known is not None and known.body_bytes == len(data) - end and is_open:
                self._take(known, data[end:], self.desk.new_id())
                return
            alike = heads.find(text, len(data) - end) if is_open else None
            if alike is not None:
                self._take(alike[0], data[end:], alike[1] or self.desk.new_id())
                return
        # Only a chunk that is one whole request, from its first byte to its last, shows where its head is.
        began_idle, self._taken_count = self._phase == _IDLE, 0
        self._read(data)
        if began_idle and self._taken_count == 1:
            self._remember(data, end)

    def _read_plain(self, data: bytes) -> None:
        """Read the body of a request that offered to upgrade, which the parser does not read; then, what follows it."""
        rest = data[max(0, self._declared - self._received) :]
        try:
            if data and self._received < self._declared:
                self.on_body(data[: self._declared - self._received])
            if b"transfer-encoding" in self._headers:
                raise Refused("upgrade: with a chunked body it is not understood; send none", code="bad_http")
        except ForetellError as error:
            self._refuse(error)
            return
        if self._received >= self._declared and self._call is not None:
            self._finish(self._call, keep_alive=False)
            if self._successor is None:
                self._pause()
            elif rest:
                self._successor.data_received(rest)

    def hand_over(self, call: Call, head: bytes, successor: asyncio.Protocol) -> None:
        """Answer an upgrade that was offered, and give the socket to whoever reads and writes it from here on.

        Raises:
            Refused: It was not offered, or what was asked before is not answered yet.
        """
        if not self._offered_upgrade or self._paused or len(self._calls) != 1 or self._calls[0] is not call:
            raise Refused("upgrade: ask for it on a connection of its own", code="bad_http")
        self._calls.clear()
        self.desk.connections.discard(self)
        self.desk.replied(call, 101)
        self.transport.write(head)
        self._successor = successor
        self._parser = self._taken = self._call = None  # as when the connection is lost
        self.transport.set_protocol(successor)
        successor.connection_made(self.transport)

    def _take(self, head: Head, body: bytes, request_id: bytes) -> None:
        """Hand on a request whose head is like one that was parsed and let pass before."""
        call = Call(self, head.method, head.target, head.headers)
        call.plain = head.plain
        call.id = request_id
        call.body = body
        self._calls.append(call)
        if len(self._calls) >= _PIPELINED:
            self._pause()
        if head.lane is None:
            self.desk.handle(call)
        else:
            head.lane.take(call)

    def _remember(self, data: bytes, end: int) -> None:
        """Keep a head if one like it came just before."""
        call, self._taken = self._taken, None
        if call is None or end <= 3 or len(data) - end != len(call.body) or self._phase != _IDLE:
            return
        if call.method != b"POST" or not call.keep_alive or self.is_old or call.headers.keys() & _STRANGE:
            return
        key = self.desk.heads.key(data[:end])
        if key is None or key != self._last_head:
            self._last_head = key
            return
        headers = {name: value for name, value in call.headers.items() if name != b"x-request-id"}
        plain = is_plain(headers)
        lane = self.desk.lane(call.target, headers) if plain else None
        self.desk.heads.add(key, Head(call.method, call.target, headers, plain, len(call.body), lane))

    def _read(self, data: bytes) -> None:
        is_head = self._phase != _BODY
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_plain(data[upgrade.args[0] :])
            return
        except httptools.HttpParserInvalidMethodError:
            self._refuse(
                Refused("request: unknown method", code="method_not_allowed", status=405, allow=("GET", "HEAD", "POST"))
            )
            return
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or Refused(f"request: not HTTP: {_cause(error)}", code="bad_http"))
            return
        # Where a body ended in this chunk, nobody knows how much of it is the head behind it.
        if self._phase == _HEAD and is_head and not self._taken_count:
            self._head_bytes += len(data)
            if self._head_bytes > self._settings.max_header_bytes + self._settings.max_url_bytes:
                self._refuse(_headers_too_large())

    def eof_received(self) -> None:
        """Close: a client that ends its sending is not waiting for answers."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client no longer waits for."""
        del exc
        self.desk.connections.discard(self)
        self._release()
        for call in self._calls:
            call.is_gone = True
            if call.cancel is not None:
                call.cancel()
        self._calls.clear()
        # Parser and last call hold this connection: a circle, of which each would keep its last body and answer.
        self._parser = self._taken = self._call = None

    def pause_writing(self) -> None:
        """The client does not take its answers: read nothing more from it."""
        self._stalled_since = self._loop.time()
        self._pause()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        self._stalled_since = 0.0
        self._resume()

    # The parser.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._phase, self._since = _HEAD, self._loop.time()
        self._url = b""
        self._headers = {}
        self._header_bytes = self._header_count = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of its target."""
        self._url += url
        if len(self._url) > self._settings.max_url_bytes:
            raise self._refused(
                Refused(f"request: its path is longer than {self._settings.max_url_bytes} bytes",
                        code="url_too_long", status=414)
            )  # fmt: skip

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that means something here."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        settings = self._settings
        if self._header_count > settings.max_headers or self._header_bytes > settings.max_header_bytes:
            raise self._refused(_headers_too_large())
        name = name.lower()
        if name not in self._wanted or self._phase == _BODY:  # trailers mean nothing here
            return
        if name in self._headers and name in _ONCE:
            raise self._refused(Refused(f'header "{name.decode()}": it is there twice', code="bad_header"))
        self._headers[name] = value.strip()

    def on_headers_complete(self) -> None:
        """Let the request pass, or refuse it before its body is read."""
        headers, parser = self._headers, self._parser
        call = Call(self, parser.get_method(), self._url, headers)
        given = headers.get(b"x-request-id")
        call.id = given if given and is_plain_id(given) else self.desk.new_id()
        self._call = call
        self._phase, self._since, self._head_bytes = _BODY, self._loop.time(), 0
        self._body, self._received = b"", 0
        self._check_version(headers)
        declared = headers.get(b"content-length")
        self._declared = int(declared) if declared else 0
        if self._declared > self._settings.max_body_bytes:
            raise self._refused(self._body_too_large())
        try:
            self.desk.admit_headers(call)
        except ForetellError as error:
            raise self._refused(error) from None
        if self._declared > 1 << 16:
            self._reserve(self._declared)
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue" and not self._calls:
            self.transport.write(_CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        """Take a part of the body."""
        self._received += len(chunk)
        if not self._body:
            self._body = chunk
            return
        if self._received > self._settings.max_body_bytes:
            raise self._refused(self._body_too_large())
        if self._received > 1 << 16 and self._received > self._reserved:
            self._reserve(max(1 << 16, self._received - self._reserved))
        if isinstance(self._body, bytes):
            first, self._body = self._body, Body()
            self._body.add(first)
        self._body.add(chunk)

    def on_message_complete(self) -> None:
        """Hand the request on."""
        call = self._call
        if call is None:
            raise self._refused(Refused("request: it has no head", code="bad_http"))
        if call.headers.get(b"connection") is not None and self._parser.should_upgrade():
            self._offered_upgrade = True
        else:
            self._finish(call, self._parser.should_keep_alive())

    def _finish(self, call: Call, keep_alive: bool) -> None:
        body = self._body
        call.body = body if type(body) is bytes else b""
        call.keep_alive = keep_alive
        self._call, self._body, self._phase = None, b"", _IDLE
        if self._reserved:
            self._release()
        self._calls.append(call)
        self._taken = call
        self._taken_count += 1
        if len(self._calls) >= _PIPELINED:
            self._pause()
        if isinstance(body, Body):
            self._hand_on(call, body)
        else:
            self.desk.handle(call)

    def _hand_on(self, call: Call, body: Body) -> None:
        """Hand on a call whose body came in parts: as they are where it is a picture, else joined."""
        parts = body.parts()
        if call.headers.get(b"content-type", b"").startswith(b"image/"):
            call.parts = parts
        elif body.size > JOINED_BYTES:
            joining = self._loop.run_in_executor(None, b"".join, parts)
            call.cancel = joining.cancel
            joining.add_done_callback(partial(self._joined, call))
            return
        else:
            call.body = b"".join(parts)
        self.desk.handle(call)

    def _joined(self, call: Call, joining: asyncio.Future[bytes]) -> None:
        if not joining.cancelled() and not call.is_gone:
            call.cancel, call.body = None, joining.result()
            self.desk.handle(call)

    # Answers.

    def answered(self, call: Call, status: int) -> None:
        """Count this answer and deliver it."""
        self.desk.replied(call, status)
        self.deliver(call)

    def deliver(self, call: Call) -> None:
        """Write this answer if it is its turn, and those that waited for it; it is counted already."""
        calls = self._calls
        if not calls or calls[0] is not call or self.transport.is_closing():
            return
        if (
            len(calls) == 1
            and call.keep_alive
            and call.response is not None
            and not self._paused
            and self._refusal is None
        ):
            calls.popleft()
            self.transport.write(call.response)
            self._since = _FRESH
            return
        while calls and (response := calls[0].response) is not None:
            done = calls.popleft()
            self.transport.write(response)
            if not done.keep_alive:
                self._hang_up()
                return
        self._since = _FRESH
        if self._refusal is not None and not calls:
            self._say_refusal()
        elif self._paused and not self._stalled_since and len(calls) < _PIPELINED:
            self._resume()

    def check(self, now: float) -> None:
        """Cut off a client that is too slow; called every second or so."""
        if self._since == _FRESH:
            self._since = now
        settings, waited = self._settings, now - self._since
        if self._stalled_since and now - self._stalled_since > settings.write_s:
            self.transport.abort()
        elif self._calls or self.transport.is_closing() or self._refusal is not None:
            return  # the engine, or the refusal, ends it
        elif self._phase == _IDLE and (waited > settings.idle_s or self.desk.draining):
            self.transport.close()
        elif (self._phase == _HEAD and waited > settings.headers_s) or (self._phase == _BODY and self._is_slow(waited)):
            self._refuse(Refused("request: it came too slowly", code="request_timeout", status=408))

    def drain(self) -> None:
        """Close once nothing is unanswered."""
        if not self._calls and self._phase == _IDLE:
            self.transport.close()

    def is_last(self, call: Call) -> bool:
        """Whether nothing was asked after this call."""
        return not self._calls or self._calls[-1] is call

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop."""
        return self.desk.draining

    @property
    def is_busy(self) -> bool:
        """Whether an answer is owed, or a request is being received."""
        return bool(self._calls) or self._phase != _IDLE

    def _is_slow(self, waited: float) -> bool:
        settings = self._settings
        return waited > settings.body_s or (
            waited > _GRACE_S and self._received < settings.min_body_rate * (waited - _GRACE_S)
        )

    def _check_version(self, headers: dict[bytes, bytes]) -> None:
        # Only a client that mentions its connection, or has no Host, can be an old one.
        if b"host" in headers and b"connection" not in headers and b"transfer-encoding" not in headers:
            return
        version = self._parser.get_http_version()
        self.is_old = version == "1.0"
        if version not in ("1.0", "1.1") or (self.is_old and b"transfer-encoding" in headers):
            raise self._refused(Refused("request: only HTTP/1.1 is spoken here", code="bad_http"))
        if not self.is_old and b"host" not in headers:
            raise self._refused(Refused('header "host": it is missing', code="bad_header"))

    def _reserve(self, count: int) -> None:
        if self.desk.body_bytes + count > self._settings.max_bodies_bytes:
            raise self._refused(
                Refused("body: too many large bodies at once; retry later", code="too_many_bodies", status=503)
            )
        self.desk.body_bytes += count
        self._reserved += count

    def _release(self) -> None:
        self.desk.body_bytes -= self._reserved
        self._reserved = 0

    def _body_too_large(self) -> RequestTooLarge:
        error = RequestTooLarge(f"body: longer than {self._settings.max_body_bytes} bytes, the limit --max-body-bytes")
        error.code = "body_too_large"
        return error

    def _refused(self, error: ForetellError) -> ForetellError:
        """Remember why parsing stops; the parser wraps what is raised inside of it."""
        self._refusal = error
        return error

    def _refuse(self, error: ForetellError) -> None:
        """Answer with an error after the answers still owed, and close."""
        self._refusal = error
        self._release()
        if not self._calls:
            self._say_refusal()

    def _say_refusal(self) -> None:
        error = self._refusal
        if error is None or self.transport.is_closing():
            return
        call = self._call or Call(self, b"", b"", {})
        call.id = call.id or self.desk.new_id()
        call.keep_alive = False
        self._calls.append(call)
        call.fail(error)

    def _hang_up(self) -> None:
        """Close. After a refusal, first let a client that is still sending read it: closing at once would reset."""
        if self._refusal is None or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._loop.call_later(_LINGER_S, self.transport.close)

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._refusal is None and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()


def _headers_too_large() -> Refused:
    return Refused("request: its headers are too many or too long", code="headers_too_large", status=431)


def _cause(error: Exception) -> str:
    return str(error)[:100] or type(error).__name__
