"""ModelStreamInfer in which the newest request wins, through both doors."""

import queue
import threading
import time

import numpy as np
import pytest

from foretell.protocol import open_inference_pb2 as pb

grpc = pytest.importorskip("grpc")
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@pytest.fixture(params=["own", "aio"])
def start(request, serve):
    return lambda *only, **more: serve(only=only, http_port=None, grpc_port=0, grpc_door=request.param, **more)


def question(value, model="held", mode="latest", id=""):
    made = pb.ModelInferRequest(model_name=model, id=id or f"{value}")
    if mode is not None:
        made.parameters["stream_mode"].string_param = mode
    tensor = made.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    del tensor
    made.raw_input_contents.append(np.array([[value, 0, 0]], np.float32).tobytes())
    return made.SerializeToString()


class Stream:
    """A stream to which requests are given one by one."""

    def __init__(self, server, **more):
        self._channel = grpc.insecure_channel(server.grpc)
        self._asked: queue.SimpleQueue = queue.SimpleQueue()
        self.call = self._channel.stream_stream(STREAM)(iter(self._asked.get, None), **more)

    def ask(self, *questions):
        for data in questions:
            self._asked.put(data)

    def answers(self, count):
        found = [pb.ModelStreamInferResponse.FromString(next(self.call)) for _ in range(count)]
        return [(f.infer_response, f.error_message) for f in found]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._asked.put(None)
        self._channel.close()


def told(answer):
    found = answer.parameters
    return found["frame"].int64_param, found["dropped"].int64_param


def until(claim):
    enough = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < enough
        time.sleep(0.005)


def counted(server, outcome, model="held"):
    return server.server.engine.metrics.stream_frames.child(model, "1", outcome).value


def test_the_newest_request_wins(start, hold):
    server = start("held")
    with Stream(server) as stream:
        stream.ask(question(1))
        until(lambda: hold.rows)
        stream.ask(*(question(i, mode=None) for i in range(2, 51)))
        until(lambda: counted(server, "dropped") == 48)
        hold.open.set()
        (first, _), (last, _) = stream.answers(2)
    assert (first.id, *told(first)) == ("1", 0, 0)
    assert (last.id, *told(last)) == ("50", 49, 48)
    assert np.frombuffer(last.raw_output_contents[0], np.float32) == [50]
    assert last.parameters["age_us"].int64_param > 0
    assert counted(server, "answered") == 2
    assert len(hold.rows) == 2


def test_without_the_parameter_every_request_is_answered(start, hold):
    server = start("held")
    with Stream(server) as stream:
        stream.ask(*(question(i, mode="every" if i == 1 else None) for i in range(1, 21)))
        until(lambda: hold.rows)
        hold.open.set()
        found = stream.answers(20)
    assert [answer.id for answer, _ in found] == [str(i) for i in range(1, 21)]
    assert not any("frame" in answer.parameters for answer, _ in found)


def test_errors_are_answers(start):
    server = start("echo", "failing")
    with Stream(server) as stream:
        stream.ask(question(1, "echo", "newest"))
        ((_, error),) = stream.answers(1)
        assert '"latest" or "every"' in error
        stream.ask(question(2, "echo"))
        ((answer, error),) = stream.answers(1)
        assert (error, told(answer)) == ("", (0, 0))
        stream.ask(question(3, "nothing"))
        ((answer, error),) = stream.answers(1)
        assert "nothing" in error
        assert told(answer) == (1, 0)
        stream.ask(question(4, "failing"))
        ((answer, error),) = stream.answers(1)
        assert "secret" not in error
        assert told(answer) == (2, 0)
        stream.ask(b"\xff\xff")
        ((answer, error),) = stream.answers(1)
        assert error
    assert counted(server, "failed", "echo") == 3


def test_a_model_that_is_not_there(start):
    with Stream(start("echo")) as stream:
        stream.ask(question(1, "nothing"))
        ((_, error),) = stream.answers(1)
        assert "nothing" in error
        stream.ask(question(2, "echo"))
        ((answer, error),) = stream.answers(1)
        assert not error
        assert answer.id == "2"


def test_a_stream_ends_when_what_waits_is_answered(start, hold):
    server = start("held")
    with Stream(server) as stream:
        stream.ask(question(1))
        until(lambda: hold.rows)
        stream.ask(question(2), None)
        time.sleep(0.05)
        hold.open.set()
        found = [pb.ModelStreamInferResponse.FromString(data).infer_response.id for data in stream.call]
        assert found == ["1", "2"]
        assert stream.call.code() is grpc.StatusCode.OK


def test_whoever_hangs_up_takes_its_requests_back(start, hold):
    server = start("held")
    with Stream(server) as stream:
        stream.ask(question(1))
        until(lambda: hold.rows)
        stream.ask(question(2))
        until(lambda: server.server.engine.find("held").pending)
    until(lambda: not server.server.engine.find("held").pending)
    with Stream(server) as stream:
        stream.ask(question(7))
        hold.open.set()
        ((answer, _),) = stream.answers(1)
        assert answer.id == "7"


def test_streams_of_both_kinds_take_turns(serve, hold):
    """A WebSocket and a gRPC stream on one instance."""
    from websockets.sync.client import connect

    server = serve(only=("held",), grpc_port=0)
    address = f"ws://127.0.0.1:{server.port}/v1/models/held:stream?mode=latest"
    with connect(address) as socket, Stream(server) as stream:
        socket.send('{"instances":[[1,0,0]]}')
        until(lambda: hold.rows)
        stream.ask(question(5))
        for i in range(2, 6):
            socket.send(f'{{"instances":[[{i},0,0]]}}')
        until(lambda: counted(server, "dropped") == 3)
        assert len(hold.rows) == 1
        threading.Timer(0.05, hold.open.set).start()
        ((answer, _),) = stream.answers(1)
        assert answer.id == "5"
        assert ['"frame":0' in socket.recv(5), '"frame":4' in socket.recv(5)] == [True, True]
