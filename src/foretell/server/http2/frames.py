"""Frames of HTTP/2 (RFC 9113) as bytes, the codes of its errors, and the two ways in which something is broken."""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = [
    "ACK", "CONTINUATION", "DATA", "END_HEADERS", "END_STREAM", "GOAWAY", "HEADERS", "HEAD_BYTES", "LARGEST_WINDOW",
    "LEAST_FRAME_BYTES", "MOST_FRAME_BYTES", "PADDED", "PING", "PREFACE", "PRIORITISED", "PRIORITY", "PUSH_PROMISE",
    "RST_STREAM", "SETTINGS", "WINDOW_UPDATE", "Broken", "Code", "Setting", "frame", "goaway", "pack_head", "reset",
    "settings", "unpack_head", "window_update",
]  # fmt: skip

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

HEAD_BYTES = 9
LARGEST_WINDOW = (1 << 31) - 1
LEAST_FRAME_BYTES = 1 << 14
"""What every peer takes, and the most that is taken here."""
MOST_FRAME_BYTES = (1 << 24) - 1

_HEAD = struct.Struct(">IBI")
pack_head = _HEAD.pack
"""Of length << 8 | kind, flags, stream."""
unpack_head = _HEAD.unpack_from


class Code(IntEnum):
    """Why a stream or a connection ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """Names of settings."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Broken(Exception):
    """The peer broke the rules: the stream ends, or with stream 0 the connection."""

    def __init__(self, code: Code, why: str, stream: int = 0) -> None:
        super().__init__(why)
        self.code = code
        self.stream = stream


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return pack_head(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """Return a frame that lets the peer send so many bytes more."""
    return pack_head(4 << 8 | WINDOW_UPDATE, 0, stream) + increment.to_bytes(4, "big")


def reset(stream: int, code: Code) -> bytes:
    """Return a frame that ends a stream."""
    return pack_head(4 << 8 | RST_STREAM, 0, stream) + code.to_bytes(4, "big")


def goaway(last_stream: int, code: Code, why: str = "") -> bytes:
    """Return a frame that ends a connection; streams after `last_stream` were not looked at."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + why.encode("ascii", "replace")[:128])
