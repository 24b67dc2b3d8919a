"""Spans of requests, by OpenTelemetry: one for each call that runs a model, with one below it for each stage.

A span is made after its request was answered, from instants that were taken anyway; a thread of the library sends
them, and what it cannot send in time is dropped. The library is imported when tracing is on, and here alone.
Knows no HTTP and no gRPC: see `observer.Account`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from foretell.errors import ConfigError
from foretell.request import InferResponse
from foretell.server.observer import Account
from foretell.server.routes import ROUTES

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["SpanTracer", "tracer_of"]

_LOG = logging.getLogger("foretell.server")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_RUNNING = frozenset(("infer", "predict", "invocations", "ModelInfer", "ModelStreamInfer"))
_SERVICE = "inference.GRPCInferenceService"
_SERVERS_FAULT = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))
"""The codes of gRPC that OpenTelemetry counts as errors of a server."""
_PATHS = {route.label: f"{route.method} {route.path}" for route in ROUTES}
_FLUSH_S = 3.0
_MISSING = 'opentelemetry is not installed; pip install "foretell[otel]"'


class SpanTracer:
    """Makes spans with a provider of OpenTelemetry."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from foretell import __version__

        self._provider = provider
        self._tracer = provider.get_tracer("foretell", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._below = set_span_in_context
        self._server = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    def record(self, account: Account) -> None:
        """Make the span of a request, if it ran a model and is sampled."""
        if account.route not in _RUNNING:
            return
        try:
            self._record(account)
        except Exception:  # noqa: BLE001 - whatever a library for watching does, requests are answered
            _LOG.exception("request %s: no span could be made of it", account.id)

    def close(self) -> None:
        """Send what is left, for at most a few seconds. Blocks; safe to call twice."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_FLUSH_S)

    def _record(self, account: Account) -> None:
        # Spans have dates, requests have instants: the difference of now is that of then.
        epoch_s = time.time() - time.perf_counter()
        parent = None
        if account.traceparent:
            parent = self._extract({"traceparent": account.traceparent, "tracestate": account.tracestate})
        span = self._tracer.start_span(
            _name(account),
            parent,
            self._server,
            attributes=_attributes(account),
            start_time=_ns(epoch_s + account.started),
            record_exception=False,
        )
        if span.is_recording():
            if _is_servers_fault(account.status):
                span.set_attribute("error.type", account.code)
                span.set_status(self._failed)
            self._record_stages(account, self._below(span, parent), epoch_s)
        span.end(_ns(epoch_s + account.ended))

    def _record_stages(self, account: Account, context: Any, epoch_s: float) -> None:
        at = epoch_s + account.started
        for name, took_s in account.stages_s().items():
            attributes = None
            if name == "run" and isinstance(account.result, InferResponse):
                batch = account.result.timing
                attributes = {"foretell.batch.rows": batch.batch_rows, "foretell.runtime_ms": batch.run_ns * 1e-6}
            stage = self._tracer.start_span(name, context, attributes=attributes, start_time=_ns(at))
            at += took_s
            stage.end(_ns(at))


def tracer_of(url: str | None, share: float | None) -> SpanTracer | None:
    """Return a tracer, or None where nobody asked for traces.

    Args:
        url: Of a collector that takes OTLP over HTTP; without a path `/v1/traces` is meant. None: as the
            environment says, by the variables of OpenTelemetry.
        share: Of the traces that begin here, 0 to 1, that are kept; a caller's decision holds. None: as the
            environment says, or all.

    Raises:
        ConfigError: The URL is none, or the libraries are missing where a URL was given.
    """
    if url is None and not _environment_asks():
        return None
    endpoint = None if url is None else _endpoint(url)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ModuleNotFoundError:
        if url is not None:
            raise ConfigError(f"--trace-to {url}: {_MISSING}") from None
        _LOG.warning("traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s", _MISSING)
        return None

    from foretell import __version__

    named = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or "foretell", "service.version": __version__}
    provider = TracerProvider(
        None if share is None else ParentBased(TraceIdRatioBased(share)), Resource.create(named), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return SpanTracer(provider)


def _environment_asks() -> bool:
    """Whether the variables of OpenTelemetry ask for traces, in a way that is spoken here."""
    given = os.environ.get
    if given("OTEL_SDK_DISABLED", "").strip().lower() == "true" or "otlp" not in given("OTEL_TRACES_EXPORTER", "otlp"):
        return False
    if not any(given(name) for name in _ENDPOINTS):
        return False
    protocol = next((found for name in _PROTOCOLS if (found := given(name))), "http/protobuf")
    if protocol != "http/protobuf":
        _LOG.warning("traces: off; OTEL_EXPORTER_OTLP_PROTOCOL is %s, only http/protobuf is spoken", protocol)
        return False
    return True


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(f"--trace-to {url}: expected the URL of a collector, such as http://localhost:4318")
    return url if parts.path not in ("", "/") else f"{parts.scheme}://{parts.netloc}/v1/traces"


def _name(account: Account) -> str:
    return _PATHS[account.route] if account.door == "http" else f"{_SERVICE}/{account.route}"


def _attributes(account: Account) -> dict[str, str | int]:
    told: dict[str, str | int] = {
        "foretell.request.id": account.id,
        "foretell.model.name": account.model,
        "foretell.model.version": account.version,
        "foretell.rows": account.rows,
        "foretell.priority": account.priority_name,
        "foretell.code": account.code,
    }
    if account.door == "http":
        method, _, path = _PATHS[account.route].partition(" ")
        return told | {
            "http.request.method": method,
            "http.route": path,
            "http.response.status_code": account.status,
        }
    return told | {
        "rpc.system.name": "grpc",
        "rpc.method": f"{_SERVICE}/{account.route}",
        "rpc.response.status_code": account.status,
    }


def _is_servers_fault(status: int | str) -> bool:
    return status >= 500 if isinstance(status, int) else status in _SERVERS_FAULT


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
