"""The graph every server of the tensor part runs: ONNX Runtime, one intra-op thread. MODEL names the file."""

import os
from functools import cached_property

import numpy as np
import onnxruntime


class OnnxModel:
    """Rows of 30 floats in, two probabilities a row out. Opens at the first call, so that processes can pass it on."""

    @cached_property
    def _run(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"]).run

    def __call__(self, rows) -> np.ndarray:
        return self._run(["probabilities"], {"input": np.asarray(rows, np.float32).reshape(-1, 30)})[0]


def answer(probabilities: list[float]) -> dict:
    """Return the answer to one row, in the words of the Open Inference Protocol."""
    output = {"name": "probabilities", "shape": [1, 2], "datatype": "FP32", "data": probabilities}
    return {"model_name": "xgb", "outputs": [output]}
