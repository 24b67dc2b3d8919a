"""One HTTP/2 connection: bytes to frames, frames to requests, by the rules of RFC 9113.

The short way of a request is two frames in one chunk, its head known by its bytes and its body whole, without a task
or a future. Frames that are seldom are `control`'s, answers are `sending`'s. Knows no gRPC and no route.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Protocol, cast

from foretell.server.http2 import control
from foretell.server.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    HEADERS,
    LEAST_FRAME_BYTES,
    PADDED,
    PREFACE,
    PRIORITISED,
    Broken,
    Code,
    Setting,
    goaway,
    reset,
    settings,
    unpack_head,
    window_update,
)  # fmt: skip
from foretell.server.http2.heads import Head, Heads
from foretell.server.http2.patience import Patience
from foretell.server.http2.sending import DEFAULT_WINDOW, Sending
from foretell.server.http2.stream import Stream
from foretell.server.settings import ServerSettings

__all__ = ["Connection", "Desk"]

_LOG = logging.getLogger("foretell.server")
_STREAMS = 256
_WINDOW = 16 << 20
"""Bytes of all bodies that a client may send before it is given room again."""
_STREAM_WINDOW = 1 << 20
_SMALL_BYTES = 256
_CONTINUATIONS = 16
_ENDED_EARLY = 256
_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20
_OLD = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Desk(Protocol):
    """What all connections share, and where requests go."""

    settings: ServerSettings
    connections: set[Connection]
    draining: bool
    body_bytes: int
    """Of all bodies being received."""

    def taker(self, head: Head) -> Any:
        """Return what takes the requests of a head. Raises nothing."""
        ...

    def too_large(self, stream: Stream, *, crowded: bool) -> None:
        """Refuse a request for the size of its body; or, where it is crowded, for that of all bodies together."""
        ...

    def too_slow(self, stream: Stream) -> None:
        """Refuse a request whose body does not come."""
        ...


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
        self.block: bytearray | None = None
        self._block_stream = self._block_flags = self._block_parts = 0
        self._rest = b""
        self._taken = 0
        self._discarded = 0
        self._ended_early: deque[int] = deque(maxlen=_ENDED_EARLY)
        limits = desk.settings
        self.heads = Heads(limits.max_header_bytes, limits.max_headers, desk.taker)

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or refuse where there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        self.out = Sending(self.transport, self.done)
        limits = self.desk.settings
        said = {
            Setting.MAX_CONCURRENT_STREAMS: _STREAMS,
            Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
        }
        self.out.write(settings(said) + window_update(0, _WINDOW - DEFAULT_WINDOW))
        self.desk.connections.add(self)
        if len(self.desk.connections) > limits.max_connections:
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
        self.out.let_go()  # it holds this connection: a circle, which nobody may look for for long

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
        at, end = 0, len(data)
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
                if self.block is not None and kind != CONTINUATION:
                    raise Broken(Code.PROTOCOL_ERROR, "headers: another frame came before their end")
                if kind == DATA:
                    self._data(id, flags, data[start:stop])
                elif kind == HEADERS:
                    self._headers(id, flags, data[start:stop])
                elif kind == CONTINUATION:
                    self._continue(id, flags, data[start:stop])
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
            if data[:1].isalpha():
                self.out.write(_OLD)
            raise Broken(Code.PROTOCOL_ERROR, "preface: this is not HTTP/2")
        if len(data) < len(PREFACE):
            self._rest = data
            return 0
        self.greeted = True
        return len(PREFACE)

    def _headers(self, id: int, flags: int, payload: bytes) -> None:
        if flags & (PADDED | PRIORITISED):
            payload = _bare(flags, payload)
        if not id:
            raise Broken(Code.PROTOCOL_ERROR, "headers: they are of no stream")
        if flags & END_HEADERS:
            self._request(id, flags & END_STREAM, payload)
            return
        self.block, self._block_stream, self._block_flags, self._block_parts = bytearray(payload), id, flags, 0
        self.since = self.loop.time()

    def _continue(self, id: int, flags: int, payload: bytes) -> None:
        block = self.block
        if block is None or id != self._block_stream:
            raise Broken(Code.PROTOCOL_ERROR, "continuation: of no headers")
        self._block_parts += 1
        block += payload
        if self._block_parts > _CONTINUATIONS or len(block) > self.desk.settings.max_header_bytes:
            raise Broken(Code.ENHANCE_YOUR_CALM, "headers: too large")
        if flags & END_HEADERS:
            self.block = None
            self._request(id, self._block_flags & END_STREAM, bytes(block))

    def _request(self, id: int, ended: int, block: bytes) -> None:
        """Begin a request, or end one with trailers."""
        if id <= self.last or not id & 1:
            self._trailers(id, ended, block)
            return
        head = self.heads.known.get(block) or self.heads.read(block)
        if self.going and id > self.limit:
            return
        self.last = id
        if head is None:
            raise Broken(Code.PROTOCOL_ERROR, "headers: malformed", id)
        if len(self.streams) >= _STREAMS:
            raise Broken(Code.REFUSED_STREAM, "streams: too many", id)
        self.streams[id] = stream = Stream(self, id, head, self.out.initial)
        taker = head.taker
        if not taker.whole:
            taker.begin(stream)
        if ended:
            self._end_body(stream, b"")

    def _trailers(self, id: int, ended: int, block: bytes) -> None:
        stream = self.streams.get(id)
        if not id & 1:
            raise Broken(Code.PROTOCOL_ERROR, "headers: clients begin streams of odd numbers")
        sound = self.heads.read_trailers(block)
        if stream is None:
            if id in self._ended_early:
                return
            raise Broken(Code.STREAM_CLOSED, "headers: of a stream that is closed")
        if stream.ended:
            raise Broken(Code.STREAM_CLOSED, "headers: after the end of the request", id)
        if not ended or not sound:
            raise Broken(Code.PROTOCOL_ERROR, "trailers: malformed", id)
        self._end_body(stream, b"")

    def _data(self, id: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        self._taken += size
        if self._taken > _WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "data: more than there is room for")
        if self._taken >= _WINDOW // 2:
            self.out.write(window_update(0, self._taken))
            self._taken = 0
        stream = self.streams.get(id)
        if stream is None:
            self._data_of_none(id, flags)
            return
        if stream.ended:
            raise Broken(Code.STREAM_CLOSED, "data: after the end of the request", id)
        if flags & PADDED:
            payload = _bare(flags & PADDED, payload)
        if flags & END_STREAM:
            self._end_body(stream, payload)
            return
        if len(payload) < _SMALL_BYTES:
            self.patience.bear()
        stream.received += len(payload)
        stream.taken += size
        if stream.taken > _STREAM_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "data: more than there is room for", id)
        if not stream.head.taker.whole:
            stream.head.taker.feed(stream, payload)
        else:
            self._collect(stream, payload)

    def _collect(self, stream: Stream, payload: bytes) -> None:
        """Keep a part of a body."""
        limits, desk = self.desk.settings, self.desk
        if stream.body is None:
            stream.body = bytearray()
        stream.body += payload
        self.hold(stream, len(payload))
        if stream.received > limits.max_body_bytes + 5:
            desk.too_large(stream, crowded=False)
        elif desk.body_bytes > limits.max_bodies_bytes:
            desk.too_large(stream, crowded=True)
        elif stream.taken >= _STREAM_WINDOW // 2:
            self.give_room(stream, stream.taken)

    def _end_body(self, stream: Stream, payload: bytes) -> None:
        stream.ended = True
        stream.received += len(payload)
        head = stream.head
        if head.length is not None and head.length != stream.received:
            raise Broken(Code.PROTOCOL_ERROR, "content-length: it is not the length of the body", stream.id)
        taker = head.taker
        if taker.whole:
            body = stream.body
            if body is not None:
                body += payload
                payload, stream.body = bytes(body), None
                self.hold(stream, -stream.held)
            if len(payload) > self.desk.settings.max_body_bytes + 5:
                self.desk.too_large(stream, crowded=False)
                return
            taker.take(stream, payload)
            return
        if payload:
            taker.feed(stream, payload)
        if not stream.closed:
            taker.end(stream)

    def _data_of_none(self, id: int, flags: int) -> None:
        """Data of a stream that is not open: one that was answered before its end may still send some."""
        if not id or (id > self.last and not (self.going and id > self.limit)):
            raise Broken(Code.PROTOCOL_ERROR, "data: of a stream that was not begun")
        self.patience.bear()
        if id in self._ended_early:
            return
        if not self.going:
            self.out.write(reset(id, Code.STREAM_CLOSED))

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
            self._ended_early.append(stream.id)
            self.out.write(reset(stream.id, Code.NO_ERROR))
        self._close(stream)
        if self.going and not self.streams:
            self.out.close()

    def refuse(self, id: int, code: Code) -> None:
        """End a stream for a fault of the client's."""
        self.patience.bear_reset()
        self.out.write(reset(id, code))
        self._ended_early.append(id)
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


def _bare(flags: int, payload: bytes) -> bytes:
    """Return a payload without padding and priority."""
    start = pad = 0
    if flags & PADDED:
        start, pad = 1, payload[0] if payload else 1
    if flags & PRIORITISED:
        start += 5
    if start + pad > len(payload):
        raise Broken(Code.PROTOCOL_ERROR, "frame: its padding is longer than it is")
    return payload[start : len(payload) - pad]
