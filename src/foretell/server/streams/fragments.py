"""Long frames of RFC 6455 become fragments on their way to the parser, which takes a frame only when it is whole.

A frame of some megabytes would then be unmasked and copied at once, and nobody else be answered meanwhile. The payload
is passed on as it comes: a fragment has the mask of its frame, since its length is a multiple of the mask's. Knows no
message; all that is no long frame of data is passed on as it is, and whatever is wrong with it is found by the parser.
"""

from __future__ import annotations

import struct

__all__ = ["FRAGMENT_BYTES", "Fragments"]

FRAGMENT_BYTES = 1 << 16
_FIN, _DATA, _MASKED, _LENGTH = 0x80, (0, 1, 2), 0x80, 0x7F
_CONTINUATION = 0
_KEY_BYTES = 4


class Fragments:
    """What one client sends, with its long frames in fragments."""

    def __init__(self, max_bytes: int) -> None:
        """Start before the first frame; where a message gets longer than so many bytes, the parser is to see that."""
        self._max_bytes = max_bytes
        self._head = bytearray()
        """Of a frame whose header is not whole."""
        self._key = b""
        self._fin = 0
        self._is_data = False
        self._payload = 0
        """What is still to come of the frame."""
        self._fragment = 0
        """What is still to come of the fragment, which is all of a frame that is not long."""
        self._message_bytes = 0
        """Of the message that is not whole, with all of the frame that is coming."""

    @property
    def received_bytes(self) -> int:
        """Bytes that have come of a message, or a frame, that is not whole; 0: there is none."""
        to_come = self._payload if self._is_data else 0
        return self._message_bytes - to_come + len(self._head) + (self._payload > 0)

    def read(self, piece: memoryview) -> bytes:
        """Take what has come, and return what the parser is to get."""
        if len(piece) < self._fragment:  # as most of a long frame is
            self._payload -= len(piece)
            self._fragment -= len(piece)
            return bytes(piece)
        found = bytearray()
        while piece:
            if self._fragment:
                taken = piece[: self._fragment]
                found += taken
                piece = piece[len(taken) :]
                self._payload -= len(taken)
                self._fragment -= len(taken)
            elif self._payload:
                found += self._next_fragment(_CONTINUATION)
            else:
                piece = self._read_head(piece, found)
            if not self._payload and self._is_data and self._fin:
                self._message_bytes = 0
        return bytes(found)

    def _read_head(self, piece: memoryview, found: bytearray) -> memoryview:
        """Add one byte after the other to the header until it is whole; return what is behind."""
        head = self._head
        for at, byte in enumerate(piece):
            head.append(byte)
            if len(head) >= 2 and len(head) == _head_bytes(head[1]):
                found += self._begun(bytes(head))
                head.clear()
                return piece[at + 1 :]
        return piece[:0]

    def _begun(self, head: bytes) -> bytes:
        """Begin a frame; return the header that the parser gets."""
        short = head[1] & _LENGTH
        length = short if short < 126 else int.from_bytes(head[2 : 4 if short == 126 else 10])
        opcode = head[0] & ~_FIN
        self._payload = self._fragment = length
        self._is_data = opcode in _DATA
        if not self._is_data:
            return head
        self._fin, self._key = head[0] & _FIN, head[-_KEY_BYTES:]
        self._message_bytes = length + (self._message_bytes if opcode == _CONTINUATION else 0)
        is_long = length > FRAGMENT_BYTES and self._message_bytes <= self._max_bytes
        return self._next_fragment(opcode) if is_long and head[1] & _MASKED else head

    def _next_fragment(self, opcode: int) -> bytes:
        self._fragment = min(self._payload, FRAGMENT_BYTES)
        is_last = self._fragment == self._payload
        length = struct.pack("!BQ", _MASKED | 127, self._fragment)
        return bytes([opcode | (self._fin if is_last else 0)]) + length + self._key


def _head_bytes(second: int) -> int:
    short = second & _LENGTH
    return 2 + {126: 2, 127: 8}.get(short, 0) + (_KEY_BYTES if second & _MASKED else 0)
