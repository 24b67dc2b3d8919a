"""The slow model served by mosec, as its documentation has it: one worker, batches of up to 8 rows.

    python mosec_overload.py MODEL --port N --timeout MS

Takes and gives the JSON of the Open Inference Protocol, so that both servers are sent the same bytes. Runs in an
environment of its own.
"""

import os
import sys

import numpy as np
import onnxruntime
from mosec import Server, Worker

NAME = "mosec-overload"
REQUIREMENTS = ("mosec==0.9.8", "onnxruntime>=1.27", "numpy>=2")
_BATCH_ROWS = 8
_WAIT_MS = 1


class Slow(Worker):
    """Runs the model on what waits."""

    def __init__(self) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["SLOW_MODEL"]
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(self, data: list[dict]) -> list[dict]:
        """Answer a batch."""
        x = np.array([body["inputs"][0]["data"] for body in data], np.float32)
        (outputs,) = self._session.run(None, {"input": x})
        return [
            {"outputs": [{"name": "probabilities", "shape": [1, 2], "datatype": "FP32", "data": row}]}
            for row in outputs.tolist()
        ]


if __name__ == "__main__":
    os.environ.setdefault("SLOW_MODEL", sys.argv.pop(1))
    server = Server()
    server.append_worker(Slow, num=1, max_batch_size=_BATCH_ROWS, max_wait_time=_WAIT_MS)
    server.run()
