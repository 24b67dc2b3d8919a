"""What the connections of a server share, and where their requests go: the side of HTTP/2 that a door fills in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from foretell.server.http2.heads import Head
from foretell.server.http2.stream import Stream
from foretell.server.http2.writing import Writing
from foretell.server.settings import ServerSettings

if TYPE_CHECKING:
    from foretell.server.http2.connection import Connection

__all__ = ["Desk"]


class Desk(Protocol):
    """What all connections share, and where requests go."""

    settings: ServerSettings
    connections: set[Connection]
    draining: bool
    body_bytes: int
    """Of all bodies being received."""
    writing: Writing

    def taker(self, head: Head) -> Any:
        """Return what takes the requests of a head. Raises nothing."""
        ...

    def too_large(self, stream: Stream, *, crowded: bool) -> None:
        """Refuse a request for the size of its body; or, where it is crowded, for that of all bodies together."""
        ...

    def too_slow(self, stream: Stream) -> None:
        """Refuse a request whose body does not come."""
        ...
