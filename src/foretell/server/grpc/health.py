"""grpc.health.v1: Check, and Watch, which tells every change."""

from __future__ import annotations

from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.status import Refused
from foretell.server.grpc.calls import Call
from foretell.server.grpc.service import UNKNOWN
from foretell.server.grpc.wire import REPLY, framed
from foretell.server.http2.stream import Stream

__all__ = ["Check", "Watch", "Watchers"]

Watchers = dict[Stream, tuple[bytes, bytes]]
"""Streams that are told of changes, with what each asked and what it was told last."""


class Check(Call):
    """Says whether a service answers."""

    def start(self, stream: Stream, data: bytes, began: float) -> None:
        """Answer."""
        found = self._service.health(data)
        if found == UNKNOWN:
            raise Refused(f"service: unknown, expected {pb.SERVICE}", code="not_found", status=404)
        self.reply(stream, found, began)


class Watch(Call):
    """Says it now, and whenever it changes, until the client has enough."""

    watchers: Watchers

    def start(self, stream: Stream, data: bytes, began: float) -> None:
        """Say it now, and remember who wants to know."""
        found = self._service.health(data)
        out = stream.connection.out
        out.begin(stream, REPLY)
        out.send(stream, framed(found))
        watchers = self.watchers
        watchers[stream] = (data, found)
        stream.cancel = lambda: watchers.pop(stream, None)
