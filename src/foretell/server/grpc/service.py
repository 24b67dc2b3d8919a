"""What the calls of the service answer, message for message; inference is apart. Knows no gRPC library.

A method takes a message and returns one, or a coroutine of one where it takes long.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

from foretell.engine.engine import Engine
from foretell.engine.lifecycle import State
from foretell.engine.served import Served
from foretell.errors import ForetellError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.about import EXTENSIONS, config_of, index_entry, model_metadata, statistics_of
from foretell.protocol.openinference_proto import OpenInferenceProto
from foretell.protocol.picture_messages import PictureMessages
from foretell.protocol.status import Refused
from foretell.request import InferResponse
from foretell.server.doors import Door, Doors
from foretell.server.guard import Keys
from foretell.server.logs import log_failure
from foretell.server.observer import Account, Observer
from foretell.server.settings import ServerSettings

__all__ = ["HEALTH", "NOT_SERVING", "OPEN", "SERVING", "UNKNOWN", "Service", "proto_of"]

HEALTH = "grpc.health.v1.Health"
SERVING, NOT_SERVING, UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
"""Messages of the health service."""
OPEN = frozenset(("ServerLive", "ServerReady"))
"""Methods that need no key: whoever starts and stops servers asks them."""
_WHOLE = (b"", b"\x0a\x00", b"\x0a" + bytes([len(pb.SERVICE)]) + pb.SERVICE.encode())
"""A HealthCheckRequest is a text, field 1: the name of a service, empty for all of them."""

Method = Callable[[Any], Any]


class Service:
    """The service of one engine.

    Attributes:
        engine: That answers.
        settings: Of the doors.
        doors: To its versions.
        observer: Wants to know of each call; None: nobody does.
        methods: By name the kind of message each takes, and itself.
    """

    def __init__(self, engine: Engine, settings: ServerSettings, doors: Doors, observer: Observer | None) -> None:
        self.engine = engine
        self.settings = settings
        self.doors = doors
        self._keys = Keys(settings.api_key_file) if settings.api_key_file is not None else None
        self.observer = observer
        self._prefix = f"g{os.urandom(4).hex()}"
        self._ids = itertools.count(1)
        self.methods: dict[str, tuple[Any, Method]] = {
            "ServerLive": (pb.ServerLiveRequest, lambda _: pb.ServerLiveResponse(live=True)),
            "ServerReady": (pb.ServerReadyRequest, lambda _: pb.ServerReadyResponse(ready=doors.ready)),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self._unload),
        }

    def new_id(self) -> str:
        """Return an id for a request that brought none."""
        return f"{self._prefix}-{next(self._ids):x}"

    def admit(self, authorization: bytes | None) -> None:
        """Refuse whoever has no key.

        Raises:
            Refused: The key is missing, or unknown.
        """
        if self._keys is not None and (authorization is None or not self._keys.open_to(authorization)):
            raise Refused("key: missing or unknown; send authorization: Bearer KEY", code="unauthorized", status=401)

    def settled(
        self,
        name: str,
        status: str,
        began: float,
        result: InferResponse | ForetellError | None = None,
        *,
        request_id: str = "",
        settled: float = 0.0,
        trace: tuple[str, str] = ("", ""),
    ) -> None:
        """Count a reply, and tell of it where somebody wants to know.

        Args:
            name: Of the method.
            status: Name of gRPC's code.
            began: Instant of `perf_counter` at which the call came.
            result: Of the engine, or the error.
            request_id: That the caller gave.
            settled: Instant at which the engine gave its answer; 0: it was not asked.
            trace: The caller's `traceparent` and `tracestate`.
        """
        self.engine.metrics.responses.child("grpc", name, status).value += 1
        if isinstance(result, ForetellError):
            log_failure(result, request_id)
        if self.observer is not None:
            self.observer.told(
                Account(
                    door="grpc", route=name, request=name, id=request_id, status=status, started=began,
                    ended=perf_counter(), settled=settled, result=result, traceparent=trace[0], tracestate=trace[1],
                )
            )  # fmt: skip

    def health(self, data: bytes) -> bytes:
        """Return the answer to a HealthCheckRequest."""
        if data not in _WHOLE:
            return UNKNOWN
        return SERVING if self.doors.ready else NOT_SERVING

    def _model_ready(self, message: Any) -> Any:
        served = self.engine.find(message.name, message.version)
        return pb.ModelReadyResponse(ready=served.is_ready and not self.engine.draining)

    def _metadata(self, _message: Any) -> Any:
        from foretell import __version__

        return pb.ServerMetadataResponse(name="foretell", version=__version__, extensions=EXTENSIONS)

    def _model_metadata(self, message: Any) -> Any:
        served = self.engine.find(message.name, message.version)
        versions = [s.version for s in self.engine.index() if s.name == served.name and s.state is State.READY]
        return pb.ModelMetadataResponse(**model_metadata(served.name, versions, served.hello))

    def _config(self, message: Any) -> Any:
        served = self.engine.find(message.name, message.version)
        config = config_of(served.name, served.hello, self.engine.limits.max_batch_size)
        for key in ("dynamic_batching", "parameters"):
            config.pop(key)
        return pb.ModelConfigResponse(config=config)

    def _statistics(self, message: Any) -> Any:
        chosen = [s for s in self.engine.index() if s.state is State.READY]
        if message.name:
            found = self.engine.find(message.name, message.version)
            chosen = [found] if message.version else [s for s in chosen if s.name == message.name]
        told = statistics_of(chosen)
        for entry in told["model_stats"]:
            entry.pop("memory_usage")
        return pb.ModelStatisticsResponse(**told)

    def _index(self, message: Any) -> Any:
        chosen: list[Served] = [s for s in self.engine.index() if s.state is State.READY or not message.ready]
        return pb.RepositoryIndexResponse(models=[index_entry(s) for s in chosen])

    async def _load(self, message: Any) -> Any:
        self._administer("load")
        if any(key == "config" or key.startswith("file:") for key in message.parameters):
            raise Refused("load: files and configurations do not come by request; put them under the given paths")
        await self.engine.load(message.model_name)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, message: Any) -> Any:
        self._administer("unload")
        await self.engine.unload(message.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _administer(self, what: str) -> None:
        if not self.settings.admin:
            raise Refused(f"{what}: off; start the server with --admin", code="admin_disabled", status=403)


def proto_of(door: Door) -> OpenInferenceProto:
    """Return the codec of a door, made when it is first asked for."""
    if door.proto is None:
        name, version = door.served.name, door.served.version
        door.proto = (
            OpenInferenceProto(name, door.signature, door.labels, door.columns, version)
            if door.pictures is None
            else PictureMessages(name, door.signature, door.pictures, door.labels, version)
        )
    return door.proto
