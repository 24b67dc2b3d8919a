"""Requests of one HTTP/2 connection, from their frames: heads, bodies, and the room that is given for them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from foretell.server.bodies import JOINED_BYTES, Body
from foretell.server.http2.frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITISED,
    Broken,
    Code,
    reset,
    window_update,
)  # fmt: skip
from foretell.server.http2.heads import Heads
from foretell.server.http2.stream import Stream

if TYPE_CHECKING:
    from foretell.server.http2.connection import Connection

__all__ = ["MOST_STREAMS", "STREAM_WINDOW", "WINDOW", "Incoming"]

MOST_STREAMS = 256
WINDOW = 16 << 20
"""Bytes of all bodies that a client may send before it is given room again."""
STREAM_WINDOW = 1 << 20
_SMALL_BYTES = 256
_CONTINUATIONS = 16


class Incoming:
    """What comes in.

    Attributes:
        block: A header block whose end is yet to come.
    """

    __slots__ = ("_block_flags", "_block_parts", "_block_stream", "_connection", "_heads", "_taken", "block")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        limits = connection.desk.settings
        self._heads = Heads(limits.max_header_bytes, limits.max_headers, connection.desk.taker)
        self._taken = 0
        self.block: bytearray | None = None
        self._block_stream = self._block_flags = self._block_parts = 0

    def headers(self, id: int, flags: int, payload: bytes) -> None:
        """Take a HEADERS frame.

        Raises:
            Broken: It is against the rules, as are those of the two others.
        """
        if flags & (PADDED | PRIORITISED):
            payload = _bare(flags, payload)
        if not id:
            raise Broken(Code.PROTOCOL_ERROR, "headers: they are of no stream")
        if flags & END_HEADERS:
            self._request(id, flags & END_STREAM, payload)
            return
        self.block, self._block_stream, self._block_flags, self._block_parts = bytearray(payload), id, flags, 0
        self._connection.since = self._connection.loop.time()

    def go_on(self, id: int, flags: int, payload: bytes) -> None:
        """Take a CONTINUATION frame."""
        block = self.block
        if block is None or id != self._block_stream:
            raise Broken(Code.PROTOCOL_ERROR, "continuation: of no headers")
        self._block_parts += 1
        block += payload
        if self._block_parts > _CONTINUATIONS or len(block) > self._connection.desk.settings.max_header_bytes:
            raise Broken(Code.ENHANCE_YOUR_CALM, "headers: too large")
        if flags & END_HEADERS:
            self.block = None
            self._request(id, self._block_flags & END_STREAM, bytes(block))

    def _request(self, id: int, ended: int, block: bytes) -> None:
        """Begin a request, or end one with trailers."""
        connection = self._connection
        if id <= connection.last or not id & 1:
            self._trailers(id, ended, block)
            return
        head = self._heads.known.get(block) or self._heads.read(block)
        if connection.going and id > connection.limit:
            return
        connection.last = id
        if head is None:
            raise Broken(Code.PROTOCOL_ERROR, "headers: malformed", id)
        if len(connection.streams) >= MOST_STREAMS:
            raise Broken(Code.REFUSED_STREAM, "streams: too many", id)
        connection.streams[id] = stream = Stream(connection, id, head, connection.out.initial)
        stream.ended = bool(ended)
        taker = head.taker
        if not taker.whole:
            taker.begin(stream)
        if ended and not stream.closed:
            self._end_body(stream, b"")

    def _trailers(self, id: int, ended: int, block: bytes) -> None:
        stream = self._connection.streams.get(id)
        if not id & 1:
            raise Broken(Code.PROTOCOL_ERROR, "headers: clients begin streams of odd numbers")
        sound = self._heads.read_trailers(block)
        if stream is None:
            if id in self._connection.ended_early:
                return
            raise Broken(Code.STREAM_CLOSED, "headers: of a stream that is closed")
        if stream.ended:
            raise Broken(Code.STREAM_CLOSED, "headers: after the end of the request", id)
        if not ended or not sound:
            raise Broken(Code.PROTOCOL_ERROR, "trailers: malformed", id)
        self._end_body(stream, b"")

    def data(self, id: int, flags: int, payload: bytes) -> None:
        """Take a DATA frame."""
        connection, size = self._connection, len(payload)
        self._taken += size
        if self._taken >= WINDOW // 2:
            if self._taken > WINDOW:
                raise Broken(Code.FLOW_CONTROL_ERROR, "data: more than there is room for")
            connection.out.write(window_update(0, self._taken))
            self._taken = 0
        stream = connection.streams.get(id)
        if stream is None:
            self._data_of_none(id)
            return
        if stream.ended:
            raise Broken(Code.STREAM_CLOSED, "data: after the end of the request", id)
        if flags & PADDED:
            payload = _bare(flags & PADDED, payload)
        if flags & END_STREAM:
            self._end_body(stream, payload)
            return
        if len(payload) < _SMALL_BYTES:
            connection.patience.bear()
        stream.received += len(payload)
        stream.taken += size
        if stream.taken > STREAM_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "data: more than there is room for", id)
        if not stream.head.taker.whole:
            stream.head.taker.feed(stream, payload)
        else:
            self._collect(stream, payload)

    def _collect(self, stream: Stream, payload: bytes) -> None:
        """Keep a part of a body."""
        connection = self._connection
        desk, limits = connection.desk, connection.desk.settings
        if stream.body is None:
            stream.body = Body()
        stream.body.add(payload)
        connection.hold(stream, len(payload))
        if stream.received > limits.max_body_bytes + 5:
            desk.too_large(stream, crowded=False)
        elif desk.body_bytes > limits.max_bodies_bytes:
            desk.too_large(stream, crowded=True)
        elif stream.taken >= STREAM_WINDOW // 2:
            connection.give_room(stream, stream.taken)

    def _end_body(self, stream: Stream, payload: bytes) -> None:
        stream.ended = True
        stream.received += len(payload)
        head = stream.head
        if head.length is not None and head.length != stream.received:
            raise Broken(Code.PROTOCOL_ERROR, "content-length: it is not the length of the body", stream.id)
        taker = head.taker
        if taker.whole:
            self._take_whole(stream, payload)
            return
        if payload:
            taker.feed(stream, payload)
        if not stream.closed:
            taker.end(stream)

    def _take_whole(self, stream: Stream, payload: bytes) -> None:
        """Hand on a body that is complete, `payload` being the last of it."""
        connection, body, stream.body = self._connection, stream.body, None
        if body is not None:
            connection.hold(stream, -stream.held)
        if stream.received > connection.desk.settings.max_body_bytes + 5:
            connection.desk.too_large(stream, crowded=False)
        elif body is None:
            stream.head.taker.take(stream, payload)
        else:
            body.add(payload)
            if body.size <= JOINED_BYTES:
                stream.head.taker.take(stream, b"".join(body.parts()))
                return
            joining = connection.loop.run_in_executor(None, b"".join, body.parts())
            stream.cancel = joining.cancel
            joining.add_done_callback(partial(_joined, stream))

    def _data_of_none(self, id: int) -> None:
        """Data of a stream that is not open: one that was answered before its end may still send some."""
        connection = self._connection
        if not id or (id > connection.last and not connection.going):
            raise Broken(Code.PROTOCOL_ERROR, "data: of a stream that was not begun")
        connection.patience.bear()
        if id not in connection.ended_early and not connection.going:
            connection.out.write(reset(id, Code.STREAM_CLOSED))


def _joined(stream: Stream, joining: asyncio.Future[bytes]) -> None:
    if not joining.cancelled() and not stream.closed:
        stream.cancel = None
        stream.head.taker.take(stream, joining.result())


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
