"""gRPC over HTTP/2: what the fields of a head mean, how messages are framed, which blocks end a call.

Knows no route and no engine.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

from foretell.errors import ForetellError, RequestTooLarge
from foretell.protocol.status import Refused, error_text, retry_after_s, status_of
from foretell.server.http2.heads import Head, literal

__all__ = [
    "ENCODINGS",
    "OK",
    "REPLY",
    "STATUS_NUMBERS",
    "Caller",
    "caller_of",
    "frame_size",
    "framed",
    "http_refusal",
    "trailers",
    "trailers_only",
    "unpacked",
]  # fmt: skip

STATUS_NUMBERS = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
ENCODINGS = frozenset((b"identity", b"gzip", b"deflate"))
_STATUS_200 = b"\x88"
REPLY = _STATUS_200 + literal(b"content-type", b"application/grpc")
"""The block a reply begins with."""
OK = literal(b"grpc-status", b"0")
"""The block a reply ends with."""
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ID = re.compile(rb"[!-~]{1,128}")
_ENCODED = re.compile(rb"[^ -$&-~]")


class Caller(NamedTuple):
    """What the head of a call says besides its method."""

    authorization: bytes | None
    timeout_s: float | None
    request_id: str
    """Empty: none was given."""
    encoding: bytes
    trace: tuple[str, str]
    """W3C `traceparent` and `tracestate`."""


def caller_of(head: Head) -> Caller:
    """Return what a head says.

    Raises:
        Refused: A field is not what gRPC says, or asks for what is not here.
    """
    fields = head.fields
    encoding = fields.get(b"grpc-encoding", b"identity")
    if encoding not in ENCODINGS:
        raise Refused("grpc-encoding: expected identity, gzip or deflate", code="unsupported_media_type", status=501)
    given = fields.get(b"grpc-timeout")
    timeout_s = None
    if given is not None:
        found = _TIMEOUT.fullmatch(given)
        if found is None:
            raise Refused("grpc-timeout: expected at most 8 digits and a unit: H, M, S, m, u or n", code="bad_header")
        timeout_s = int(found[1]) * _UNITS[found[2]]
    request_id = fields.get(b"x-request-id", b"")
    is_sound = _ID.fullmatch(request_id) is not None
    trace = fields.get(b"traceparent", b"").decode("latin-1"), fields.get(b"tracestate", b"").decode("latin-1")
    return Caller(fields.get(b"authorization"), timeout_s, request_id.decode() if is_sound else "", encoding, trace)


def framed(message: bytes) -> bytes:
    """Return a message as gRPC sends it."""
    return len(message).to_bytes(5, "big") + message


def frame_size(body: bytes | bytearray, limit: int) -> int:
    """Return the bytes of the message that begins a body, without its prefix, which must be there.

    Raises:
        RequestTooLarge: They are more than the limit.
    """
    size = int.from_bytes(body[1:5], "big")
    if size > limit:
        raise RequestTooLarge(f"message: {size} bytes, at most {limit} are taken; see --max-body-bytes")
    return size


def unpacked(flag: int, message: bytes, encoding: bytes, limit: int) -> bytes:
    """Return a message of which `flag` says that it is compressed.

    Raises:
        Refused: It is not, or by no encoding the head has named.
        RequestTooLarge: There is more in it than the limit.
    """
    if not flag:
        return message
    if flag != 1 or encoding == b"identity":
        raise Refused("message: it is compressed by no encoding that the call names")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | (16 if encoding == b"gzip" else 0))
    try:
        found = unpacker.decompress(message, limit + 1)
    except zlib.error:
        raise Refused(f"message: it is not {encoding.decode()}") from None
    if len(found) > limit:
        raise RequestTooLarge(f"message: unpacked it has more than {limit} bytes; see --max-body-bytes")
    if not unpacker.eof:
        raise Refused(f"message: its {encoding.decode()} has no end")
    return found


def trailers(error: ForetellError | None, request_id: str = "") -> bytes:
    """Return the block that ends a reply."""
    if error is None:
        return OK + literal(b"x-request-id", request_id.encode()) if request_id else OK
    number = STATUS_NUMBERS[status_of(error).grpc]
    text = _ENCODED.sub(lambda found: b"%%%02X" % found[0][0], error_text(error).encode())
    block = literal(b"grpc-status", b"%d" % number) + literal(b"grpc-message", text)
    block += literal(b"error-code", error.code.encode())
    seconds = retry_after_s(error)
    if seconds is not None:
        block += literal(b"retry-after", b"%d" % seconds)
    if isinstance(error, Refused) and error.code == "unsupported_media_type":
        block += literal(b"grpc-accept-encoding", b"identity,gzip,deflate")
    return block + literal(b"x-request-id", request_id.encode()) if request_id else block


def trailers_only(error: ForetellError, request_id: str = "") -> bytes:
    """Return the block that is a whole reply: an error before any message."""
    return REPLY + trailers(error, request_id)


def http_refusal(head: Head) -> bytes | None:
    """Return the block that refuses a request that is no gRPC; None: it is."""
    if head.method != b"POST":
        return literal(b":status", b"405") + literal(b"allow", b"POST")
    kind = head.fields.get(b"content-type", b"")
    if kind.startswith(b"application/grpc") and kind[16:17] in (b"", b"+", b";"):
        return None
    return literal(b":status", b"415")
