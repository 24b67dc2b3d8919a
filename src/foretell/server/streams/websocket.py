"""One WebSocket: the socket, its limits and its time. Knows no model.

* a message is as long as a body may be; all that are being received count with the bodies
* whoever does not read is not read from either, and is cut off after a while
* small frames are read some at a time, so that a flood of them does not hold up the others
* who is silent is asked whether it is still there; who stalls within a message is told to go
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from websockets.frames import CloseCode

from foretell.request import Parts
from foretell.server.connection import Desk
from foretell.server.streams.messages import Messages

__all__ = ["Listener", "WebSocket"]

_LISTENER, _STALLED, _TURN = 1, 2, 4
"""Why nothing is read: the listener has enough, the peer takes nothing, others are to have their turn."""
_SLICE_BYTES = 4096
_FRAMES = 64
"""Read at once, before others have their turn."""
_LINGER_S = 1.0
_LINGER_BYTES = 64 << 20
"""A client that sends a message too long has most of it on its way; without all of it read it never learns why."""
_FRESH = -1.0
"""Instead of an instant: since the last check."""
_GRACE_S = 5.0
_RESERVED_BYTES = 1 << 16
"""A message of fewer bytes is not counted while it comes."""


class Listener(Protocol):
    """Takes the messages of one WebSocket."""

    def take(self, message: bytes | Parts, is_text: bool) -> None:
        """Take a message; one of text is bytes. Raises nothing."""
        ...

    def gone(self) -> None:
        """Take it that the client has gone; called once."""
        ...

    def drain(self) -> None:
        """Take nothing more, and close the socket once nothing is unanswered."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether answers are owed."""
        ...


class WebSocket(asyncio.Protocol):
    """One client.

    Attributes:
        listener: Takes the messages. To be set before anything is received; None: the client has gone.
    """

    def __init__(self, desk: Desk) -> None:
        self.listener: Listener | None = None
        self._desk = desk
        self._settings = desk.settings
        self._loop = asyncio.get_running_loop()
        self._messages = Messages(desk.settings.max_body_bytes)
        self._unread = bytearray()
        self._reserved = self._discarded = self._holds = 0
        self._heard = self._began = _FRESH
        self._stalled_since = 0.0
        self._is_pinged = self._is_ending = False
        self._end: asyncio.TimerHandle | None = None

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self.transport = cast("asyncio.Transport", transport)
        self._desk.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        self._heard, self._is_pinged = _FRESH, False
        if self._is_ending:
            self._discard(len(data))
        elif self._unread:
            self._unread += data
        else:
            self._read(data)

    def eof_received(self) -> None:
        """Take it that the client ended its sending; the transport is closed."""
        self._messages.read_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        del exc
        self._desk.connections.discard(self)
        self._is_ending = True
        if self._end is not None:
            self._end.cancel()
        self._leave()
        self._messages.let_go()
        self._unread = bytearray()
        self._reserve(0)

    def pause_writing(self) -> None:
        """The client does not take its answers: read nothing more from it."""
        self._stalled_since = self._loop.time()
        self._hold(_STALLED)

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        self._stalled_since = 0.0
        self._go_on(_STALLED)

    # What the listener does.

    def send(self, text: bytes) -> None:
        """Send a message of text; nothing is sent once the socket is closing."""
        self._messages.send(text)
        self._write()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close with a code and a reason of at most 120 bytes, and let the client answer for a moment."""
        if not self._messages.is_open:
            return
        self._messages.close(code, reason)
        self._write()
        if self._holds:  # its answer is behind what was not read yet
            self._loop.call_soon(self._go_on, self._holds)
        self._end_after(_LINGER_S)

    def hold(self, is_full: bool) -> None:
        """Read nothing more for now, or read on."""
        if is_full:
            self._hold(_LISTENER)
        else:
            self._go_on(_LISTENER)

    # What the desk does with every connection.

    @property
    def is_busy(self) -> bool:
        """Whether answers are owed, or a closing is."""
        return self._end is not None or (self.listener is not None and self.listener.is_busy)

    def drain(self) -> None:
        """Close once nothing is unanswered."""
        if self.listener is not None and self._messages.is_open:
            self.listener.drain()

    def check(self, now: float) -> None:
        """Cut off a client that is too slow, or gone; called every second or so."""
        settings, messages = self._settings, self._messages
        if self._stalled_since and now - self._stalled_since > settings.write_s:
            self.transport.abort()
        if self._is_ending or self._end is not None or self.transport.is_closing():
            return
        if self._heard == _FRESH or self._holds:
            self._heard = now
        if self._began == _FRESH or self._holds:
            self._began = now
        if messages.received_bytes and self._is_slow(now - self._began):
            self._fail(CloseCode.POLICY_VIOLATION, "message: it came too slowly")
        elif now - self._heard > settings.idle_s:
            self._fail(CloseCode.INTERNAL_ERROR, "ping: it was not answered")
        elif now - self._heard > settings.idle_s / 2 and not self._is_pinged:
            self._is_pinged = True
            messages.ping()
            self._write()

    # Reading.

    def _read(self, data: bytes | bytearray) -> None:
        view, messages = memoryview(data), self._messages
        most = messages.frames + _FRAMES
        for at in range(0, len(view), _SLICE_BYTES):
            if self._is_ending:
                break
            if messages.frames > most:
                self._hold(_TURN)
                self._loop.call_soon(self._go_on, _TURN)
            if self._holds:
                self._unread += view[at:]
                break
            if not messages.received_bytes:
                self._began = _FRESH
            for message in messages.read(view[at : at + _SLICE_BYTES]):
                if self.listener is not None:
                    self.listener.take(*message)
            if messages.has_left:
                self._leave()
            self._write()
        self._reserve(messages.received_bytes + len(self._unread))

    def _is_slow(self, waited: float) -> bool:
        settings = self._settings
        least = settings.min_body_rate * (waited - _GRACE_S)
        return waited > settings.body_s or (waited > _GRACE_S and self._messages.received_bytes < least)

    def _reserve(self, count: int) -> None:
        count = count if count > _RESERVED_BYTES else 0
        desk, more = self._desk, count - self._reserved
        desk.body_bytes += more
        self._reserved = count
        if more > 0 and desk.body_bytes > self._settings.max_bodies_bytes and not self._is_ending:
            self._fail(CloseCode.TRY_AGAIN_LATER, "message: too many large ones at once; retry later")

    def _hold(self, reason: int) -> None:
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def _go_on(self, reason: int) -> None:
        if not self._holds & reason:
            return
        self._holds &= ~reason
        if self._holds or self.transport.is_closing():
            return
        if self._unread:
            unread, self._unread = self._unread, bytearray()
            self._read(unread)
        if not self._holds and not self.transport.is_closing():
            self.transport.resume_reading()

    # Writing and ending.

    def _write(self) -> None:
        data, is_last = self._messages.outgoing()
        if data and not self.transport.is_closing():
            self.transport.write(data)
        if is_last:
            self._finish()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self._messages.fail(code, reason)
        self._write()

    def _finish(self) -> None:
        """End the connection. One whose client may still be sending first lets it read why: closing would reset."""
        self._is_ending = True
        if self._messages.has_left or self.transport.is_closing():
            self.transport.close()
            return
        if self.transport.can_write_eof():  # not with TLS
            self.transport.write_eof()
        self._unread = bytearray()
        if self._holds:
            self._holds = 0
            self.transport.resume_reading()
        self._end_after(_LINGER_S)

    def _end_after(self, seconds: float) -> None:
        if self._end is None:
            self._end = self._loop.call_later(seconds, self.transport.close)

    def _leave(self) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.gone()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()
