"""KServe's Python SDK: a model of its interface on its own server (FastAPI, uvicorn). It has no batching."""

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from onnx_model import OnnxModel


class Xgb(Model):
    def __init__(self) -> None:
        super().__init__("xgb")
        self.model = OnnxModel()
        self.ready = True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        found = self.model(payload.inputs[0].as_numpy())
        output = InferOutput("probabilities", list(found.shape), "FP32", found.ravel().tolist())
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    ModelServer().start([Xgb()])
