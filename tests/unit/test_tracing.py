"""When traces are on, where they go, and what of it is loaded when they are off."""

import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from foretell.errors import ConfigError
from foretell.server.observer import Account, observer_of
from foretell.server.tracing import _endpoint, tracer_of


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """An environment without the variables of OpenTelemetry."""
    import os

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector():
    """A collector of OTLP over HTTP: its URL, and what was posted to it."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            posted.append((self.path, dict(self.headers), body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    thread.join()
    server.server_close()


def account():
    return Account(
        door="grpc", route="ModelInfer", request="ModelInfer", id="7", status="OK", started=1.0, ended=2.0, model="ames"
    )


def spans_of(posted):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found = []
    for _, _, body in posted:
        message = ExportTraceServiceRequest()
        message.ParseFromString(body)
        for resource in message.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            found += [(names, span) for scope in resource.scope_spans for span in scope.spans]
    return found


def test_off_by_default_and_nothing_is_loaded():
    script = (
        "import sys, json, foretell.server.run, foretell.server.tracing as t\n"
        "assert t.tracer_of(None, None) is None\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('opentelemetry')]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={})
    assert json.loads(done.stdout) == []
    assert observer_of(0.0, None) is None


@pytest.mark.parametrize(
    "url", ["", "collector", "localhost:4318", "ftp://collector", "http://", "http://[::1", "http://c:x"]
)
def test_a_url_that_is_none(url):
    with pytest.raises(ConfigError, match="--trace-to"):
        tracer_of(url, None)


def test_a_url_without_a_path():
    assert _endpoint("http://c:4318") == _endpoint("http://c:4318/") == "http://c:4318/v1/traces"
    assert _endpoint("https://c/otel/v1/traces") == "https://c/otel/v1/traces"


def test_what_is_missing_is_named(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r'pip install "foretell\[otel\]"'):
        tracer_of("http://localhost:4318", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    assert tracer_of(None, None) is None
    assert "foretell[otel]" in caplog.text


def test_spans_reach_a_collector(collector):
    url, posted = collector
    tracer = tracer_of(url, 1.0)
    tracer.record(account())
    tracer.close()
    tracer.close()
    ((names, span),) = spans_of(posted)
    assert posted[0][0] == "/v1/traces"
    assert names["service.name"] == "foretell"
    assert span.name == "inference.GRPCInferenceService/ModelInfer"
    assert span.end_time_unix_nano - span.start_time_unix_nano == pytest.approx(1e9, abs=1000)


def test_the_environment_says_where_and_who(collector, monkeypatch):
    url, posted = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "prices")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    tracer = tracer_of(None, None)
    tracer.record(account())
    tracer.close()
    ((names, _),) = spans_of(posted)
    assert names["service.name"] == "prices"
    assert {k.lower(): v for k, v in posted[0][1].items()}["x-token"] == "secret"


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
)
def test_the_environment_says_no(monkeypatch, name, value):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    assert tracer_of(None, None) is None


def test_a_share_of_none(collector):
    url, posted = collector
    tracer = tracer_of(url, 0.0)
    tracer.record(account())
    tracer.close()
    assert not posted


def test_a_dead_collector_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("foretell.server.tracing._FLUSH_S", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracer = tracer_of("http://127.0.0.1:9", 1.0)
    for _ in range(5000):  # more than fit in its queue
        tracer.record(account())
    threads = {t.name for t in threading.enumerate()}
    assert any("Otel" in name for name in threads)
    tracer.close()
    for thread in threading.enumerate():
        if "Otel" in thread.name:
            thread.join(30)  # it goes on trying for a while, and draws random numbers, which other tests look after
            assert not thread.is_alive()
