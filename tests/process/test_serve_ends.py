"""How a server begins and ends: broken models, ports in use, signals while it works, a time to drain that is over."""

import http.client
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import orjson
import pytest

pytest.importorskip("onnx")
grpc = pytest.importorskip("grpc")
HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
import served_models as sm  # noqa: E402
from echo_client import write_models  # noqa: E402
from served_process import alive, serving, until  # noqa: E402

from foretell.protocol import open_inference_pb2 as pb  # noqa: E402

sys.path.remove(HERE)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
WILD = "/v2/models/wild/infer"


@pytest.fixture
def wild(tmp_path):
    path = tmp_path / "wild.onnx"
    path.write_bytes(b"")
    return path


def body(what, much=0.0):
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [what, much]}]}


class Clients:
    """Ask one thing after another over HTTP and gRPC, each in a thread, until the server closes; keep what came."""

    def __init__(self, served, over_http, over_grpc):
        self._served, self._lock = served, threading.Lock()
        self.found = []
        """When the request was sent, and what became of it: `200`, `503 server_draining`, `refused` ..."""
        targets = [self._ask_http] * over_http + [self._ask_grpc] * over_grpc
        self._threads = [threading.Thread(target=target) for target in targets]
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _tell(self, sent, what):
        with self._lock:
            self.found.append((sent, what))

    def _ask_http(self):
        connection, content = http.client.HTTPConnection("127.0.0.1", self._served.port), body(sm.SLEEP, 0.005)
        connected = False
        while True:
            sent = time.monotonic()
            try:
                connection.connect() if not connected else None
                connection.request("POST", WILD, orjson.dumps(content), {"content-type": "application/json"})
                reply = connection.getresponse()
                told = orjson.loads(reply.read())
            except ConnectionRefusedError:
                connection.close()
                return
            except (OSError, http.client.HTTPException) as error:
                self._tell(sent, type(error).__name__)
                connected = False
                connection.close()
                continue
            connected = not reply.will_close
            self._tell(sent, "200" if reply.status == 200 else f"{reply.status} {told['code']}")

    def _ask_grpc(self):
        with grpc.insecure_channel(f"127.0.0.1:{self._served.grpc_port}") as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            message = pb.ModelInferRequest(model_name="wild")
            message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
            message.raw_input_contents.append(np.float32([sm.SLEEP, 0.005]).tobytes())
            while True:
                sent = time.monotonic()
                try:
                    call(message.SerializeToString(), timeout=30)
                except grpc.RpcError as error:
                    self._tell(sent, f"{error.code().name} {error.details()}")
                    if not alive(self._served.pid) or "refused" in error.details():
                        return
                else:
                    self._tell(sent, "200")


def is_ready(served):
    """Ask as a load balancer does, over a connection of its own: not ready either if there is nobody to ask."""
    try:
        return served.ask("/v2/health/ready", timeout_s=5)[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("everywhere", [False, True])
def test_sigterm_under_load(wild, everywhere):
    with serving(wild, made_up="fragile") as served:
        clients = Clients(served, 12, 4)
        until(lambda: len(clients.found) > 100)
        told = time.monotonic()
        if everywhere:  # as systemd does it, and a terminal with Ctrl-C
            for pid in served.workers():
                os.kill(pid, signal.SIGTERM)
        served.process.send_signal(signal.SIGTERM)
        took = until(lambda: not is_ready(served))
        code = served.process.wait(30)
        ended = time.monotonic() - told
        clients.join()
        before = Counter(what for sent, what in clients.found if sent < told)
        after = Counter(what for sent, what in clients.found if sent >= told)
        print(f"\nnot ready after {took * 1e3:.0f} ms, ended after {ended:.2f} s, asked before {before}, after {after}")
        assert code == 0
        assert set(before) == {"200"}
        assert served.lines[-1].startswith("foretell: grpc: ")


@pytest.fixture
def connect():
    """Open connections that are closed in the end."""
    with ExitStack() as opened:
        yield lambda served: opened.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=60))


def talking(connection):
    """Return a connection that has been answered once, and stays."""
    connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b" 200 OK" in connection.recv(1 << 16)
    return connection


def request(what, much=0.0):
    content = orjson.dumps(body(what, much))
    return b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (
        WILD.encode(),
        len(content),
        content,
    )


def said_by(connection):
    """Return everything a server still says, until it closes."""
    said = b""
    while data := connection.recv(1 << 16):
        said += data
    return said


def test_what_has_arrived_before_sigterm_is_answered(wild, connect):
    with serving(wild, made_up="fragile") as served:
        old = [talking(connect(served)) for _ in range(5)]
        served.process.send_signal(signal.SIGSTOP)  # so that it finds all of this at once
        new = [connect(served) for _ in range(5)]
        for connection in old + new:
            connection.sendall(request(sm.TWICE, 3))
        assert served.end(signal.SIGTERM, signal.SIGCONT) == 0
        for connection in old + new:
            said = said_by(connection)
            assert said.startswith(b"HTTP/1.1 200 OK")


def test_sigterm_again_changes_nothing_and_sigint_again_ends_at_once(wild, connect):
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 5)):
        with serving(wild, made_up="fragile") as served:
            connection, idle = talking(connect(served)), talking(connect(served))
            connection.sendall(request(sm.SLEEP, 1.0))
            until(lambda served=served: served.sum_of("foretell_in_flight_requests") == 1)
            workers = served.workers()
            served.process.send_signal(number)
            assert said_by(idle) == b""
            until(lambda served=served: not is_ready(served))
            served.process.send_signal(number)
            said = said_by(connection)
            assert served.process.wait(20) == code
            assert said.startswith(b"HTTP/1.1 200 OK" if code == 0 else b"HTTP/1.1 503 ")
            until(lambda workers=workers: not any(map(alive, workers)))


def test_when_the_time_to_drain_is_over_the_rest_is_told(wild, connect):
    with serving(wild, "--drain", 0.3, made_up="fragile") as served:
        connection = talking(connect(served))
        connection.sendall(request(sm.SLEEP, 60))
        until(lambda: served.sum_of("foretell_in_flight_requests") == 1)
        assert served.end() == 5
        said = said_by(connection)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"server_draining"' in said


def test_sigterm_while_a_model_loads(wild):
    with serving(wild, made_up="endless", ready=False) as served:
        until(served.workers)
        workers = served.workers()
        assert served.end() == 0
        assert served.lines == []
        until(lambda: not any(map(alive, workers)))


def test_a_broken_model_says_why_and_the_others_live_on(tmp_path):
    write_models(tmp_path)
    (tmp_path / "wide.onnx").unlink()
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x04cos\nsystem\n.")
    with serving(tmp_path) as served:
        for name in ("broken", "evil"):
            status, told = served.ask(f"/v2/models/{name}/ready")
            assert (status, told["ready"], told["code"]) == (503, False, "model_not_ready")
            reason = next(line for line in served.lines if f'model "{name}"' in line).partition("failed: ")[2].strip()
            assert reason[:100] in told["error"]
            with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
                message = pb.ModelReadyRequest(name=name).SerializeToString()
                answer = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")(message)
            assert answer == b""
        assert served.ask("/v2/models/echo/ready") == (200, {"name": "echo", "ready": True})
        assert served.ask("/v2/health/ready")[0] == 503
        assert served.ask("/v2/health/live")[0] == 200
        nothing = {"inputs": [{"name": "word", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]},
                              {"name": "nonce", "datatype": "INT64", "shape": [1, 1], "data": [7]}]}  # fmt: skip
        assert served.ask("/v2/models/words/infer", nothing)[1]["outputs"][0]["data"] == [35]
        assert served.end() == 0


def test_failures_are_logged_under_their_ids_and_so_are_deaths(wild):
    with serving(wild, made_up="fragile") as served:
        failed, crashed = served.ask(WILD, body(sm.FAIL)), served.ask(WILD, body(sm.ABORT))
        assert (failed[0], failed[1]["code"]) == (500, "inference_failed")
        assert "/no/such" not in failed[1]["error"]
        assert (crashed[0], crashed[1]["code"]) == (500, "worker_crashed")
        assert served.end() == 0
        logged = [orjson.loads(line) for line in served.lines if line.startswith("{")]
        (of_failed,) = [entry for entry in logged if entry.get("id") == failed[1]["id"]]
        assert of_failed["code"] == "inference_failed"
        assert of_failed["message"] == "ValueError: made up: /no/such/file"
        (of_crashed,) = [entry for entry in logged if entry.get("id") == crashed[1]["id"]]
        assert of_crashed["code"] == "worker_crashed"
        deaths = [entry["message"] for entry in logged if "id" not in entry]
        assert len(deaths) == 2
        assert all("killed by SIGABRT" in message for message in deaths)
