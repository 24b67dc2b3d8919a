"""What is seldom: the greeting, the frames that are neither data nor headers, and clients that are too slow."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from foretell.server.http2.frames import (
    ACK,
    GOAWAY,
    LARGEST_WINDOW,
    LEAST_FRAME_BYTES,
    MOST_FRAME_BYTES,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Broken,
    Code,
    Setting,
    frame,
    settings,
    window_update,
)  # fmt: skip
from foretell.server.http2.incoming import MOST_STREAMS, STREAM_WINDOW, WINDOW
from foretell.server.http2.sending import DEFAULT_WINDOW
from foretell.server.settings import ServerSettings

if TYPE_CHECKING:
    from foretell.server.http2.connection import Connection

__all__ = ["check", "greeting", "receive"]

_GRACE_S = 5.0
_SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_OF_CONNECTION = frozenset((SETTINGS, PING, GOAWAY))
_OF_STREAM = frozenset((PRIORITY, RST_STREAM))
_SETTINGS_EACH = 8
_LEAST_INCREMENT = 1024


def greeting(limits: ServerSettings) -> bytes:
    """Return what the server says first: what it takes."""
    said = {
        Setting.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        Setting.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
    }
    return settings(said) + window_update(0, WINDOW - DEFAULT_WINDOW)


def receive(connection: Connection, kind: int, id: int, flags: int, payload: bytes) -> None:
    """Take a frame that is neither data nor headers.

    Raises:
        Broken: It is against the rules, or one too many.
    """
    size = _SIZES.get(kind)
    if size is not None and len(payload) != size:
        # A wrong PRIORITY ends its stream alone, but it does not matter here which: whoever sends it is broken.
        raise Broken(Code.FRAME_SIZE_ERROR, "frame: it has not the length of its kind")
    if (id and kind in _OF_CONNECTION) or (not id and kind in _OF_STREAM):
        raise Broken(Code.PROTOCOL_ERROR, "frame: of a stream, or of none, against the rules")
    if kind == WINDOW_UPDATE:
        _update_window(connection, id, int.from_bytes(payload, "big") & LARGEST_WINDOW)
    elif kind == SETTINGS:
        _set(connection, flags, payload)
    elif kind == PING:
        _ping(connection, flags, payload)
    elif kind == RST_STREAM:
        _reset(connection, id)
    elif kind == PUSH_PROMISE:
        raise Broken(Code.PROTOCOL_ERROR, "push promise: clients make none")
    else:
        # The client goes away, ranks its requests, or says what is not known here: nothing follows from it.
        connection.patience.bear()


def _update_window(connection: Connection, id: int, increment: int) -> None:
    if increment < _LEAST_INCREMENT or not connection.out.waits:
        connection.patience.bear()
    if not id:
        if not increment:
            raise Broken(Code.PROTOCOL_ERROR, "window update: of 0")
        connection.out.widen(increment)
        return
    if id > connection.last and not connection.going:
        raise Broken(Code.PROTOCOL_ERROR, "window update: of a stream that was not begun")
    stream = connection.streams.get(id)
    if stream is None:
        return
    if not increment:
        raise Broken(Code.PROTOCOL_ERROR, "window update: of 0", id)
    connection.out.widen_stream(stream, increment)


def _set(connection: Connection, flags: int, payload: bytes) -> None:
    if len(payload) % 6 or (flags & ACK and payload):
        raise Broken(Code.FRAME_SIZE_ERROR, "settings: they have not the length of some")
    if flags & ACK:
        connection.patience.bear()
        return
    connection.patience.bear(1 + len(payload) // 6 // _SETTINGS_EACH)
    for name, value in struct.iter_unpack(">HI", payload):
        if name == Setting.ENABLE_PUSH and value > 1:
            raise Broken(Code.PROTOCOL_ERROR, "settings: ENABLE_PUSH is neither 0 nor 1")
        if name == Setting.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise Broken(Code.FLOW_CONTROL_ERROR, "settings: INITIAL_WINDOW_SIZE is larger than 2^31-1")
            connection.out.set_initial(value, connection.streams.values())
        elif name == Setting.MAX_FRAME_SIZE:
            if not LEAST_FRAME_BYTES <= value <= MOST_FRAME_BYTES:
                raise Broken(Code.PROTOCOL_ERROR, "settings: MAX_FRAME_SIZE is out of range")
            connection.out.set_frame_bytes(value)
    connection.out.write(frame(SETTINGS, ACK, 0))


def _ping(connection: Connection, flags: int, payload: bytes) -> None:
    connection.patience.bear()
    if flags & ACK:
        connection.pinged = False
    else:
        connection.out.write(frame(PING, ACK, 0, payload))


def _reset(connection: Connection, id: int) -> None:
    if id > connection.last and not connection.going:
        raise Broken(Code.PROTOCOL_ERROR, "reset: of a stream that was not begun")
    stream = connection.streams.get(id)
    if stream is None:
        connection.patience.bear()
    else:
        connection.taken_back(stream)


def check(connection: Connection, now: float) -> None:
    """Cut off a client that is too slow, or gone; called every second or so."""
    limits, out, transport = connection.desk.settings, connection.out, connection.transport
    if connection.ending or transport.is_closing():
        return
    connection.patience.check(now)
    if connection.chunks != connection.chunks_then:
        connection.chunks_then, connection.heard, connection.pinged = connection.chunks, now, False
    if out.waits and not connection.stalled_since:
        connection.stalled_since, connection.sent_then = now, out.sent
    elif connection.stalled_since and not out.paused and (not out.waits or out.sent != connection.sent_then):
        connection.stalled_since = 0.0
    silent_s = now - connection.heard
    if (connection.stalled_since and now - connection.stalled_since > limits.write_s) or (
        not connection.greeted and now - connection.since > limits.headers_s
    ):
        transport.abort()
    elif connection.incoming.block is not None and now - connection.since > limits.headers_s:
        connection.end(Code.ENHANCE_YOUR_CALM, "headers: they came too slowly")
    elif silent_s > limits.idle_s:
        _look_for(connection, silent_s - limits.idle_s)
    _hurry(connection, now)


def _look_for(connection: Connection, over_s: float) -> None:
    """Close a connection that is not used; where a stream is open, ask whether the client is still there."""
    if not connection.streams:
        if connection.going:
            connection.out.close()
        else:
            connection.say_goodbye()
    elif not connection.pinged:
        connection.pinged = True
        connection.out.write(frame(PING, 0, 0, b"foretell"))
    elif over_s > connection.desk.settings.headers_s:
        connection.transport.abort()


def _hurry(connection: Connection, now: float) -> None:
    """Refuse the requests whose bodies come too slowly."""
    limits = connection.desk.settings
    for stream in list(connection.streams.values()):
        # A stream without end owes nothing between its messages; one that is held in part owes the rest.
        if stream.ended or (not stream.head.taker.whole and not stream.held):
            stream.since = 0.0
            continue
        if not stream.since:
            stream.since = now
        waited_s = now - stream.since
        too_few = waited_s > _GRACE_S and stream.received < limits.min_body_rate * waited_s
        if waited_s > limits.body_s or too_few:
            connection.desk.too_slow(stream)
