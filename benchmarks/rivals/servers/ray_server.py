"""Ray Serve: one replica that batches, behind its HTTP proxy. PORT, WAIT_MS, REPLICAS."""

import os
import signal

import ray
from onnx_model import OnnxModel, answer
from ray import serve
from starlette.requests import Request


@serve.deployment(
    num_replicas=int(os.environ["REPLICAS"]), max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5}
)
class Xgb:
    def __init__(self) -> None:
        self.model = OnnxModel()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=float(os.environ["WAIT_MS"]) / 1e3)
    async def infer(self, rows: list) -> list:
        return self.model(rows).tolist()

    async def __call__(self, request: Request) -> dict:
        return answer(await self.infer((await request.json())["inputs"][0]["data"]))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": dict(os.environ)})
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Xgb.bind(), route_prefix="/v2/models/xgb/infer")
    signal.sigwait([signal.SIGTERM])
    ray.shutdown()
