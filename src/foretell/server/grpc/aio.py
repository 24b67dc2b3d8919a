"""The service on grpc.aio.

Messages are parsed here and not by the library, which would answer bytes that are none with INTERNAL.
Deadlines of calls are those of the engine; a call that is cancelled is cancelled in the engine.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc

from foretell.engine.engine import Engine
from foretell.errors import ConfigError, ForetellError, InternalError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import parse
from foretell.protocol.status import error_text, retry_after_s, status_of
from foretell.server.doors import Doors
from foretell.server.grpc.aio_streaming import Talk
from foretell.server.grpc.service import HEALTH, OPEN, UNKNOWN, Service, proto_of
from foretell.server.observer import Observer
from foretell.server.settings import ServerSettings

__all__ = ["AioDoor"]

_LOG = logging.getLogger("foretell.server")
_STREAMS = 1024
"""Calls of one connection at once. The library also counts those that have been answered but not yet tidied up, and
refuses what goes beyond: with 100, a client with as many calls under way saw some of them fail."""


class AioDoor:
    """The service of one engine."""

    def __init__(
        self, engine: Engine, settings: ServerSettings, doors: Doors, observer: Observer | None = None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._doors = doors
        self._service = Service(engine, settings, doors, observer)
        self._server: grpc.aio.Server | None = None

    async def bind(self) -> int:
        """Listen, and return the port.

        Raises:
            ConfigError: The port is taken.
        """
        settings = self._settings
        limit = settings.max_body_bytes
        self._server = server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", _STREAMS),
                ("grpc.max_metadata_size", settings.max_header_bytes),
                ("grpc.so_reuseport", 0),
            ]
        )
        server.add_generic_rpc_handlers((self._handlers(), self._health()))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port}"
        credentials = _credentials(settings)
        try:
            port = (
                server.add_insecure_port(address)
                if credentials is None
                else server.add_secure_port(address, credentials)
            )
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(f"--grpc-port {settings.grpc_port}: {address} cannot be listened on; is it in use?")
        await server.start()
        return int(port)

    async def drain(self, timeout_s: float) -> None:
        """Take no more calls, and wait for those in flight."""
        if self._server is not None:
            await self._server.stop(timeout_s)

    def check(self, now: float) -> None:
        """Do nothing: the library looks after its clients."""

    def _handlers(self) -> grpc.GenericRpcHandler:
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._answering(name, kind, method))
            for name, (kind, method) in self._service.methods.items()
        }
        infer = self._answering("ModelInfer", pb.ModelInferRequest, None)
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(infer)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(pb.SERVICE, handlers)

    def _health(self) -> grpc.GenericRpcHandler:
        async def check(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            found = self._service.health(data)
            if found == UNKNOWN:
                await context.abort(grpc.StatusCode.NOT_FOUND, f"service: unknown, expected {pb.SERVICE}")
            return found

        handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        return grpc.method_handlers_generic_handler(HEALTH, handlers)

    def _answering(self, name: str, kind: Any, method: Any) -> Callable[..., Awaitable[bytes]]:
        """Return a handler of bytes that turns whatever goes wrong into a status."""

        def settled(status: str, began: float, context: Any, error: ForetellError | None = None) -> None:
            given = dict(context.invocation_metadata() or ()) if self._service.observer is not None else {}
            trace = str(given.get("traceparent", "")), str(given.get("tracestate", ""))
            self._service.settled(name, status, began, error, trace=trace)

        async def handle(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            began = perf_counter()
            try:
                if name not in OPEN:
                    self._admit(context)
                message = parse(kind, data)
                if method is None:
                    found = await self._answer(message, context.time_remaining())
                else:
                    found = method(message)
                    if inspect.isawaitable(found):
                        found = await found
                answer: bytes = found.SerializeToString()
            except ForetellError as error:
                settled(status_of(error).grpc, began, context, error)
                await _abort(context, error)
                raise
            except Exception as error:
                _LOG.exception("grpc %s: failed", name)
                bug = InternalError(f"{name}: {error}. This is a bug.")
                settled("INTERNAL", began, context, bug)
                await _abort(context, bug)
                raise
            settled("OK", began, context)
            return answer

        return handle

    def _admit(self, context: grpc.aio.ServicerContext) -> None:
        given = next((v for k, v in context.invocation_metadata() or () if k == "authorization"), None)
        self._service.admit(given.encode() if isinstance(given, str) else given)

    async def _answer(self, message: Any, timeout_s: float | None) -> Any:
        door = self._doors.of(message.model_name, message.model_version)
        proto = proto_of(door)
        request, asked = proto.decode(
            message, request_id=self._service.new_id(), now=self._engine.clock.now(), timeout_s=timeout_s
        )
        if request.rows == 0:
            return proto.encode(door.nothing(request.id, pictures=asked.pictures), asked)
        return proto.encode(await self._engine.answer(request), asked)

    async def _stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Answer the requests of a stream."""
        try:
            self._admit(context)
        except ForetellError as error:
            await _abort(context, error)
        talk = Talk(self._engine, self._doors, self._answer, context.time_remaining)
        async for answer in talk.answers(requests):
            yield answer


async def _abort(context: grpc.aio.ServicerContext, error: ForetellError) -> None:
    metadata: list[tuple[str, str]] = [("error-code", error.code)]
    seconds = retry_after_s(error)
    if seconds is not None:
        metadata.append(("retry-after", f"{seconds}"))
    await context.abort(getattr(grpc.StatusCode, status_of(error).grpc), error_text(error), tuple(metadata))


def _credentials(settings: ServerSettings) -> Any:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        pair = settings.tls_key.read_bytes(), settings.tls_cert.read_bytes()
        authority = None if settings.tls_client_ca is None else settings.tls_client_ca.read_bytes()
    except OSError as error:
        raise ConfigError(f"--tls-cert, --tls-key: cannot be read: {error.strerror}") from None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
