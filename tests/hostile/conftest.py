"""A real server, and two clients that know their answers: hostile requests must not reach them."""

import http.client
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agreement"))
INFER = "/v2/models/twice/infer"


@pytest.fixture(scope="session")
def besieged(tmp_path_factory):
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("grpc")
    from doors_of import Serving
    from onnx import TensorProto, helper

    path = tmp_path_factory.mktemp("besieged") / "twice.onnx"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], np.array([2], np.float32))
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "twice", [x], [y], [two])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with Serving(path, "--max-body-bytes", 1 << 20) as running:
        yield running


class Neighbour(threading.Thread):
    """A client that asks until it is told to stop, and keeps what was wrong."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self._ask, self._over = ask, threading.Event()
        self.wrong, self.answers = [], 0

    def run(self):
        while not self._over.is_set() and not self.wrong:
            value = np.full((1, 3), self.answers % 1000, np.float32)
            try:
                found = self._ask(value)
            except Exception as error:  # noqa: BLE001 - told in the thread of the test
                self.wrong.append(error)
                return
            if not np.array_equal(found, value * 2):
                self.wrong.append((value, found))
            self.answers += 1
            time.sleep(0.002)

    def stop(self):
        self._over.set()
        self.join(60)


@pytest.fixture
def neighbours(besieged):
    """Two clients beside every test, which must not notice it."""
    line = http.client.HTTPConnection("127.0.0.1", besieged.port, timeout=30)

    def over_http(value):
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": value.reshape(-1).tolist()}
        line.request("POST", INFER, json.dumps({"inputs": [tensor]}))
        return np.array(json.load(line.getresponse())["outputs"][0]["data"], np.float32).reshape(1, 3)

    def over_grpc(value):
        return besieged.infer_grpc("twice", [("x", "FP32", value)], raw=True)["y"]

    asking = [Neighbour(over_http), Neighbour(over_grpc)]
    for one in asking:
        one.start()
    yield
    for one in asking:
        enough = time.monotonic() + 30
        before = one.answers
        while one.answers < before + 3 and not one.wrong and time.monotonic() < enough:
            time.sleep(0.01)
        one.stop()
        assert not one.wrong
        assert one.answers >= before + 3  # it was served, and still is
    line.close()
