"""A model of 30 floats that costs the same for every row, whatever the batch: a small convolutional network on a map.

Its width is fitted to the machine, so that a row takes about 1.75 ms of one core.
"""

import os
import time
from pathlib import Path

import numpy as np
from common import session

ROW_S = 0.001_75
_SIDE = 32
_STEP = 8


def graph(width: int) -> bytes:
    """Return the ONNX file of the network with so many channels."""
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(0)

    def weight(name: str, *shape: int):
        values = random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    node, nodes, at = helper.make_node, [], "map"
    weights = [weight("w", 30, _SIDE * _SIDE), weight("head", width, 2), weight("c0", width, 1, 3, 3)]
    weights += [weight(f"c{i}", width, width, 3, 3) for i in (1, 2)]
    weights.append(numpy_helper.from_array(np.array([-1, 1, _SIDE, _SIDE]), "shape"))
    nodes += [node("MatMul", ["input", "w"], ["flat"]), node("Reshape", ["flat", "shape"], ["map"])]
    for layer in range(3):
        nodes.append(node("Conv", [at, f"c{layer}"], [f"conv{layer}"], pads=[1] * 4))
        nodes.append(node("Relu", [f"conv{layer}"], [f"relu{layer}"]))
        at = f"relu{layer}"
    nodes += [node("GlobalAveragePool", [at], ["mean"]), node("Flatten", ["mean"], ["features"])]
    nodes += [node("MatMul", ["features", "head"], ["scores"])]
    nodes += [node("Softmax", ["scores"], ["probabilities"], axis=1)]
    floats = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("input", floats, ["n", 30])]
    outputs = [helper.make_tensor_value_info("probabilities", floats, ["n", 2])]
    model = helper.make_model(
        helper.make_graph(nodes, "slow", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def row_s(content: bytes, rows: int, turns: int = 15) -> float:
    """Return the seconds of processor a row takes in batches of so many, the median of several; one thread."""
    run, x = session(content, 1), np.random.default_rng(1).normal(size=(rows, 30)).astype(np.float32)
    taken = []
    for _ in range(turns):
        start = time.thread_time()
        run.run(None, {"input": x})
        taken.append(time.thread_time() - start)
    return float(np.median(taken[2:])) / rows


def fitted(path: Path, core: int) -> dict[int, float]:
    """Write the network whose row takes about `ROW_S` on a core; return the seconds a row takes in batches of 1 and 8.

    The processor's own time is taken, not the wall's: others may use the core at the same time.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        width = 64
        for _ in range(2):
            width = max(_STEP, round(width * (ROW_S / row_s(graph(width), 4)) ** 0.5 / _STEP) * _STEP)
        content = graph(width)
        path.write_bytes(content)
        return {rows: row_s(content, rows) for rows in (1, 8)}
    finally:
        os.sched_setaffinity(0, before)
