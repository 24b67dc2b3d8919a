"""One stream: a request on its way in, its answer on its way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from foretell.server.bodies import Body
from foretell.server.http2.heads import Head

if TYPE_CHECKING:
    from foretell.server.http2.connection import Connection

__all__ = ["Stream", "Taker"]


class Taker(Protocol):
    """Takes the requests of one head, and answers each through its stream's connection, at once or later.

    Attributes:
        whole: It takes bodies as a whole, by `take`; else part by part as they come, by the three others.
    """

    whole: bool

    def take(self, stream: Stream, body: bytes) -> None:
        """Take the whole body of a request. Raises nothing."""
        ...

    def begin(self, stream: Stream) -> None:
        """Take a request whose body is yet to come. Raises nothing."""
        ...

    def feed(self, stream: Stream, part: bytes) -> None:
        """Take a part of its body. Raises nothing."""
        ...

    def end(self, stream: Stream) -> None:
        """Take the end of its body. Raises nothing."""
        ...


class Stream:
    """A request and its answer.

    Attributes:
        connection: It is one of.
        id: In the connection.
        head: The request began with.
        ended: Its body is complete.
        closed: Nothing more is sent on it.
        received: Bytes of its body so far.
        body: Parts of a body that is taken as a whole.
        held: Bytes of it that count as being received.
        taken: Bytes of it that the peer has not yet been given room for again.
        window: Bytes that may be sent on it.
        outbox: Bytes of the answer that wait for room.
        trailers: The block that ends the answer, where it waits for them.
        cancel: Called when the peer takes the request back, or is gone.
        on_room: Called when the outbox has become empty.
        since: Instant since which the peer owes something; 0: since the last check.
        note: Its taker's.
    """

    __slots__ = (
        "body", "cancel", "closed", "connection", "ended", "head", "held", "id", "note", "on_room", "outbox",
        "received", "since", "taken", "trailers", "window",
    )  # fmt: skip

    def __init__(self, connection: Connection, id: int, head: Head, window: int) -> None:
        self.connection = connection
        self.id = id
        self.head = head
        self.window = window
        self.ended = self.closed = False
        self.received = self.held = self.taken = 0
        self.body: Body | None = None
        self.outbox: bytearray | None = None
        self.trailers: bytes | None = None
        self.cancel: Callable[[], Any] | None = None
        self.on_room: Callable[[], None] | None = None
        self.since = 0.0
        self.note: Any = None
