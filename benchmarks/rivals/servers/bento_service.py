"""BentoML: a batchable call of a service. WORKERS, WAIT_MS."""

import os

import bentoml
import numpy as np
from onnx_model import OnnxModel


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 10}, logging={"access": {"enabled": False}})
class Xgb:
    def __init__(self) -> None:
        self.model = OnnxModel()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=int(os.environ["WAIT_MS"]))
    def infer(self, rows: np.ndarray) -> np.ndarray:
        return self.model(rows)
