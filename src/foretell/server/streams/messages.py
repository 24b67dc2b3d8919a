"""Frames of RFC 6455 to whole messages and back. Knows no socket and no time.

The framing is that of the library `websockets`, whose `Protocol` does no input or output by itself: it is kept up with
care, unmasks in C, and tells a broken peer with the right code. No extension is agreed to: pictures are compressed
already, and compressed messages can be bombs.
"""

from __future__ import annotations

import logging
from typing import NamedTuple, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, SEND_EOF, SERVER, Protocol

from foretell.request import Parts
from foretell.server.streams.fragments import FRAGMENT_BYTES, Fragments

__all__ = ["Message", "Messages"]

_LOG = logging.getLogger("foretell.server.websocket")


class Message(NamedTuple):
    """A whole message."""

    content: bytes | Parts
    """Of text always bytes."""
    is_text: bool


class Messages:
    """The messages of one client, both ways.

    Attributes:
        frames: Read so far, whole ones.
        has_left: The client has closed.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start before the first frame; a message is of at most so many bytes."""
        self._framing = Protocol(SERVER, max_size=max_bytes, logger=_LOG)
        self._fragments = Fragments(max_bytes)
        self._parts: list[bytes] = []
        """Of a message in fragments, what has come. It is never joined if it is long: each copy takes its time."""
        self._small = bytearray()
        """Fragments behind those, too small to be parts of their own."""
        self._is_text = False
        self.frames = 0
        self.has_left = False

    @property
    def received_bytes(self) -> int:
        """Bytes that have come of a message, or a frame, that is not whole; 0: there is none."""
        return self._fragments.received_bytes

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._framing.state is OPEN

    def read(self, piece: memoryview) -> list[Message]:
        """Take what has come, and return the messages that are whole now."""
        framing = self._framing
        framing.receive_data(self._fragments.read(piece))
        events = framing.events_received()
        self.frames += len(events)
        found: list[Message] = []
        for event in events:
            message = self._joined(cast("Frame", event))
            if message is not None and self.is_open:
                found.append(message)
        return found

    def read_end(self) -> None:
        """Take it that nothing more comes."""
        self._framing.receive_eof()

    def send(self, text: bytes) -> None:
        """Send a message; nothing is sent once one side has closed."""
        if self.is_open:
            self._framing.send_text(text)

    def ping(self) -> None:
        """Ask whether the client is there."""
        self._framing.send_ping(b"")

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin to close; the client is to answer. The reason has at most 120 bytes."""
        if self.is_open:
            self._framing.send_close(code, reason)

    def fail(self, code: CloseCode, reason: str) -> None:
        """Close at once."""
        self._framing.fail(code, reason)

    def outgoing(self) -> tuple[bytes, bool]:
        """Return what is to be written, and whether the connection is to end after it."""
        parts = self._framing.data_to_send()
        return b"".join(parts), bool(parts) and parts[-1] == SEND_EOF

    def let_go(self) -> None:
        """Break the circle in which the parser holds itself, with the bytes it has not read."""
        self._framing.parser.close()
        self._taken()

    def _joined(self, frame: Frame) -> Message | None:
        """Return the message that ends with a frame."""
        if frame.opcode is Opcode.CLOSE:
            self.has_left = True
        elif frame.opcode in (Opcode.CONT, Opcode.TEXT, Opcode.BINARY):
            is_first = frame.opcode is not Opcode.CONT
            if is_first:
                self._is_text = frame.opcode is Opcode.TEXT
            if is_first and frame.fin:
                return self._checked(bytes(frame.data), self._is_text)
            self._append(frame.data)
            if frame.fin:
                parts = self._taken()
                is_long = not self._is_text and sum(map(len, parts)) > FRAGMENT_BYTES
                return self._checked(Parts(parts) if is_long else b"".join(parts), self._is_text)
        return None

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        """Take a fragment; small ones are joined, however many there are."""
        if len(data) < FRAGMENT_BYTES // 2:
            self._small += data
            if len(self._small) < FRAGMENT_BYTES:
                return
            data = b""
        self._end_small()
        if data:
            self._parts.append(bytes(data))

    def _end_small(self) -> None:
        if self._small:
            self._parts.append(bytes(self._small))
            self._small.clear()

    def _taken(self) -> list[bytes]:
        """Return the parts, and begin anew."""
        self._end_small()
        parts, self._parts = self._parts, []
        return parts

    def _checked(self, content: bytes | Parts, is_text: bool) -> Message | None:
        if is_text:
            try:
                bytes(content).decode()  # the same object: a text never comes in parts
            except UnicodeDecodeError:
                self.fail(CloseCode.INVALID_DATA, "message: its text is not UTF-8")
                return None
        return Message(content, is_text)
