"""docs/tracing.md has the names of every span and attribute; docs/protocols.md the fields of a request's log line."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
from tests.docs.tables import names, rows, text

from foretell.request import Batch, InferResponse
from foretell.server.logs import JsonLines, RequestLog
from foretell.server.observer import Account
from foretell.server.tracing import _ENDPOINTS, _RUNNING


def accounts() -> list[Account]:
    """An account of each route that runs a model, answered and failed."""
    answer = InferResponse(Batch("m", "1", [np.zeros(1)], 1, 1.2, 10**6, 1.3), "", 0, 1, 1.1)
    found = []
    for route in sorted(_RUNNING):
        door = "grpc" if route.startswith("Model") else "http"
        for result, status in (
            (answer, 200 if door == "http" else "OK"),
            (None, 500 if door == "http" else "INTERNAL"),
        ):
            found.append(
                Account(
                    door=door, route=route, request="POST /", id="7", status=status, started=1.0, ended=1.4,
                    settled=1.35, result=result,
                )
            )  # fmt: skip
    return found


def test_every_span_and_attribute_is_told() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from foretell.server.tracing import SpanTracer

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = SpanTracer(provider)
    for account in accounts():
        tracer.record(account)
    spans = exporter.get_finished_spans()
    assert {name for row in rows("tracing.md", "span") for name in names(row[0])} == {span.name for span in spans}
    made = {name for span in spans for name in (span.attributes or {})}
    assert {name for row in rows("tracing.md", "attribute") for name in names(row[0])} == made


def test_the_variables_are_told() -> None:
    for name in _ENDPOINTS:
        assert f"`{name}`" in text("tracing.md")


def test_every_field_of_a_log_line_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "foretell.requests")
    for account in accounts():
        RequestLog(1.0).write(account)
    lines: list[dict[str, Any]] = [json.loads(JsonLines().format(record)) for record in caplog.records]
    assert len(lines) == len(accounts())
    told = [name for row in rows("protocols.md", "field") for name in names(row[0])]
    assert sorted(told) == sorted({name for line in lines for name in line})
