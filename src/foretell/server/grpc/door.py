"""The service on our own HTTP/2: which call a head asks for, and the life of the port."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from foretell.engine.engine import Engine
from foretell.errors import ForetellError, RequestTooLarge
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.status import Refused
from foretell.server.doors import Doors
from foretell.server.grpc.calls import Refusing, Unary
from foretell.server.grpc.health import Check, Watch, Watchers
from foretell.server.grpc.infer import Infer
from foretell.server.grpc.lane import Lane
from foretell.server.grpc.service import HEALTH, OPEN, Service
from foretell.server.grpc.streaming import StreamInfer
from foretell.server.grpc.wire import Caller, caller_of, framed, http_refusal, trailers, trailers_only
from foretell.server.http2.connection import Connection
from foretell.server.http2.heads import Head
from foretell.server.http2.stream import Stream
from foretell.server.http2.writing import Writing
from foretell.server.observer import Observer
from foretell.server.settings import ServerSettings

__all__ = ["OwnDoor"]


class OwnDoor:
    """The service of one engine, and all that its connections share.

    Attributes:
        settings: Of the doors.
        connections: That are open.
        draining: No more calls are taken.
        body_bytes: Of all bodies being received.
        writing: Writes for all connections.
    """

    def __init__(
        self, engine: Engine, settings: ServerSettings, doors: Doors, observer: Observer | None = None
    ) -> None:
        self.settings = settings
        self.connections: set[Connection] = set()
        self.draining = False
        self.body_bytes = 0
        self._service = service = Service(engine, settings, doors, observer)
        self._watchers: Watchers = {}
        self.writing = Writing()
        lane = Lane(service, self.writing)
        prefix = f"/{pb.SERVICE}/"
        self._calls: dict[bytes, Any] = {
            (prefix + "ModelInfer").encode(): partial(Infer, service, "ModelInfer", lane=lane),
            (prefix + "ModelStreamInfer").encode(): partial(StreamInfer, service, "ModelStreamInfer", lane=lane),
            f"/{HEALTH}/Check".encode(): partial(Check, service, "Check"),
            f"/{HEALTH}/Watch".encode(): self._watch,
            **{(prefix + name).encode(): partial(Unary, service, name) for name in service.methods},
        }
        self._open = {(prefix + name).encode() for name in OPEN} | {f"/{HEALTH}/Check".encode()}
        self._server: asyncio.Server | None = None
        engine.metrics.connections.child("grpc").read = lambda: len(self.connections)

    async def bind(self, sock: Any, tls: Any) -> None:
        """Listen on a socket that is bound."""
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self),
            sock=sock,
            backlog=2048,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else self.settings.headers_s,
        )

    async def drain(self, timeout_s: float) -> None:
        """Take no more calls, wait for those in flight, and close."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for stream in list(self._watchers):
            stream.connection.out.finish(stream, trailers(None))
        for connection in list(self.connections):
            connection.drain()
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        while self.connections and loop.time() < ends:  # noqa: ASYNC110 - seldom
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.transport.abort()

    def check(self, now: float) -> None:
        """Look after slow clients, and tell who watches what has changed."""
        for connection in list(self.connections):
            connection.check(now)
        for stream, (asked, told) in list(self._watchers.items()):
            found = self._service.health(asked)
            if found != told and not stream.outbox:
                self._watchers[stream] = (asked, found)
                stream.connection.out.send(stream, framed(found))

    # What the connections ask.

    def taker(self, head: Head) -> Any:
        """Return what takes the requests of a head."""
        block = http_refusal(head)
        if block is not None:
            return Refusing(block)
        request_id = ""
        try:
            caller = caller_of(head)
            request_id = caller.request_id
            make = self._calls.get(head.path)
            if head.path not in self._open:
                self._service.admit(caller.authorization)
            if make is None:
                raise Refused("method: unknown", code="not_found", status=501)
            return make(caller)
        except ForetellError as error:
            return Refusing(trailers_only(error, request_id))

    def too_large(self, stream: Stream, *, crowded: bool) -> None:
        """Refuse a request for the size of its body, or of all bodies together."""
        error: ForetellError
        if crowded:
            error = Refused("bodies: too many at once; retry later", code="too_many_bodies", status=503)
        else:
            error = RequestTooLarge(f"message: at most {self.settings.max_body_bytes} bytes; see --max-body-bytes")
            error.code = "body_too_large"
        stream.head.taker.fail(stream, error)

    def too_slow(self, stream: Stream) -> None:
        """Refuse a request whose body does not come."""
        error = Refused("request: it came too slowly", code="request_timeout", status=408)
        stream.head.taker.fail(stream, error)

    def _watch(self, caller: Caller) -> Watch:
        made = Watch(self._service, "Watch", caller)
        made.watchers = self._watchers
        return made
