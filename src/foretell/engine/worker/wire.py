"""The worker's end of its socket: one frame after another, blocking, so that a worker without work sleeps."""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Sequence
from typing import Protocol

from foretell.engine.worker.frames import PACKET_BYTES, FrameBroken, Part, Place

__all__ = ["MOST_FRAME_BYTES", "PREFIX", "PacketWire", "StreamWire", "Wire"]

PREFIX = struct.Struct("<Q")
"""Before each frame in a stream: its bytes."""
MOST_FRAME_BYTES = 1 << 30


class Wire(Protocol):
    """Receives and sends whole frames."""

    def receive(self) -> tuple[Place, int]:
        """Return the next frame and its bytes, 0 once the other side has closed. Valid until the next call."""
        ...

    def send(self, parts: Sequence[Part]) -> None:
        """Send a frame given in parts."""
        ...


class PacketWire:
    """SOCK_SEQPACKET: the kernel keeps frames apart."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send = sock.sendmsg
        self._receive = sock.recv_into
        # Whole pages: tensors in it are aligned as they were laid out.
        self._buffer = mmap.mmap(-1, PACKET_BYTES)

    def receive(self) -> tuple[Place, int]:
        """Return the next frame; see `Wire`."""
        return self._buffer, self._receive(self._buffer)

    def send(self, parts: Sequence[Part]) -> None:
        """Send a frame; see `Wire`."""
        self._send(parts)


class StreamWire:
    """SOCK_STREAM, where there is nothing better: each frame has its length before it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = mmap.mmap(-1, PACKET_BYTES)

    def receive(self) -> tuple[Place, int]:
        """Return the next frame; see `Wire`."""
        prefix = bytearray(PREFIX.size)
        if not self._fill(memoryview(prefix)):
            return self._buffer, 0
        (length,) = PREFIX.unpack(prefix)
        if length > MOST_FRAME_BYTES:
            raise FrameBroken(f"a frame of {length} bytes, at most {MOST_FRAME_BYTES} expected")
        if length > len(self._buffer):
            self._buffer = mmap.mmap(-1, length)
        whole = self._fill(memoryview(self._buffer)[:length])
        return self._buffer, length if whole else 0

    def send(self, parts: Sequence[Part]) -> None:
        """Send a frame; see `Wire`."""
        content = b"".join(parts)
        self._sock.sendall(PREFIX.pack(len(content)) + content)

    def _fill(self, view: memoryview) -> bool:
        """Read until the view is full; False if the stream ends before."""
        while len(view):
            got = self._sock.recv_into(view)
            if got == 0:
                return False
            view = view[got:]
        return True
