"""The graph every server of the tensor part runs: ONNX Runtime, one intra-op thread. MODEL names the file."""

import os

import numpy as np
import onnxruntime


class OnnxModel:
    """Rows of 30 floats in, two probabilities a row out."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._run = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"]).run

    def __call__(self, rows) -> np.ndarray:
        return self._run(["probabilities"], {"input": np.asarray(rows, np.float32).reshape(-1, 30)})[0]


def answer(probabilities: list[float]) -> dict:
    """Return the answer to one row, in the words of the Open Inference Protocol."""
    output = {"name": "probabilities", "shape": [1, 2], "datatype": "FP32", "data": probabilities}
    return {"model_name": "xgb", "outputs": [output]}
