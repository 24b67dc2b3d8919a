"""Connections to one HTTP server: kept open, used by several threads, and patient.

What may succeed later is asked again, after the time the server names or a growing one: refused for now (429, 503,
504), and a connection that is lost or cannot be had. Knows no model.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from foretell.errors import ConfigError, MachineError

__all__ = ["Link", "Reply", "line_of"]

_TIMEOUT_S = 90.0
_BACK_OFF_S = (0.05, 2.0)
_LATER = (429, 503, 504)


class Reply(NamedTuple):
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Link:
    """A server by its root URL. Safe to use from several threads."""

    def __init__(self, root: str, headers: Mapping[str, str], *, patience_s: float) -> None:
        """Make a link; nothing is asked yet.

        Args:
            root: Such as `http://host:8000`.
            headers: Sent with each request.
            patience_s: How long the same is asked again before it is given up.

        Raises:
            ConfigError: It is no such URL.
        """
        try:
            parts = urlsplit(root)
            port = parts.port
        except ValueError:
            raise ConfigError(f'"{root}": it is no URL; expected http://host:port') from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f'"{root}": expected http://host:port or https://host:port')
        self.root = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._host = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = port or (443 if self._tls else 80)
        self._headers = dict(headers)
        self._patience_s = patience_s
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = threading.Event()
        self.asked_again = 0
        """How many requests were sent once more."""

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask until there is an answer that a retry would not change.

        Raises:
            MachineError: There is none within the patience of this link, or it was closed.
        """
        began, tries = time.monotonic(), 0
        while True:
            try:
                reply = self._once(method, path, body, headers or {})
                if reply.status not in _LATER:
                    return reply
                said = f"{reply.status}: {line_of(reply)}"
            except (OSError, http.client.HTTPException) as e:
                reply, said = None, getattr(e, "strerror", None) or str(e) or type(e).__name__
            wait_s = _wait_s(reply, tries)
            if time.monotonic() + wait_s - began > self._patience_s or self._closed.wait(wait_s):
                raise MachineError(
                    f'"{self.root}": no answer for {time.monotonic() - began:.0f} s ({said}); '
                    "see that the server runs, then run the same command again"
                )
            tries += 1
            self.asked_again += 1

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        connection = self._take()
        self._busy.add(connection)
        try:
            connection.request(method, path, body, {**self._headers, **headers})
            response = connection.getresponse()
            reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except BaseException:
            connection.close()
            raise
        finally:
            self._busy.discard(connection)
        if response.will_close or self._closed.is_set():
            connection.close()
        else:
            self._idle.append(connection)
        return reply

    def _take(self) -> http.client.HTTPConnection:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=self._tls)

    def close(self) -> None:
        """Close what is open; whoever waits is told. Safe to call in a signal handler, and more than once."""
        self._closed.set()
        for connection in list(self._busy):
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)  # wakes who reads from it
        while self._idle:
            self._idle.pop().close()


def line_of(reply: Reply) -> str:
    """Return what the server says of a failure, in one line."""
    import orjson

    try:
        said = orjson.loads(reply.body)["error"]
    except (ValueError, KeyError, TypeError):
        said = reply.body[:200].decode("utf-8", "replace")
    return " ".join(str(said).split())[:300] or "nothing said"


def _wait_s(reply: Reply | None, tries: int) -> float:
    """Return how long to wait: what the server says, else twice as long each time; never all at once."""
    own_s = min(_BACK_OFF_S[0] * 2.0**tries, _BACK_OFF_S[1])
    said = reply.headers.get("retry-after", "") if reply is not None else ""
    return (max(own_s, min(float(said), 30.0)) if said.isdigit() else own_s) * random.uniform(0.8, 1.2)
