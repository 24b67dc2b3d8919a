"""A model that runs in ONNX Runtime leaves no record of itself in the user's home."""

import os
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

CODE = "import foretell, numpy, sys; print(foretell.load(sys.argv[1]).predict(numpy.ones((1, 2), 'f')).values)"


def test_nothing_is_gathered_for_the_makers_of_onnx_runtime(tmp_path):
    shape = [None, 2]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    path, home = tmp_path / "m.onnx", tmp_path / "home"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    home.mkdir()
    given = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    command = [sys.executable, "-c", CODE, str(path)]
    done = subprocess.run(command, env=given | {"HOME": str(home)}, check=True, capture_output=True, text=True)
    assert done.stdout.split() == str(np.full((1, 2), 2.0, np.float32)).split()
    assert list(home.rglob("*")) == []
