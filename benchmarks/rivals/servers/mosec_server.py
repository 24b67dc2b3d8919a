"""mosec: a Rust front, one stage of Python workers. WORKERS, WAIT_MS."""

import os

import orjson
from mosec import Server, Worker
from onnx_model import OnnxModel, answer


class Xgb(Worker):
    def __init__(self):
        self.model = OnnxModel()

    def deserialize(self, data):
        return orjson.loads(data)["inputs"][0]["data"]

    def serialize(self, data):
        return orjson.dumps(answer(data))

    def forward(self, data):
        return self.model(data).tolist()


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Xgb,
        num=int(os.environ["WORKERS"]),
        max_batch_size=64,
        max_wait_time=int(os.environ["WAIT_MS"]),
        route="/v2/models/xgb/infer",
    )
    server.run()
