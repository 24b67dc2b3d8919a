"""The life of a server: bind, load, answer, and on SIGTERM drain and stop.

1. bind     the ports first: a port in use is known before a model is loaded
2. load     the models; until then health says live but not ready
3. answer   until a signal
4. drain    no more requests; those in flight are answered; then everything is closed
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foretell.engine.engine import Engine
from foretell.errors import ConfigError
from foretell.server.connection import Connection
from foretell.server.desk import HttpDesk
from foretell.server.doors import Doors
from foretell.server.observer import Tracer, observer_of
from foretell.server.settings import ServerSettings

__all__ = ["Server", "run"]

_LOG = logging.getLogger("foretell.server")
_CHECK_S = 1.0
_BACKLOG = 2048
_ARRIVING_S = 0.05
"""Between the signal to stop and the last connection taken: what came before it may not have been read yet."""


class Server:
    """The doors of one engine. Used from one event loop alone."""

    def __init__(self, engine: Engine, settings: ServerSettings, tracer: Tracer | None = None) -> None:
        self.engine = engine
        self.settings = settings
        self.http_port: int | None = None
        self.grpc_port: int | None = None
        self._doors = Doors(engine)
        self._observer = observer_of(settings.log_requests, tracer)
        self._desk = HttpDesk(engine, settings, self._doors, self._observer)
        self._http: asyncio.Server | None = None
        self._grpc: Any = None
        self._checker: asyncio.TimerHandle | None = None

    async def bind(self) -> None:
        """Listen.

        Raises:
            ConfigError: A port is taken, the address is not this machine's, or a certificate cannot be read.
        """
        settings = self.settings
        loop = asyncio.get_running_loop()
        if settings.http_port is not None:
            bound = _listen(settings.host, settings.http_port, "--http-port")
            self.http_port = bound.getsockname()[1]
            tls = tls_context(settings)
            self._http = await loop.create_server(
                lambda: Connection(self._desk),
                sock=bound,
                backlog=_BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else settings.headers_s,
            )
        if settings.grpc_port is not None:
            bound = _listen(settings.host, settings.grpc_port, "--grpc-port")
            given = self.engine, settings, self._doors, self._observer
            if settings.grpc_door == "own":
                from foretell.server.grpc.door import OwnDoor

                self.grpc_port = bound.getsockname()[1]
                self._grpc = OwnDoor(*given)
                await self._grpc.bind(bound, tls_context(settings))
            else:
                # The library writes to stderr by itself where a port is taken.
                bound.close()
                self._grpc = _aio_door()(*given)
                self.grpc_port = await self._grpc.bind()
        self._check()

    async def load(self, paths: Sequence[Path]) -> None:
        """Load the models; one that cannot be loaded is told of, and the others live on.

        Raises:
            ConfigError: A path is not there or holds no model.
        """
        await self.engine.start(paths)
        self._doors.started = True

    async def drain(self) -> bool:
        """Answer what is in flight and close. False: some of it did not end in time."""
        self._desk.draining = self._doors.draining = True
        await asyncio.sleep(_ARRIVING_S)
        if self._http is not None:
            self._http.close()
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.settings.drain_s
        for connection in list(self._desk.connections):
            connection.drain()
        grpc_done = None if self._grpc is None else asyncio.ensure_future(self._grpc.drain(self.settings.drain_s))
        settled = await self.engine.drain(self.settings.drain_s)
        while any(c.is_busy for c in self._desk.connections) and loop.time() < ends:  # noqa: ASYNC110 - seldom
            await asyncio.sleep(0.01)
        for connection in list(self._desk.connections):
            connection.drain()
        settled &= not any(c.is_busy for c in self._desk.connections)
        if grpc_done is not None:
            await grpc_done
        return settled

    async def close(self) -> None:
        """Close everything at once."""
        if self._checker is not None:
            self._checker.cancel()
        if self._http is not None:
            self._http.close()
        await self.engine.close()  # whoever still waits is told, so this comes before the connections
        for connection in list(self._desk.connections):
            connection.transport.close()
        if self._grpc is not None:
            await self._grpc.drain(0.0)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        self._desk.check(loop.time())
        if self._grpc is not None:
            self._grpc.check(loop.time())
        self._checker = loop.call_later(_CHECK_S, self._check)


def _aio_door() -> Any:
    try:
        from foretell.server.grpc.aio import AioDoor
    except ModuleNotFoundError as error:
        raise ConfigError(f'--grpc-door aio: {error.name} is not installed; pip install "foretell[grpcio]"') from None
    return AioDoor


async def _serve(server: Server, paths: Sequence[Path], told: Callable[[str], None]) -> bool:
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def interrupted() -> None:
        (hurry if stop.is_set() else stop).set()

    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, interrupted)
    await server.bind()
    try:
        starting = asyncio.ensure_future(server.load(paths))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return True
        starting.result()
        _spare_collections()
        _tell(server, told)
        await stopping
        return await _drain(server, hurry)
    finally:
        await server.close()


async def _drain(server: Server, hurry: asyncio.Event) -> bool:
    """Drain, unless somebody at the terminal has no time for it. False: some requests were not answered."""
    draining, hurrying = asyncio.ensure_future(server.drain()), asyncio.ensure_future(hurry.wait())
    await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
    if draining.done():
        hurrying.cancel()
        return draining.result()
    draining.cancel()
    return False


def _spare_collections() -> None:
    """Look for garbage less often, and never among what was loaded: requests leave no circles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _tell(server: Server, told: Callable[[str], None]) -> None:
    scheme = "https" if server.settings.tls_cert is not None else "http"
    host = f"[{server.settings.host}]" if ":" in server.settings.host else server.settings.host
    for served in server.engine.index():
        reason = f": {served.reason}" if served.reason else ""
        told(f'model "{served.name}" version {served.version}: {served.state.value.lower()}{reason}')
    if server.http_port is not None:
        told(f"http: {scheme}://{host}:{server.http_port}")
    if server.grpc_port is not None:
        told(f"grpc: {host}:{server.grpc_port}")


def run(make: Callable[[], Server], paths: Sequence[Path], told: Callable[[str], None]) -> bool:
    """Serve until SIGTERM or SIGINT. False: some requests were not answered when the time to drain was over.

    Args:
        make: Makes the server, in its event loop.
        paths: Of the models.
        told: Takes a line for people.

    Raises:
        ConfigError: A port is taken, or a path holds no model.
    """

    async def main() -> bool:
        return await _serve(make(), paths, told)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where it sees that it is TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigError(f"{option} {port}: {host}:{port} cannot be listened on: {error.strerror}") from None
    bound.setblocking(False)
    return bound


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Return the context of TLS 1.2 or later, or None where it is off.

    Raises:
        ConfigError: A certificate or key cannot be read.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-cert, --tls-key: cannot be read: {error.strerror or error}") from None
    return context
