"""MLServer: models of its own runtime interface, for tensors and for rows of a pipeline. MODEL names the file."""

import os

import joblib
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Xgb(MLModel):
    async def load(self) -> bool:
        from onnx_model import OnnxModel

        self._model = OnnxModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self._model(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", found)])


class Pipeline(MLModel):
    """What its scikit-learn runtime does with `pd` content, without looking the codec up anew for each request."""

    async def load(self) -> bool:
        self._pipeline = joblib.load(os.environ["MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self._pipeline.predict(PandasCodec.decode_request(payload))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("predict", found)])
