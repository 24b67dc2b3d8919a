"""The gRPC door, on grpc.aio: the Open Inference Protocol's service, and grpc.health.v1.

Messages are parsed here and not by the library, which would answer bytes that are none with INTERNAL.
Deadlines of calls are those of the engine; a call that is cancelled is cancelled in the engine.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc

from foretell.engine.engine import Engine
from foretell.engine.lifecycle import State
from foretell.engine.served import Served
from foretell.errors import ConfigError, ForetellError, InternalError, Unavailable
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.about import EXTENSIONS, config_of, index_entry, model_metadata, statistics_of
from foretell.protocol.openinference_proto import OpenInferenceProto, parse
from foretell.protocol.status import Refused, error_text, status_of
from foretell.server.doors import Door, Doors
from foretell.server.guard import Keys
from foretell.server.observer import Account, Observer
from foretell.server.settings import ServerSettings

__all__ = ["GrpcDoor"]

_LOG = logging.getLogger("foretell.server")
_STREAMED = 64
"""Requests of one stream that are in the engine at once."""
_STREAMS = 100
_HEALTH = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"

Unary = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


class GrpcDoor:
    """The service of one engine."""

    def __init__(
        self, engine: Engine, settings: ServerSettings, doors: Doors, observer: Observer | None = None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._doors = doors
        self._keys = Keys(settings.api_key_file) if settings.api_key_file is not None else None
        self._observer = observer
        self._prefix = f"g{os.urandom(4).hex()}"
        self._ids = itertools.count(1)
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
        server.add_generic_rpc_handlers((self._service(), self._health()))
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

    def _service(self) -> grpc.GenericRpcHandler:
        unary: dict[str, tuple[Any, Unary]] = {
            "ServerLive": (pb.ServerLiveRequest, self._live),
            "ServerReady": (pb.ServerReadyRequest, self._ready),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": (pb.ModelInferRequest, self._infer),
            "ModelConfig": (pb.ModelConfigRequest, self._config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self._unload),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._answering(name, kind, method))
            for name, (kind, method) in unary.items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(pb.SERVICE, handlers)

    def _health(self) -> grpc.GenericRpcHandler:
        async def check(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            # A HealthCheckRequest is a text, field 1: the name of a service, empty for all of them.
            if data not in (b"", b"\x0a\x00", b"\x0a" + bytes([len(pb.SERVICE)]) + pb.SERVICE.encode()):
                await context.abort(grpc.StatusCode.NOT_FOUND, f"service: unknown, expected {pb.SERVICE}")
            return _SERVING if self._doors.ready else _NOT_SERVING

        handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        return grpc.method_handlers_generic_handler(_HEALTH, handlers)

    def _answering(self, name: str, kind: Any, method: Unary) -> Callable[..., Awaitable[bytes]]:
        """Return a handler of bytes that turns whatever goes wrong into a status."""
        replies = self._engine.metrics.responses

        def settled(status: str, began: float, context: Any, error: ForetellError | None = None) -> None:
            replies.child("grpc", name, status).value += 1
            if self._observer is not None:
                given = dict(context.invocation_metadata() or ())
                self._observer.told(
                    Account(
                        door="grpc", route=name, request=name, id="", status=status, started=began,
                        ended=perf_counter(), result=error, traceparent=str(given.get("traceparent", "")),
                        tracestate=str(given.get("tracestate", "")),
                    )
                )  # fmt: skip

        async def handle(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            began = perf_counter()
            try:
                if name not in ("ServerLive", "ServerReady"):
                    self._admit(context)
                answer: bytes = (await method(parse(kind, data), context)).SerializeToString()
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
        if self._keys is None:
            return
        given = next((v for k, v in context.invocation_metadata() or () if k == "authorization"), None)
        if given is None or not self._keys.open_to(given if isinstance(given, bytes) else given.encode()):
            raise Refused("key: missing or unknown; send authorization: Bearer KEY", code="unauthorized", status=401)

    async def _live(self, _message: Any, _context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, _message: Any, _context: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._doors.ready)

    async def _model_ready(self, message: Any, _context: Any) -> Any:
        served = self._engine.find(message.name, message.version)
        return pb.ModelReadyResponse(ready=served.state is State.READY and not self._engine.draining)

    async def _metadata(self, _message: Any, _context: Any) -> Any:
        from foretell import __version__

        return pb.ServerMetadataResponse(name="foretell", version=__version__, extensions=EXTENSIONS)

    async def _model_metadata(self, message: Any, _context: Any) -> Any:
        served = self._engine.find(message.name, message.version)
        versions = [s.version for s in self._engine.index() if s.name == served.name and s.state is State.READY]
        return pb.ModelMetadataResponse(**model_metadata(served.name, versions, served.hello))

    async def _config(self, message: Any, _context: Any) -> Any:
        served = self._engine.find(message.name, message.version)
        config = config_of(served.name, served.hello, self._engine.limits.max_batch_size)
        config.pop("dynamic_batching")
        return pb.ModelConfigResponse(config=config)

    async def _statistics(self, message: Any, _context: Any) -> Any:
        chosen = [s for s in self._engine.index() if s.state is State.READY]
        if message.name:
            found = self._engine.find(message.name, message.version)
            chosen = [found] if message.version else [s for s in chosen if s.name == message.name]
        told = statistics_of(chosen)
        for entry in told["model_stats"]:
            entry.pop("memory_usage")
        return pb.ModelStatisticsResponse(**told)

    async def _index(self, message: Any, _context: Any) -> Any:
        chosen: list[Served] = [s for s in self._engine.index() if s.state is State.READY or not message.ready]
        return pb.RepositoryIndexResponse(models=[index_entry(s) for s in chosen])

    async def _load(self, message: Any, _context: Any) -> Any:
        self._administer("load")
        if any(key == "config" or key.startswith("file:") for key in message.parameters):
            raise Refused("load: files and configurations do not come by request; put them under the given paths")
        await self._engine.load(message.model_name)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, message: Any, _context: Any) -> Any:
        self._administer("unload")
        await self._engine.unload(message.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _administer(self, what: str) -> None:
        if not self._settings.admin:
            raise Refused(f"{what}: off; start the server with --admin", code="admin_disabled", status=403)

    async def _infer(self, message: Any, context: grpc.aio.ServicerContext) -> Any:
        return await self._answer(message, context.time_remaining())

    async def _answer(self, message: Any, timeout_s: float | None) -> Any:
        door = self._doors.of(message.model_name, message.model_version)
        proto = _proto_of(door)
        request, asked = proto.decode(
            message,
            request_id=f"{self._prefix}-{next(self._ids):x}",
            now=self._engine.clock.now(),
            timeout_s=timeout_s,
        )
        if request.rows == 0:
            return proto.encode(door.nothing(request.id), asked)
        return proto.encode(await self._engine.answer(request), asked)

    async def _stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Answer the requests of a stream in their order; an error is one answer and does not end the stream."""
        try:
            self._admit(context)
        except ForetellError as error:
            await _abort(context, error)
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_STREAMED)

        async def read() -> None:
            async for data in requests:
                await answers.put(asyncio.ensure_future(self._streamed(data, context.time_remaining())))
            await answers.put(None)

        reader = asyncio.ensure_future(read())
        try:
            while (answer := await answers.get()) is not None:
                yield await answer
        finally:
            reader.cancel()
            while not answers.empty():
                left = answers.get_nowait()
                if left is not None:
                    left.cancel()

    async def _streamed(self, data: bytes, timeout_s: float | None) -> bytes:
        replies = self._engine.metrics.responses
        try:
            answer = await self._answer(parse(pb.ModelInferRequest, data), timeout_s)
        except ForetellError as error:
            replies.child("grpc", "ModelStreamInfer", status_of(error).grpc).value += 1
            told: bytes = pb.ModelStreamInferResponse(error_message=error_text(error)).SerializeToString()
            return told
        replies.child("grpc", "ModelStreamInfer", "OK").value += 1
        found: bytes = pb.ModelStreamInferResponse(infer_response=answer).SerializeToString()
        return found


def _proto_of(door: Door) -> OpenInferenceProto:
    if door.proto is None:
        door.proto = OpenInferenceProto(door.served.name, door.signature, door.labels, door.columns)
    return door.proto


async def _abort(context: grpc.aio.ServicerContext, error: ForetellError) -> None:
    metadata: list[tuple[str, str]] = [("error-code", error.code)]
    if isinstance(error, Unavailable):
        metadata.append(("retry-after", f"{max(1, round(error.retry_after_s))}"))
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
