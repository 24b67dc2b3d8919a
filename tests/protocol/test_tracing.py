"""Spans and log lines of requests that came over real sockets."""

import http.client
import itertools
import json
import logging
import time

import pytest

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from foretell.server.tracing import SpanTracer

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INFER = "/v2/models/echo/infer"
STAGES = ["prepare", "queue", "run", "answer"]


@pytest.fixture(scope="module")
def exporter():
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def traced(serve, exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return serve(tracer=SpanTracer(provider), log_requests=1.0, grpc_port=0)


@pytest.fixture
def spans(exporter):
    """Wait until so many calls have their span, and return all spans."""
    exporter.clear()

    def take(calls):
        # A span may be made just after its answer is written.
        return until(
            lambda: exporter.get_finished_spans(), lambda s: sum(x.kind is SpanKind.SERVER for x in s) >= calls
        )

    return take


def until(take, is_enough):
    end = time.monotonic() + 20
    while not is_enough(found := take()):
        assert time.monotonic() < end, found
        time.sleep(0.005)
    return found


@pytest.fixture
def lines():
    found = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append(record.msg)

    handler, logger = Keep(), logging.getLogger("foretell.requests")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.setLevel(before)
    logger.removeHandler(handler)


def tensor(rows=1):
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": [1.0] * 3 * rows}]}


def post(server, path, document, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request("POST", path, json.dumps(document), {"content-type": "application/json"} | given)
        reply = connection.getresponse()
        return reply.status, reply.getheader("x-request-id"), json.loads(reply.read())
    finally:
        connection.close()


def test_a_span_with_its_stages(traced, spans):
    assert post(traced, INFER, tensor(2), x_request_id="r1")[0] == 200
    *stages, whole = spans(1)
    assert whole.name == "POST /v2/models/{model}/infer"
    assert whole.kind is SpanKind.SERVER
    assert whole.parent is None
    told = dict(whole.attributes)
    assert told == {
        "foretell.request.id": "r1",
        "foretell.model.name": "echo",
        "foretell.model.version": "1",
        "foretell.rows": 2,
        "foretell.priority": "interactive",
        "foretell.code": "ok",
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
    }
    assert [s.name for s in stages] == STAGES
    assert {s.parent.span_id for s in stages} == {whole.context.span_id}
    assert stages[2].attributes["foretell.batch.rows"] == 2
    # One after the other, from the first byte to the last.
    assert stages[0].start_time == whole.start_time
    assert all(a.end_time == b.start_time for a, b in itertools.pairwise(stages))
    assert abs(stages[-1].end_time - whole.end_time) < 10_000


@pytest.mark.parametrize("path", [INFER, "/v1/models/echo:predict"])
def test_a_trace_goes_on_through_a_remembered_head(traced, spans, path):
    document = tensor() if path == INFER else {"instances": [[1, 2, 3]]}
    headers = {"content-type": "application/json", "traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
    connection = http.client.HTTPConnection("127.0.0.1", traced.port, timeout=20)
    for _ in range(4):
        connection.request("POST", path, json.dumps(document), headers)
        reply = connection.getresponse()
        assert (reply.status, bool(reply.read())) == (200, True)
    connection.close()
    wholes = [s for s in spans(4) if s.kind is SpanKind.SERVER]
    assert len(wholes) == 4
    for span in wholes:
        assert f"{span.context.trace_id:032x}" == TRACE
        assert f"{span.parent.span_id:016x}" == PARENT
        assert span.context.trace_state.get("a") == "b"


def test_what_the_caller_does_not_sample_is_not_kept(traced, spans):
    assert post(traced, INFER, tensor(), traceparent=f"00-{TRACE}-{PARENT}-00")[0] == 200
    assert post(traced, INFER, tensor(), x_request_id="next")[0] == 200
    assert [s.attributes["foretell.request.id"] for s in spans(1) if s.kind is SpanKind.SERVER] == ["next"]


@pytest.mark.parametrize("given", ["00-0-0-01", "x" * 300, f"ff-{TRACE}-{PARENT}-01", ""])
def test_a_wrong_traceparent_begins_a_trace(traced, spans, given):
    assert post(traced, INFER, tensor(), traceparent=given)[0] == 200
    assert spans(1)[-1].parent is None


def test_errors_of_the_caller_and_of_the_server(traced, spans):
    assert post(traced, INFER, {"inputs": []})[0] == 400
    (refused,) = spans(1)
    assert refused.status.status_code is StatusCode.UNSET
    assert refused.attributes["foretell.code"] == "malformed_request"
    assert post(traced, "/v2/models/failing/infer", tensor())[0] == 500
    failed = spans(2)[-1]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "inference_failed"
    assert failed.attributes["foretell.model.name"] == "failing"
    assert failed.attributes["foretell.rows"] == 1


def test_only_calls_that_run_a_model(traced, spans):
    connection = http.client.HTTPConnection("127.0.0.1", traced.port, timeout=20)
    for path in ("/metrics", "/v2/health/live", "/v2/models/echo"):
        connection.request("GET", path)
        connection.getresponse().read()
    connection.close()
    assert post(traced, INFER, tensor())[0] == 200
    assert len([s for s in spans(1) if s.kind is SpanKind.SERVER]) == 1


def test_nothing_is_kept_at_a_share_of_none(serve, exporter, spans):
    provider = TracerProvider(ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    server = serve(only=("echo",), tracer=SpanTracer(provider))
    assert post(server, INFER, tensor())[0] == 200
    assert post(server, INFER, tensor(), traceparent=f"00-{TRACE}-{PARENT}-01")[0] == 200
    assert all(f"{span.context.trace_id:032x}" == TRACE for span in spans(1))


def test_a_tracer_that_fails_costs_no_answer(serve, caplog):
    tracer = SpanTracer(TracerProvider(shutdown_on_exit=False))
    tracer._tracer = None
    server = serve(only=("echo",), tracer=tracer)
    assert post(server, INFER, tensor())[0] == 200
    until(lambda: caplog.text, lambda text: "no span" in text)


def test_headers_of_traces_are_not_kept_while_nobody_asks(server):
    assert b"traceparent" not in server.server._desk.wanted


def test_a_line_of_the_log(traced, lines):
    _, request_id, _ = post(traced, INFER, tensor(3), x_request_priority="bulk")
    (line,) = until(lambda: lines, len)
    stages = [line.pop(f"{stage}_ms") for stage in STAGES]
    assert abs(sum(stages) - line.pop("ms")) < 0.01
    assert line == {
        "door": "http",
        "id": request_id,
        "request": f"POST {INFER}",
        "model": "echo",
        "version": "1",
        "rows": 3,
        "priority": "bulk",
        "status": 200,
        "code": "ok",
    }


def test_a_line_of_a_refusal(traced, lines):
    post(traced, "/v1/models/house:predict", {"instances": [{"area": "x"}]})
    (line,) = until(lambda: lines, len)
    assert (line["model"], line["status"], line["code"]) == ("house", 400, "invalid_input")
    assert "run_ms" not in line
