"""Who may send what: keys, the names this server goes by, the pages that may call it, the forms of bodies.

Decides from headers alone, before a body is read and before any route is looked at, so that a stranger cannot
tell what is here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from foretell.errors import ConfigError
from foretell.protocol.status import Refused
from foretell.server.settings import ServerSettings

__all__ = ["Guard", "Keys"]

_OPEN = frozenset((b"/v2/health/live", b"/v2/health/ready", b"/ping"))
"""Routes that need no key: whoever starts and stops servers asks them."""
_LOOPBACK = frozenset((b"localhost", b"127.0.0.1", b"[::1]"))
_BODIES = frozenset(
    (
        b"application/json", b"application/octet-stream", b"text/csv", b"application/csv",
        b"application/vnd.apache.arrow.stream", b"application/x-www-form-urlencoded",
    )
)  # fmt: skip
"""Forms are what curl says it sends when it is told nothing: the body is still read as JSON, never as a form."""
_REMEMBERED = 1024


class Keys:
    """The keys that open this server, as hashes."""

    def __init__(self, path: Path) -> None:
        """Read a file with a key a line.

        Raises:
            ConfigError: It cannot be read, others can read it, or it has no key of at least 16 characters.
        """
        try:
            lines = path.read_text("ascii").split()
            mode = path.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'--api-key-file "{path}": cannot be read: {error}') from None
        if os.name == "posix" and mode & 0o077:
            raise ConfigError(f'--api-key-file "{path}": others can read it; chmod 600 it')
        if not lines or min(map(len, lines)) < 16:
            raise ConfigError(f'--api-key-file "{path}": expected keys of at least 16 characters, one a line')
        self._hashes = [hashlib.sha256(line.encode()).digest() for line in lines]

    def open_to(self, authorization: bytes) -> bool:
        """Whether the value of an `Authorization` header is one of the keys."""
        scheme, _, key = authorization.partition(b" ")
        given = hashlib.sha256(key.strip()).digest()
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(given, known)
        return found and scheme.lower() == b"bearer"


class Guard:
    """Looks at the headers of every request."""

    def __init__(self, settings: ServerSettings) -> None:
        self._keys = Keys(settings.api_key_file) if settings.api_key_file is not None else None
        given = {name.encode() for name in (settings.host, *settings.allowed_hosts)}
        # A server that others reach goes by names it does not know, and is kept by its keys.
        self._hosts = _LOOPBACK | given if settings.is_local or settings.allowed_hosts else None
        self._origins = frozenset(origin.encode() for origin in settings.allowed_origins)
        self._scheme = b"https://" if settings.tls_cert is not None else b"http://"
        self._known_hosts: set[bytes] = set()
        self._limit = settings.max_body_bytes

    def check(self, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> None:
        """Let a request pass.

        Raises:
            Refused: It may not; the status says why.
        """
        host = headers.get(b"host", b"")
        if host not in self._known_hosts:
            self._check_host(host)
        if self._keys is not None and target not in _OPEN:
            given = headers.get(b"authorization")
            if given is None or not self._keys.open_to(given):
                raise Refused(
                    "key: missing or unknown; send Authorization: Bearer KEY", code="unauthorized", status=401
                )
        if b"origin" in headers or b"sec-fetch-site" in headers:
            self._check_page(headers, host)
        if method == b"POST":
            self._check_body(headers)

    def _check_host(self, host: bytes) -> None:
        name = host.rpartition(b":")[0] if not host.endswith(b"]") and b":" in host else host
        if self._hosts is not None and host and name.lower() not in self._hosts:
            raise Refused(
                "host: this server does not go by this name; start it with --allowed-host to let it",
                code="wrong_host",
                status=421,
            )
        if len(self._known_hosts) < _REMEMBERED:
            self._known_hosts.add(host)

    def _check_page(self, headers: dict[bytes, bytes], host: bytes) -> None:
        origin = headers.get(b"origin")
        own = origin is not None and origin.lower() == self._scheme + host.lower()
        if (origin is not None and not own and origin not in self._origins) or (
            headers.get(b"sec-fetch-site") == b"cross-site" and origin not in self._origins
        ):
            raise Refused(
                "origin: pages of this origin may not call this server; see --allowed-origin",
                code="wrong_origin",
                status=403,
            )

    def _check_body(self, headers: dict[bytes, bytes]) -> None:
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            raise Refused("content-encoding: send the body as it is", code="unsupported_media_type", status=415)
        kind = headers.get(b"content-type")
        if kind is not None and kind not in _BODIES and not is_body(media_type(kind)):
            raise Refused(
                "content-type: expected application/json, application/octet-stream, text/csv, image/jpeg or "
                "application/vnd.apache.arrow.stream",
                code="unsupported_media_type",
                status=415,
            )


def is_body(kind: bytes) -> bool:
    """Whether a media type is that of a body that something here may read."""
    return kind in _BODIES or kind.startswith(b"image/")


def media_type(kind: bytes) -> bytes:
    """Return a content type without its parameters, in lower case."""
    return kind.partition(b";")[0].strip().lower()
