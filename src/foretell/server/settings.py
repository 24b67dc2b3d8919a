"""The settings of the doors. Knows no command line and no engine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import ConfigError

__all__ = ["ServerSettings"]


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where to listen, whom to let in, and how much to take from one client."""

    host: str = "127.0.0.1"
    http_port: int | None = 8000
    """0: any free one. None: no HTTP."""
    grpc_port: int | None = 8001
    """0: any free one. None: no gRPC."""
    grpc_door: str = "own"
    """`own`: on the HTTP/2 of this package. `aio`: on the library grpc.aio."""
    api_key_file: Path | None = None
    """Keys, one a line: every request but those for health needs one as `Authorization: Bearer KEY`."""
    insecure_no_auth: bool = False
    """Listen on an address that others can reach, without keys."""
    admin: bool = False
    """Allow models to be loaded and unloaded by requests: those under the given paths, no others."""
    allowed_hosts: tuple[str, ...] = ()
    """Names a client may call this server by, besides those of this machine's loopback."""
    allowed_origins: tuple[str, ...] = ()
    """Pages of these origins may send requests, besides the server's own."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Clients must have a certificate of this authority."""
    max_body_bytes: int = 16 << 20
    max_bodies_bytes: int = 256 << 20
    """Bytes of all bodies being received at once."""
    max_url_bytes: int = 8 << 10
    max_headers: int = 100
    max_header_bytes: int = 32 << 10
    """All headers of a request together."""
    max_connections: int = 1024
    headers_s: float = 10.0
    """Longest time for the headers of a request to arrive."""
    body_s: float = 30.0
    """Longest time for a body to arrive, which must also keep up `min_body_rate`."""
    min_body_rate: float = 1024.0
    """Bytes per second a body must come with, after the first five seconds."""
    idle_s: float = 60.0
    """How long a connection may wait between requests."""
    write_s: float = 30.0
    """How long a client may take nothing of an answer."""
    drain_s: float = 30.0
    """How long requests in flight may take after SIGTERM."""
    log_requests: float = 0.0
    """Share of requests that are logged, one JSON line each. Errors of the server are always logged."""
    trace_to: str | None = None
    """Collector that takes spans, OTLP over HTTP. None: as the variables OTEL_* say, which say nothing by default."""
    trace_share: float | None = None
    """Share of the traces that begin here that are kept. None: as OTEL_TRACES_SAMPLER says, or all."""

    def __post_init__(self) -> None:
        if not self.is_local and self.api_key_file is None and not self.insecure_no_auth:
            raise ConfigError(
                f"--host {self.host}: others can reach this address; give --api-key-file, or --insecure-no-auth"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key: one is given without the other")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("--tls-client-ca: it needs --tls-cert and --tls-key")
        if not 0 <= self.log_requests <= 1:
            raise ConfigError(f"--log-requests {self.log_requests:g}: expected a share from 0 to 1")
        if self.trace_share is not None and not 0 <= self.trace_share <= 1:
            raise ConfigError(f"--trace-share {self.trace_share:g}: expected a share from 0 to 1")
        for name in ("max_body_bytes", "max_connections", "drain_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"setting {name}: {getattr(self, name)}, expected more than 0")
        for name, port in (("http", self.http_port), ("grpc", self.grpc_port)):
            if port is not None and not 0 <= port < 1 << 16:
                raise ConfigError(f"--{name}-port {port}: expected 0 to 65535")
        if self.grpc_door not in ("own", "aio"):
            raise ConfigError(f"setting grpc_door: {self.grpc_door}, expected own or aio")
        if self.http_port is None and self.grpc_port is None:
            raise ConfigError("--no-http and --no-grpc: nothing is left to listen on")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
