"""The handshake of RFC 6455, section 4.2: does a request open a WebSocket, and the answer to it. Knows no socket."""

from __future__ import annotations

import base64
import binascii
import hashlib

from foretell.errors import ForetellError
from foretell.protocol.status import Refused, error_body
from foretell.server.call import JSON, Call

__all__ = ["accept", "is_offered", "say_upgrade"]

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %b\r\n"
    b"x-request-id: %b\r\n\r\n"
)


def is_offered(call: Call) -> bool:
    """Whether a request offers to go on as a WebSocket, of the one version there is."""
    headers = call.headers
    is_upgrade = b"upgrade" in [token.strip() for token in headers.get(b"connection", b"").lower().split(b",")]
    return (
        is_upgrade
        and not call.connection.is_old
        and headers.get(b"upgrade", b"").lower() == b"websocket"
        and headers.get(b"sec-websocket-version") == b"13"
    )


def accept(call: Call) -> bytes:
    """Return the head that opens the WebSocket.

    Raises:
        Refused: The request has no key, one that is none, or a body.
    """
    key = call.headers.get(b"sec-websocket-key", b"")
    try:
        is_key = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        is_key = False
    if not is_key:
        raise Refused('header "sec-websocket-key": expected 16 bytes in base64', code="bad_header")
    if call.body or call.method != b"GET":
        raise Refused("upgrade: expected GET without a body", code="bad_http")
    digest = hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest()
    return _HEAD % (base64.b64encode(digest), call.id)


def say_upgrade(call: Call) -> None:
    """Tell who asked without a WebSocket that it takes one."""
    error: ForetellError = Refused("stream: expected a WebSocket, version 13", code="upgrade_required", status=426)
    call.result = error
    call.keep_alive = False
    told = b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    call.reply(426, error_body(error, call.id.decode("ascii")), JSON, told)
