"""`foretell serve` as a process: its lines, its exit codes, its end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A graph that doubles its input."""
    path = tmp_path_factory.mktemp("serve") / "twice.onnx"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], np.array([2], np.float32))
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "twice", [x], [y], [two])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def start(*arguments):
    command = [sys.executable, "-m", "foretell.cli.main", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def told(process, pattern):
    """Read lines until one fits."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        found = re.search(pattern, line)
        if found:
            return found[1], lines
    raise AssertionError(lines)


def ask(port, path="/v2/models/twice/infer", body=BODY):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=20) as reply:
        return json.load(reply)


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_stops(model, isolation, number):
    process = start(model, "--http-port", 0, "--no-grpc", "--isolation", isolation)
    try:
        port, lines = told(process, r"http: http://127\.0\.0\.1:(\d+)")
        assert any('model "twice" version 1: ready' in line for line in lines)
        assert ask(port)["outputs"][0]["data"] == [2.0, 4.0, 6.0]
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_broken_model_does_not_hold_up_the_others(model, tmp_path):
    (tmp_path / "twice.onnx").write_bytes(Path(model).read_bytes())
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    process = start(tmp_path, "--http-port", 0, "--no-grpc")
    try:
        port, lines = told(process, r"http: http://127\.0\.0\.1:(\d+)")
        assert any('model "broken" version 1: failed' in line for line in lines)
        assert ask(port)["outputs"][0]["data"] == [2.0, 4.0, 6.0]
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(port, "/v2/models/broken/ready", None)
        assert caught.value.code == 503
        caught.value.close()
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def test_wrong_use(model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, said in (
            ([model, "--http-port", port, "--no-grpc"], f"--http-port {port}: 127.0.0.1:{port} cannot be listened on"),
            ([model, "--no-http", "--grpc-port", port], f"--grpc-port {port}"),
            ([tmp_path / "nothing", "--http-port", 0, "--no-grpc"], "no such file"),
            ([tmp_path, "--http-port", 0, "--no-grpc"], "no model in it"),
            ([model, "--host", "0.0.0.0"], "--api-key-file"),
            ([model, "--max-batch-size", 0, "--http-port", 0, "--no-grpc"], "max_batch_size"),
        ):
            process = start(*arguments)
            _, text = process.communicate(timeout=30)
            assert process.returncode == 2, text
            assert said in text
            assert text.count("\n") == 1
