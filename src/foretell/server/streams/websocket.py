"""One WebSocket (RFC 6455): bytes to whole messages, messages to bytes, within limits. Knows no model.

The framing is that of the library `websockets`, whose `Protocol` does no input or output by itself: it is kept up with
care, unmasks in C, and tells a broken peer with the right code. Here are the socket, the limits and the time:

* a message is as long as a body may be; all that are being received count with the bodies
* whoever does not read is not read from either, and is cut off after a while
* small frames are read some at a time, so that a flood of them does not hold up the others
* no extension is agreed to: pictures are compressed already, and compressed messages can be bombs
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, SEND_EOF, SERVER
from websockets.protocol import Protocol as Framing

from foretell.server.connection import Desk

__all__ = ["Listener", "WebSocket"]

_LOG = logging.getLogger("foretell.server.websocket")
_LISTENER, _STALLED, _TURN = 1, 2, 4
"""Why nothing is read: the listener has enough, the peer takes nothing, others are to have their turn."""
_SLICE_BYTES = 4096
_FRAMES = 64
"""Read at once, before others have their turn."""
_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20
_FRESH = -1.0
"""Instead of an instant: since the last check."""
_GRACE_S = 5.0
_RESERVED_BYTES = 1 << 16
"""A message of fewer bytes is not counted while it comes."""


class Listener(Protocol):
    """Takes the messages of one WebSocket."""

    def take(self, message: bytes, is_text: bool) -> None:
        """Take a message. Raises nothing."""
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
        listener: Takes the messages. To be set before anything is received.
    """

    listener: Listener

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._settings = desk.settings
        self._loop = asyncio.get_running_loop()
        self._framing: Framing | None = Framing(SERVER, max_size=desk.settings.max_body_bytes, logger=_LOG)
        self._message = bytearray()
        """Of a message in fragments, what has come."""
        self._is_text: bool | None = None
        """None: no message in fragments is being received."""
        self._begun_bytes = 0
        """Received since the last whole frame."""
        self._unread = bytearray()
        self._reserved = self._discarded = 0
        self._holds = 0
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
        if self._framing is not None:
            self._framing.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        del exc
        self._desk.connections.discard(self)
        self._is_ending = True
        if self._end is not None:
            self._end.cancel()
        framing, self._framing = self._framing, None
        if framing is not None:
            framing.parser.close()  # it holds itself in a circle, with the bytes it has not read
            self.listener.gone()
        self._unread, self._message = bytearray(), bytearray()
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

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._framing is not None and self._framing.state is OPEN

    def send(self, text: bytes) -> None:
        """Send a message of text; nothing is sent once the socket is closing."""
        if self._framing is not None and self.is_open:
            self._framing.send_text(text)
            self._write(self._framing)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close with a code and a reason of at most 120 bytes, and let the client answer for a moment."""
        if self._framing is not None and self.is_open:
            self._framing.send_close(code, reason)
            self._write(self._framing)
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
        return self._end is not None or (self._framing is not None and self.listener.is_busy)

    def drain(self) -> None:
        """Close once nothing is unanswered."""
        if self.is_open:
            self.listener.drain()

    def check(self, now: float) -> None:
        """Cut off a client that is too slow, or gone; called every second or so."""
        settings, framing = self._settings, self._framing
        if self._stalled_since and now - self._stalled_since > settings.write_s:
            self.transport.abort()
            return
        if framing is None or self._is_ending or self._end is not None:
            return
        self._heard = now if self._heard == _FRESH or self._holds else self._heard
        if self._began == _FRESH:
            self._began = now
        received = self._begun_bytes + len(self._message)
        if received and not self._holds and self._is_slow(now - self._began, received):
            self._fail(framing, CloseCode.POLICY_VIOLATION, "message: it came too slowly")
        elif now - self._heard > settings.idle_s:
            self._fail(framing, CloseCode.INTERNAL_ERROR, "ping: it was not answered")
        elif now - self._heard > settings.idle_s / 2 and not self._is_pinged:
            self._is_pinged = True
            framing.send_ping(b"")
            self._write(framing)

    # Reading.

    def _read(self, data: bytes | bytearray) -> None:
        view, frames = memoryview(data), 0
        for at in range(0, len(view), _SLICE_BYTES):
            if frames > _FRAMES:
                self._hold(_TURN)
                self._loop.call_soon(self._go_on, _TURN)
            if self._holds or self._is_ending:
                self._unread += view[at:] if not self._is_ending else b""
                break
            frames += self._read_slice(view[at : at + _SLICE_BYTES])
        self._reserve(self._begun_bytes + len(self._message) + len(self._unread))

    def _read_slice(self, piece: memoryview) -> int:
        """Return how many frames there were."""
        framing = self._framing
        if framing is None:
            return 0
        if not self._begun_bytes and not self._message:
            self._began = _FRESH
        self._begun_bytes += len(piece)
        framing.receive_data(piece)  # type: ignore[arg-type] # it is added to a bytearray
        frames = framing.events_received()
        if frames:
            self._begun_bytes = 0
        for frame in frames:
            self._take(cast("Frame", frame))
        self._write(framing)
        return len(frames)

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.listener.gone()
            self.listener = _Nobody()
        elif frame.opcode is Opcode.CONT:
            self._message += frame.data
            if frame.fin:
                message, is_text = bytes(self._message), bool(self._is_text)
                self._message, self._is_text = bytearray(), None
                self._tell(message, is_text)
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._tell(bytes(frame.data), is_text)
            else:
                self._message, self._is_text = bytearray(frame.data), is_text

    def _tell(self, message: bytes, is_text: bool) -> None:
        framing = self._framing
        if framing is None or not self.is_open:
            return
        if is_text and not _is_utf8(message):
            self._fail(framing, CloseCode.INVALID_DATA, "message: its text is not UTF-8")
            return
        self.listener.take(message, is_text)

    def _is_slow(self, waited: float, received: int) -> bool:
        settings = self._settings
        return waited > settings.body_s or (
            waited > _GRACE_S and received < settings.min_body_rate * (waited - _GRACE_S)
        )

    def _reserve(self, count: int) -> None:
        count = count if count > _RESERVED_BYTES else 0
        desk, more = self._desk, count - self._reserved
        desk.body_bytes += more
        self._reserved = count
        if more > 0 and desk.body_bytes > self._settings.max_bodies_bytes and self._framing is not None:
            self._fail(self._framing, CloseCode.TRY_AGAIN_LATER, "message: too many large ones at once; retry later")

    # Holding and going on.

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

    def _write(self, framing: Framing) -> None:
        parts = framing.data_to_send()
        if not parts:
            return
        ends = parts[-1] == SEND_EOF
        if not self.transport.is_closing():
            self.transport.write(b"".join(parts))
        if ends:
            self._finish(framing)

    def _finish(self, framing: Framing) -> None:
        """End the connection. One whose client may still be sending first lets it read why: closing would reset."""
        self._is_ending = True
        if framing.close_rcvd is not None or not self.transport.can_write_eof() or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write_eof()
        self._unread = bytearray()
        if self._holds:
            self._holds = 0
            self.transport.resume_reading()
        self._end_after(_LINGER_S)

    def _fail(self, framing: Framing, code: CloseCode, reason: str) -> None:
        framing.fail(code, reason)
        self._write(framing)

    def _end_after(self, seconds: float) -> None:
        if self._end is None:
            self._end = self._loop.call_later(seconds, self.transport.close)

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()


class _Nobody:
    """Listens where nobody does any more."""

    is_busy = False

    def take(self, message: bytes, is_text: bool) -> None:
        """Leave it."""

    def gone(self) -> None:
        """Leave it."""

    def drain(self) -> None:
        """Leave it."""


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
