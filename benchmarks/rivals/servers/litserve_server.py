"""LitServe: batches in worker processes behind FastAPI. PORT, WORKERS, WAIT_MS, API_SERVERS."""

import os

import litserve
import numpy as np
from onnx_model import OnnxModel, answer


class Xgb(litserve.LitAPI):
    def setup(self, device):
        self.model = OnnxModel()

    def decode_request(self, request):
        return request["inputs"][0]["data"]

    def batch(self, inputs):
        return np.asarray(inputs, np.float32)

    def predict(self, rows):
        return self.model(rows).tolist()

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return answer(output)


if __name__ == "__main__":
    api = Xgb(max_batch_size=64, batch_timeout=float(os.environ["WAIT_MS"]) / 1e3, api_path="/v2/models/xgb/infer")
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=int(os.environ["WORKERS"]),
        fast_queue=os.environ["FAST_QUEUE"] == "1",
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=int(os.environ["API_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
    )
