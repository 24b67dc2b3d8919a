"""A connection that has ended is gone, with the last it carried, although nobody looks for circles of objects."""

import gc
import http.client
import time
import weakref

import numpy as np
import pytest

BODY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def until(true):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def held_by(server, connections):
    """Return weak references to what a server holds of its connections."""

    async def look():
        return [weakref.ref(connection) for connection in connections]

    return server.do(look())


def test_http(server, no_collector):
    client = http.client.HTTPConnection("127.0.0.1", server.port)
    for content in (BODY, BODY, BODY, b" " * 100_000 + BODY):
        client.request("POST", "/v2/models/echo/infer", content)
        with client.getresponse() as reply:
            assert reply.status == 200
            reply.read()
    held = held_by(server, server.server._desk.connections)
    assert held
    client.close()
    until(lambda: not any(ref() for ref in held))


def test_grpc(server, no_collector):
    grpcclient = pytest.importorskip("tritonclient.grpc")
    with grpcclient.InferenceServerClient(server.grpc) as client:
        tensor = grpcclient.InferInput("x", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
        for _ in range(3):
            client.infer("echo", [tensor])
        held = held_by(server, server.server._grpc.connections)
        assert held
    until(lambda: not any(ref() for ref in held))
