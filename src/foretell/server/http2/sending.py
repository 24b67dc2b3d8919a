"""The way out of one connection: answers to frames, within the room the peer gives.

What goes out in one iteration of the event loop is one write. An answer that does not fit waits on its stream, and
goes out in turns of one frame as the peer makes room, and as the transport takes it. Decides nothing about what
comes in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from foretell.server.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LARGEST_WINDOW,
    LEAST_FRAME_BYTES,
    Broken,
    Code,
    pack_head,
)  # fmt: skip
from foretell.server.http2.stream import Stream
from foretell.server.http2.writing import Writing

__all__ = ["DEFAULT_WINDOW", "Sending"]

DEFAULT_WINDOW = 65535
_WHOLE = END_HEADERS | END_STREAM
_WRITTEN_BYTES = 1 << 16
"""With so many bytes collected they are written at once."""
_MOST_FRAME_BYTES = 1 << 16
"""The largest frame that is sent: turns between streams stay short."""


class Sending:
    """What goes out.

    Attributes:
        window: Bytes of data that may be sent on all streams together.
        initial: Bytes of data that may be sent on a new stream.
        paused: The transport has enough for now.
        sent: Bytes of data that went out, ever.
    """

    __slots__ = (
        "_collected",
        "_done",
        "_frame_bytes",
        "_parts",
        "_transport",
        "_waiting",
        "_writing",
        "initial",
        "paused",
        "sent",
        "window",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, done: Callable[[Stream], None], writing: Writing) -> None:
        self._transport = transport
        self._writing = writing
        self._parts: list[bytes] = []
        self._collected = 0
        self._done = done
        self._waiting: deque[Stream] = deque()
        self._frame_bytes = LEAST_FRAME_BYTES
        self.window = self.initial = DEFAULT_WINDOW
        self.paused = False
        self.sent = 0

    @property
    def waits(self) -> bool:
        """Whether answers wait for room."""
        return bool(self._waiting)

    def write(self, data: bytes) -> None:
        """Send frames, with all others of this iteration of the loop."""
        if not self._parts:
            self._writing.add(self)
        self._parts.append(data)
        self._collected += len(data)
        if self._collected >= _WRITTEN_BYTES:
            self.flush()

    def flush(self) -> None:
        """Give the transport what was collected."""
        parts = self._parts
        if parts:
            self._parts, self._collected = [], 0
            if not self._transport.is_closing():
                self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def let_go(self) -> None:
        """Let go of everybody: the connection is lost."""
        self._done = _forgotten
        self._waiting.clear()

    def close(self) -> None:
        """Close the connection, after what was sent."""
        self.flush()
        self._transport.close()

    def answer(self, stream: Stream, head: bytes, data: bytes, trailers: bytes) -> None:
        """Send a whole answer: two header blocks and what is between them."""
        size, id = len(data), stream.id
        if size > self.window or size > stream.window or size > self._frame_bytes or self.paused:
            self.begin(stream, head)
            self.send(stream, data)
            self.finish(stream, trailers)
            return
        self.window -= size
        self.write(
            b"".join(
                (
                    pack_head(len(head) << 8 | HEADERS, END_HEADERS, id), head,
                    pack_head(size << 8 | DATA, 0, id), data,
                    pack_head(len(trailers) << 8 | HEADERS, _WHOLE, id), trailers,
                )
            )
        )  # fmt: skip
        self._done(stream)

    def begin(self, stream: Stream, head: bytes, *, ends: bool = False) -> None:
        """Send the block an answer begins with; with `ends` it is all of it."""
        flags = _WHOLE if ends else END_HEADERS
        self.write(pack_head(len(head) << 8 | HEADERS, flags, stream.id) + head)
        if ends:
            self._done(stream)

    def send(self, stream: Stream, data: bytes) -> None:
        """Send data, now or when there is room."""
        if stream.outbox:
            stream.outbox += data
            return
        size = len(data)
        if size <= min(self.window, stream.window, self._frame_bytes) and not self.paused:
            self.window -= size
            stream.window -= size
            self.sent += size
            self.write(pack_head(size << 8 | DATA, 0, stream.id) + data)
            return
        stream.outbox = bytearray(data)
        self._waiting.append(stream)
        self.pump()

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """Send the block that ends an answer, after its data."""
        if stream.outbox:
            stream.trailers = trailers
            return
        self.write(pack_head(len(trailers) << 8 | HEADERS, _WHOLE, stream.id) + trailers)
        self._done(stream)

    def forget(self, stream: Stream) -> None:
        """Send nothing more of an answer."""
        if stream.outbox:
            self._waiting.remove(stream)
            stream.outbox = None

    def pump(self) -> None:
        """Send what there is room for, a frame of each stream in turn."""
        waiting, blocked = self._waiting, 0
        while blocked < len(waiting) and self.window > 0 and not self.paused:
            stream = waiting[0]
            outbox = stream.outbox
            size = min(self.window, stream.window, self._frame_bytes, len(outbox or b""))
            if outbox is None or size <= 0:
                waiting.rotate(-1)
                blocked += 1
                continue
            blocked = 0
            self.window -= size
            stream.window -= size
            self.sent += size
            self.write(pack_head(size << 8 | DATA, 0, stream.id) + outbox[:size])
            del outbox[:size]
            if outbox:
                waiting.rotate(-1)
            else:
                waiting.popleft()
                self._emptied(stream)

    def _emptied(self, stream: Stream) -> None:
        stream.outbox = None
        if stream.trailers is not None:
            self.finish(stream, stream.trailers)
        elif stream.on_room is not None:
            stream.on_room()

    # What the peer says.

    def widen(self, increment: int) -> None:
        """Enter that the peer takes so many bytes more in all."""
        self.window += increment
        if self.window > LARGEST_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "window update: the window is larger than 2^31-1")
        if self._waiting:
            self.pump()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """Enter that the peer takes so many bytes more on a stream."""
        stream.window += increment
        if stream.window > LARGEST_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "window update: the window is larger than 2^31-1", stream.id)
        if stream.outbox:
            self.pump()

    def set_initial(self, size: int, streams: Iterable[Stream]) -> None:
        """Enter how many bytes the peer takes on each stream from its beginning; open ones change by as much."""
        change = size - self.initial
        self.initial = size
        for stream in list(streams):
            stream.window += change
            if stream.window > LARGEST_WINDOW:
                raise Broken(Code.FLOW_CONTROL_ERROR, "settings: a window is larger than 2^31-1")
        if change > 0 and self._waiting:
            self.pump()

    def set_frame_bytes(self, size: int) -> None:
        """Enter how large a frame the peer takes."""
        self._frame_bytes = min(size, _MOST_FRAME_BYTES)


def _forgotten(_stream: Stream) -> None:
    """Stand in for whom to tell of a stream that is done."""
