"""`foretell bench URL` against servers on real sockets: this one, one of few words, and some that misbehave."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from foretell.bench.lines import Target
from foretell.bench.load import closed_loop, open_loop
from foretell.cli.main import main


def bench(capsys, *arguments):
    code = main(["bench", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out or said.err


@pytest.mark.parametrize("path", ["/v2/models/echo", "/v2/models/echo/versions/1/infer", "/v1/models/house:predict"])
def test_a_model_of_this_server(server, capsys, path):
    url = server.url + path
    code, said = bench(capsys, url, "--json", "--connections", "1,3", "--seconds", 0.1, "--rows", 2)
    assert code == 0, said
    told = json.loads(said)
    assert [run["connections"] for run in told["runs"]] == [1, 3]
    for run in told["runs"]:
        assert run["answers"] > 0
        assert not run["errors"]
        assert set(run["server_timing_ms"]) == {"queue", "run", "total"}
        assert 0 < run["p50_ms"] <= run["p99_ms"] <= run["p99.9_ms"]


def test_an_open_loop_asks_what_is_due(server, capsys):
    code, said = bench(capsys, f"{server.url}/v2/models/echo", "--json", "--rate", 200, "--seconds", 0.25)
    assert code == 0, said
    (run,) = json.loads(said)["runs"]
    assert run["answers"] == 50
    assert run["rate"] == 200
    assert not run["errors"]


def test_the_text(server, capsys):
    code, said = bench(capsys, f"{server.url}/v2/models/echo", "--connections", 2, "--seconds", 0.05)
    assert code == 0
    assert "requests/s" in said
    assert said.startswith(f"{server.url}/v2/models/echo/infer: 1 row a request")


def test_the_only_model_need_not_be_named(serve, capsys):
    code, said = bench(capsys, serve(only=("echo",)).url, "--connections", 1, "--seconds", 0.05)
    assert code == 0, said


def test_a_deadline_is_sent_and_refusals_are_counted_by_code(server, hold):
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()
    head = (
        "POST /v2/models/{}/infer HTTP/1.1\r\nhost: localhost\r\nx-request-timeout-ms: 30\r\ncontent-length: {}\r\n\r\n"
    )
    messages = [head.format(name, len(body)).encode() + body for name in ("failing", "held", "echo")]
    run = asyncio.run(closed_loop(Target("127.0.0.1", server.port, messages), 1, 0.3, 0.0))
    hold.open.set()
    assert run.errors["inference_failed"] > 0
    assert run.errors["deadline_exceeded"] + run.errors["overloaded"] > 0
    assert len(run.times_s) > 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{url}"], 2, "name one"),
        (["{url}/v2/models/nothing"], 2, "is the name right"),
        (["{url}/v2/models/failing"], 3, "inference_failed"),
        (["{url}/nowhere"], 2, "name a model"),
        (["http://127.0.0.1:{closed}"], 2, "no answer"),
        (["http://"], 2, "expected http://host:port"),
        (["http://x:99999999"], 2, "no URL"),
        (["{url}/v2/models/echo", "--rate", "0"], 2, "--rate 0"),
        (["{url}/v2/models/echo", "--rows", "-1"], 2, "--rows -1"),
        (["{url}/v2/models/echo", "--connections", "1,x"], 2, "--connections 1,x"),
        (["{url}/v2/models/echo", "--header", "nothing"], 2, "--header"),
        (["{url}/v2/models/echo", "--header", "a: b\r\nc: d"], 2, "--header"),
    ],
)
def test_what_cannot_be_measured(server, capsys, arguments, code, said):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    found, text = bench(capsys, *(a.format(url=server.url, closed=closed) for a in arguments))
    assert found == code, text
    assert said in text
    assert text.count("\n") == 1


def test_a_key_is_asked_for_and_sent(serve, capsys, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\n")
    keys.chmod(0o600)
    url = f"{serve(only=('echo',), api_key_file=keys).url}/v2/models/echo"
    code, said = bench(capsys, url, "--seconds", 0.05)
    assert (code, "--header" in said) == (2, True)
    key = "authorization: Bearer 0123456789abcdef"
    code, said = bench(capsys, url, "--seconds", 0.05, "--connections", 1, "--header", key)
    assert code == 0, said


class Plain(BaseHTTPRequestHandler):
    """A server of the Open Inference Protocol that says no more than it must, and closes after each answer."""

    bodies: ClassVar[list[bytes]] = []

    def do_GET(self):
        inputs = [
            {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "s", "datatype": "BYTES", "shape": [-1]},
        ]
        self.say({"name": "m", "inputs": inputs} if self.path == "/v2/models/m" else None)

    def do_POST(self):
        Plain.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.say({"outputs": []} if self.path == "/v2/models/m/infer" else None)

    def say(self, document):
        body = json.dumps(document).encode()
        self.send_response(404 if document is None else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def running(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # clients that hang up
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_of_few_words(capsys):
    with running(Plain) as port:
        url = f"http://127.0.0.1:{port}/v2/models/m"
        code, said = bench(capsys, url, "--json", "--rows", 3, "--connections", 2, "--seconds", 0.2)
    assert code == 0, said
    (run,) = json.loads(said)["runs"]
    assert run["answers"] > 1
    assert not run["errors"]
    assert run["server_timing_ms"] == {}
    x, s = json.loads(Plain.bodies[-1])["inputs"]
    assert (x["shape"], len(x["data"]), s["shape"], s["data"]) == ([3, 2], 6, [3], ["a", "a", "a"])


@contextmanager
def answering(said):
    """A server that says this to each request and hangs up; None: says nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    kept = []

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            if said is None:
                kept.append(connection)
                continue
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for connection in kept:
            connection.close()


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"])
def test_a_server_that_hangs_up(said):
    with answering(said) as port:
        run = asyncio.run(closed_loop(Target("127.0.0.1", port, [b"x"]), 2, 0.2, 0.0))
    assert run.errors["connection_lost"] > 1
    assert not run.times_s


def test_a_server_that_says_nothing(monkeypatch):
    monkeypatch.setattr("foretell.bench.load._LATE_S", 0.05)
    monkeypatch.setattr("foretell.bench.load._GRACE_S", 0.1)
    with answering(None) as port:
        target = Target("127.0.0.1", port, [b"x"])
        assert asyncio.run(closed_loop(target, 3, 0.1, 0.0)).errors == {"unanswered": 3}
        assert asyncio.run(open_loop(target, 100, 2, 0.1)).errors == {"unanswered": 10}


def test_a_server_that_has_gone():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    run = asyncio.run(closed_loop(Target("127.0.0.1", port, [b"x"]), 1, 0.2, 0.0))
    assert run.errors["no_connection"] > 0
