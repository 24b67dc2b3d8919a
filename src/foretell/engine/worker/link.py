"""The front's end of a worker's socket: whole frames, never blocking the event loop. Knows no tensor."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from foretell.engine.worker.frames import PACKET_BYTES, FrameBroken, Part, Place
from foretell.engine.worker.wire import MOST_FRAME_BYTES, PREFIX

__all__ = ["Link", "PacketLink", "StreamLink"]

OnFrame = Callable[[Place, int], None]
_READ_BYTES = 1 << 18


class Link(Protocol):
    """Sends whole frames, and reports those that come."""

    def send(self, parts: Sequence[Part]) -> None:
        """Send a frame given in parts, now or as soon as the socket takes it."""
        ...

    def drain(self) -> None:
        """Report what still lies in the socket of a worker that has ended."""
        ...

    def finish(self) -> None:
        """Let the worker know that nothing more will come."""
        ...

    def close(self) -> None:
        """Close the socket. Nothing is reported any more. Idempotent."""
        ...


class _Socket:
    """What both kinds of link share: a socket, its two watchers, and what waits to be sent."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_frame: OnFrame, on_end: Callable[[], None]
    ) -> None:
        self._loop, self._sock = loop, sock
        self._on_frame, self._on_end = on_frame, on_end
        self._waiting: deque[bytes | memoryview] = deque()
        self._open = self._reading = True
        self._sendmsg, self._receive = sock.sendmsg, sock.recv_into
        loop.add_reader(sock.fileno(), self._read)

    def finish(self) -> None:
        """Let the worker know that nothing more will come."""
        with suppress(OSError):  # it has gone already
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._end_reading()
        self._loop.remove_writer(self._sock.fileno())
        self._waiting.clear()
        self._sock.close()

    def drain(self) -> None:
        """Report what still lies in the socket."""
        while self._open and self._reading:
            if not self._read():
                return

    def _read(self) -> bool:
        raise NotImplementedError

    def _write(self) -> None:
        raise NotImplementedError

    def _wait_to_write(self) -> None:
        self._loop.add_writer(self._sock.fileno(), self._write)

    def _nothing_waits(self) -> None:
        self._loop.remove_writer(self._sock.fileno())

    def _end_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _ended(self) -> bool:
        if self._reading:
            self._end_reading()
            self._on_end()
        return False


class PacketLink(_Socket):
    """SOCK_SEQPACKET: the kernel keeps frames apart."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_frame: OnFrame, on_end: Callable[[], None]
    ) -> None:
        self._buffer = bytearray(PACKET_BYTES)
        super().__init__(loop, sock, on_frame, on_end)

    def send(self, parts: Sequence[Part]) -> None:
        """Send a frame; see `Link`."""
        if self._waiting:
            self._waiting.append(b"".join(parts))
            return
        try:
            self._sendmsg(parts)
        except BlockingIOError:
            self._waiting.append(b"".join(parts))
            self._wait_to_write()
        except OSError:
            pass  # the worker has gone; its end is reported by what watches it

    def _write(self) -> None:
        try:
            while self._waiting:
                self._sock.send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._waiting.clear()
        self._nothing_waits()

    def _read(self) -> bool:
        try:
            length = self._receive(self._buffer)
        except BlockingIOError:
            return False
        except OSError:
            return self._ended()
        if length == 0:
            return self._ended()
        self._on_frame(self._buffer, length)
        return True


class StreamLink(_Socket):
    """SOCK_STREAM: each frame has its length before it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_frame: OnFrame, on_end: Callable[[], None]
    ) -> None:
        self._buffer = bytearray(_READ_BYTES)
        self._have = 0
        super().__init__(loop, sock, on_frame, on_end)

    def send(self, parts: Sequence[Part]) -> None:
        """Send a frame; see `Link`."""
        content = b"".join(parts)
        idle = not self._waiting
        self._waiting.append(memoryview(PREFIX.pack(len(content)) + content))
        if idle:
            self._write()
            if self._waiting:
                self._wait_to_write()

    def _write(self) -> None:
        try:
            while self._waiting:
                sent = self._sock.send(self._waiting[0])
                if sent == len(self._waiting[0]):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = memoryview(self._waiting[0])[sent:]
        except BlockingIOError:
            return
        except OSError:
            self._waiting.clear()
        self._nothing_waits()

    def _read(self) -> bool:
        try:
            got = self._receive(memoryview(self._buffer)[self._have :])
        except BlockingIOError:
            return False
        except OSError:
            return self._ended()
        if got == 0:
            return self._ended()
        self._have += got
        try:
            self._take_frames()
        except FrameBroken:
            self._on_frame(self._buffer, 0)  # as good as none: whoever takes it ends the worker
            return False
        return True

    def _take_frames(self) -> None:
        at = 0
        while self._have - at >= PREFIX.size:
            (length,) = PREFIX.unpack_from(self._buffer, at)
            if length > MOST_FRAME_BYTES:
                raise FrameBroken(f"a frame of {length} bytes, at most {MOST_FRAME_BYTES} expected")
            start = at + PREFIX.size
            if self._have - start < length:
                self._make_room(at, PREFIX.size + length)
                return
            at = start + length
            self._on_frame(memoryview(self._buffer)[start:at], length)
            if not self._open:
                return
        self._make_room(at, 0)

    def _make_room(self, at: int, wanted: int) -> None:
        """Move what is left to the start, and let the buffer grow with what came, not with what was announced."""
        size = max(_READ_BYTES, min(wanted, 2 * self._have))
        if at == 0 and size <= len(self._buffer):
            return
        rest = self._buffer[at : self._have]
        if size != len(self._buffer):
            self._buffer = bytearray(size)
        self._buffer[: len(rest)] = rest
        self._have = len(rest)
