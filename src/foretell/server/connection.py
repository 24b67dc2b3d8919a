"""One HTTP/1.1 connection: bytes to calls, answers to bytes, in the order of the requests.

What comes is read by `incoming.py`, or known by its head from before; here are the deadlines of receipt and the order
of answers. A call is handed on when its body is complete, and answered at once or later by whoever holds it: no task
and no future. Knows no route and no model.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Protocol, cast

from foretell.errors import ForetellError
from foretell.protocol.status import Refused
from foretell.server.bodies import JOINED_BYTES, Body
from foretell.server.call import Call, Head, Shortcut, is_plain
from foretell.server.heads import Heads, Key
from foretell.server.incoming import BODY, HEAD, IDLE, Incoming, Intake

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
_FRESH = -1.0
"""Instead of an instant: since the last check. Clocks cost what they cost."""
_PIPELINED = 32
"""From so many unanswered requests on, nothing more is read from a connection."""
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


class Desk(Intake, Protocol):
    """Where calls go: the routes, and what all connections share."""

    connections: set[Peer]
    draining: bool
    heads: Heads

    def handle(self, call: Call) -> None:
        """Answer a call, now or later. Raises nothing."""
        ...

    def lane(self, target: bytes, headers: dict[bytes, bytes]) -> Shortcut | None:
        """Return the short way of plain calls to a target that was called before, with these headers, or None."""
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
        self._loop = asyncio.get_running_loop()
        self._incoming = Incoming(self, desk)
        self._calls: deque[Call] = deque()
        self._since = self._loop.time()
        self._stalled_since = 0.0
        self._refusal: ForetellError | None = None
        self._paused = False
        self._discarded = 0
        self._taken: Call | None = None
        self._last_head: Key | None = None
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
        incoming = self._incoming
        if incoming.offers_upgrade:
            self._read_plain(data)
            return
        end = data.find(b"\r\n\r\n", 0, _KNOWN_BYTES) + 4
        if incoming.phase == IDLE and end > 3:
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
        began_idle = incoming.phase == IDLE
        try:
            rest = incoming.feed(data)
        except ForetellError as error:
            self._refuse(error)
            return
        if rest is not None:
            self._read_plain(rest)
        elif began_idle and incoming.whole == 1:
            self._remember(data, end)

    def _read_plain(self, data: bytes) -> None:
        """Read the body of a request that offers to upgrade; then, what follows it."""
        try:
            rest = self._incoming.feed_plain(data)
        except ForetellError as error:
            self._refuse(error)
            return
        if rest is not None and self._successor is None:
            self._pause()
        elif rest and self._successor is not None:
            self._successor.data_received(rest)

    def hand_over(self, call: Call, head: bytes, successor: asyncio.Protocol) -> None:
        """Answer an upgrade that was offered, and give the socket to whoever reads and writes it from here on.

        Raises:
            Refused: It was not offered, or what was asked before is not answered yet.
        """
        if not self._incoming.offers_upgrade or self._paused or len(self._calls) != 1 or self._calls[0] is not call:
            raise Refused("upgrade: ask for it on a connection of its own", code="bad_http")
        self._calls.clear()
        self.desk.connections.discard(self)
        self.desk.replied(call, 101)
        self.transport.write(head)
        self._successor, self._taken = successor, None
        self._incoming.close()
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
        if call is None or end <= 3 or len(data) - end != len(call.body) or self._incoming.phase != IDLE:
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

    def eof_received(self) -> None:
        """Close: a client that ends its sending is not waiting for answers."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client no longer waits for."""
        del exc
        self.desk.connections.discard(self)
        for call in self._calls:
            call.is_gone = True
            if call.cancel is not None:
                call.cancel()
        self._calls.clear()
        self._taken = None
        self._incoming.close()

    def pause_writing(self) -> None:
        """The client does not take its answers: read nothing more from it."""
        self._stalled_since = self._loop.time()
        self._pause()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        self._stalled_since = 0.0
        self._resume()

    # What comes in.

    def may_go_on(self) -> None:
        """Tell a client that waits to be told so to send its body."""
        if not self._calls:
            self.transport.write(_CONTINUE)

    def received(self, call: Call, body: bytes | Body, keep_alive: bool) -> None:
        """Hand on a request that is whole."""
        call.body = body if type(body) is bytes else b""
        call.keep_alive = keep_alive
        self._calls.append(call)
        self._taken = call
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
        settings, incoming = self._settings, self._incoming
        phase, waited = incoming.phase, now - (self._since if incoming.phase == IDLE else incoming.since)
        if self._stalled_since and now - self._stalled_since > settings.write_s:
            self.transport.abort()
        elif self._calls or self.transport.is_closing() or self._refusal is not None:
            return  # the engine, or the refusal, ends it
        elif phase == IDLE and (waited > settings.idle_s or self.desk.draining):
            self.transport.close()
        elif (phase == HEAD and waited > settings.headers_s) or (phase == BODY and incoming.is_slow(waited)):
            self._refuse(Refused("request: it came too slowly", code="request_timeout", status=408))

    def drain(self) -> None:
        """Close once nothing is unanswered."""
        if not self._calls and self._incoming.phase == IDLE:
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
        return bool(self._calls) or self._incoming.phase != IDLE

    def _refuse(self, error: ForetellError) -> None:
        """Answer with an error after the answers still owed, and close."""
        self._refusal = error
        self._incoming.release()
        if not self._calls:
            self._say_refusal()

    def _say_refusal(self) -> None:
        error = self._refusal
        if error is None or self.transport.is_closing():
            return
        call = self._incoming.call or Call(self, b"", b"", {})
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
