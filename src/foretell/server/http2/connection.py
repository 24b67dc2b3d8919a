"""One HTTP/2 connection: bytes to frames, frames to requests, by the rules of RFC 9113.

The short way of a request is two frames in one chunk, its head known by its bytes and its body whole, without a task
or a future. Frames that are seldom are `control`'s, answers are `sending`'s. Knows no gRPC and no route.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import cast

from foretell.server.http2 import control
from foretell.server.http2.desk import Desk
from foretell.server.http2.frames import (
    CONTINUATION,
    DATA,
    HEAD_BYTES,
    HEADERS,
    LEAST_FRAME_BYTES,
    PREFACE,
    Broken,
    Code,
    goaway,
    reset,
    unpack_head,
    window_update,
)  # fmt: skip
from foretell.server.http2.incoming import Incoming
from foretell.server.http2.patience import Patience
from foretell.server.http2.sending import Sending
from foretell.server.http2.stream import Stream

__all__ = ["Connection"]

_LOG = logging.getLogger("foretell.server")
_ENDED_EARLY = 256
_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20
_OLD = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client.

    Attributes:
        streams: Requests that are not answered yet.
        out: The way out.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.streams: dict[int, Stream] = {}
        self.loop = asyncio.get_running_loop()
        self.patience = Patience(self.loop.time())
        self.last = 0
        """The latest stream the client began."""
        self.going, self.limit = False, 0
        """Whether the client was told to go, and its last stream that is looked at then."""
        self.greeted = self.ending = False
        self.since = self.heard = self.loop.time()
        self.stalled_since = 0.0
        self.sent_then = 0
        self.pinged = False
        self.chunks = self.chunks_then = 0
        self._rest = b""
        self._discarded = 0
        self.ended_early: deque[int] = deque(maxlen=_ENDED_EARLY)
        """Streams that were answered, or reset, before the end of their requests: more of those may be on its way."""
        self.incoming = Incoming(self)

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client to greet, or refuse it where there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        self.out = Sending(self.transport, self.done, self.desk.writing)
        self.desk.connections.add(self)
        if len(self.desk.connections) > self.desk.settings.max_connections:
            self.out.write(control.greeting(self.desk.settings))
            self.end(Code.ENHANCE_YOUR_CALM, "connections: too many; retry later")

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self.ending:
            self._discard(len(data))
            return
        self.chunks += 1
        if self._rest:
            data, self._rest = self._rest + data, b""
        try:
            self._read(data)
        except Broken as broken:
            self.end(broken.code, str(broken))
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("connection: failed")
            self.end(Code.INTERNAL_ERROR, "the connection failed. This is a bug.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client no longer waits for."""
        del exc
        self.ending = True
        self.desk.connections.discard(self)
        for stream in list(self.streams.values()):
            self._close(stream)
        # Both ways hold this connection: a circle, which nobody may look for for long.
        del self.incoming
        self.out.let_go()

    def pause_writing(self) -> None:
        """The client does not take its answers: read nothing more from it."""
        self.out.paused = True
        self.stalled_since = self.loop.time()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        self.out.paused = False
        self.stalled_since = 0.0
        self.transport.resume_reading()
        self.out.pump()

    # Frames.

    def _read(self, data: bytes) -> None:
        at, end, incoming = 0, len(data), self.incoming
        if not self.greeted:
            at = self._greet(data)
            if not at:
                return
        while end - at >= HEAD_BYTES:
            word, flags, id = unpack_head(data, at)
            start = at + HEAD_BYTES
            stop = start + (word >> 8)
            if stop - start > LEAST_FRAME_BYTES:
                raise Broken(Code.FRAME_SIZE_ERROR, "frame: longer than 16384 bytes")
            if stop > end:
                break
            at = stop
            kind, id = word & 255, id & 0x7FFFFFFF
            try:
                if incoming.block is not None and kind != CONTINUATION:
                    raise Broken(Code.PROTOCOL_ERROR, "headers: another frame came before their end")
                if kind == DATA:
                    incoming.data(id, flags, data[start:stop])
                elif kind == HEADERS:
                    incoming.headers(id, flags, data[start:stop])
                elif kind == CONTINUATION:
                    incoming.go_on(id, flags, data[start:stop])
                else:
                    control.receive(self, kind, id, flags, data[start:stop])
            except Broken as broken:
                if not broken.stream:
                    raise
                self.refuse(broken.stream, broken.code)
            if self.ending:
                return
        if at < end:
            self._rest = data[at:]

    def _greet(self, data: bytes) -> int:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            # Whoever speaks HTTP/1 is told in HTTP/1.
            self.out.write(_OLD) if data[:1].isalpha() else self.out.write(control.greeting(self.desk.settings))
            raise Broken(Code.PROTOCOL_ERROR, "preface: this is not HTTP/2")
        if len(data) < len(PREFACE):
            self._rest = data
            return 0
        self.greeted = True
        self.out.write(control.greeting(self.desk.settings))
        return len(PREFACE)

    # Streams.

    def hold(self, stream: Stream, count: int) -> None:
        """Count so many bytes more as being received."""
        stream.held += count
        self.desk.body_bytes += count

    def give_room(self, stream: Stream, count: int) -> None:
        """Let the client send so many bytes more of a body."""
        stream.taken -= count
        if not stream.ended and count > 0:
            self.out.write(window_update(stream.id, count))

    def done(self, stream: Stream) -> None:
        """Close a stream whose answer is out."""
        self.patience.served += 1
        stream.cancel = None
        if not stream.ended and not self.transport.is_closing():
            # The answer came before the end of the request: the rest of it is not wanted.
            self.ended_early.append(stream.id)
            self.out.write(reset(stream.id, Code.NO_ERROR))
        self._close(stream)
        if self.going and not self.streams:
            self.out.close()

    def refuse(self, id: int, code: Code) -> None:
        """End a stream for a fault of the client's."""
        self.patience.bear_reset()
        self.out.write(reset(id, code))
        self.ended_early.append(id)
        stream = self.streams.get(id)
        if stream is not None:
            self._close(stream)

    def taken_back(self, stream: Stream) -> None:
        """Close a stream that the client reset."""
        self.patience.bear_reset()
        self._close(stream)

    def _close(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        stream.closed = True
        self.out.forget(stream)
        if stream.held:
            self.hold(stream, -stream.held)
        cancel, stream.cancel, stream.body = stream.cancel, None, None
        if cancel is not None:
            cancel()

    # The end.

    def end(self, code: Code, why: str) -> None:
        """End the connection for a fault, and let the client read why."""
        if self.ending:
            return
        self.ending = True
        for stream in list(self.streams.values()):
            self._close(stream)
        self.out.write(goaway(self.last, code, why))
        self.out.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.abort)

    def drain(self) -> None:
        """Take no more requests, and close once nothing is unanswered."""
        self.say_goodbye()
        if not self.streams and not self.ending:
            self.out.close()

    def say_goodbye(self) -> None:
        """Tell the client to go elsewhere with what it has not asked yet; what it has is answered."""
        if not self.ending and not self.going:
            self.going, self.limit = True, self.last
            self.out.write(goaway(self.last, Code.NO_ERROR, "no more requests here"))

    def check(self, now: float) -> None:
        """Look after a slow client; called every second or so."""
        control.check(self, now)

    def _discard(self, count: int) -> None:
        # Closing with unread bytes would reset the connection, and the client would not see why.
        self._discarded += count
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()
