"""The client's end of a connection that is no socket. Of HTTP it knows how to read a status, headers and a body."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from json import loads
from typing import Any

from foretell.server.connection import Connection, Desk

__all__ = ["Reply", "Wire"]

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """Return the body, read as JSON."""
        return loads(self.body)


class Wire(asyncio.Transport):
    """One connection: a request, its answer, the next. Used from the server's event loop alone."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._is_closing = self._is_ended = False
        self._connection = Connection(desk)
        self._connection.connection_made(self)

    @property
    def is_idle(self) -> bool:
        """Whether it takes another request."""
        return not (self._is_closing or self._is_ended) and self._answer.done() and not self._answer.cancelled()

    async def ask(self, data: bytes) -> Reply:
        """Send a request in pieces, as a socket gives them, until it is answered.

        Raises:
            ConnectionResetError: The server closed the connection without an answer.
        """
        if self.is_idle:
            self._answer = self._loop.create_future()
        for at in range(0, len(data), _CHUNK_BYTES):
            if not self._answer.done():
                self._connection.data_received(data[at : at + _CHUNK_BYTES])
        return _read(await self._answer)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take an answer: each comes in one piece, but for the line that lets a body come."""
        if not self._answer.done() and not bytes(data).startswith(b"HTTP/1.1 100 "):
            self._answer.set_result(bytes(data))

    def close(self) -> None:
        """End the connection."""
        if self._is_closing:
            return
        self._is_closing = True
        if not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection without an answer"))
        self._loop.call_soon(self._connection.connection_lost, None)

    def abort(self) -> None:
        """End the connection."""
        self.close()

    def is_closing(self) -> bool:
        """Whether it was ended."""
        return self._is_closing

    def write_eof(self) -> None:
        """Nothing else will be answered."""
        self._is_ended = True

    def can_write_eof(self) -> bool:
        """As a socket can."""
        return True

    def pause_reading(self) -> None:
        """Do nothing: there is one request at a time."""

    def resume_reading(self) -> None:
        """Do nothing."""


def _read(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return Reply(int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body)
