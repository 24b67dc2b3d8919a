"""The Open Inference Protocol over HTTP for a model of pictures, which takes either of two tensors.

    the network's own       FP32 ..., prepared elsewhere        -> the network's outputs
    the field's, as BYTES   one encoded picture for each row    -> answers in terms of the picture

Which one is meant is told by its datatype. In JSON an encoded picture is a text in base64; binary, it is as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.protocol.answers_json import Asked
from foretell.protocol.columns import Columns
from foretell.protocol.long_texts import LongTexts
from foretell.protocol.openinference_json import OpenInferenceJson
from foretell.protocol.picture_rows import is_picture
from foretell.protocol.status import Refused
from foretell.protocol.tensors import split_elements
from foretell.request import InferRequest
from foretell.signature import Signature, TensorSpec

__all__ = ["PictureBodies", "asks_pictures", "flat_spec", "pictures_of"]


class PictureBodies(OpenInferenceJson):
    """Bodies of one version of a model of pictures."""

    def __init__(self, model: str, signature: Signature, pictures: Signature, labels: tuple[str, ...] = ()) -> None:
        """Prepare for both tensors.

        Args:
            model: Name that requests go by.
            signature: Of the network.
            pictures: Of the encoded pictures and their answers.
            labels: Names of the classes.
        """
        super().__init__(model, signature, labels)
        self._encode_tensors = self.encode
        self._pictures = _Encoded(model, pictures, labels)
        self.encode = self._encode

    def decode(
        self, body: bytes, json_bytes: int | None, *, version: str, request_id: str, now: float, timeout_s: float | None
    ) -> tuple[InferRequest, Asked]:
        """Return the request, and what the caller wants back; see `OpenInferenceJson.decode`."""
        if json_bytes == 0 and is_picture(body):
            return self.decode_picture(body, version=version, request_id=request_id, now=now, timeout_s=timeout_s)
        if json_bytes is not None and not 0 < json_bytes <= len(body):
            return super().decode(
                body, json_bytes, version=version, request_id=request_id, now=now, timeout_s=timeout_s
            )
        whole = memoryview(body)
        head, blobs = (body, whole[:0]) if json_bytes is None else (whole[:json_bytes], whole[json_bytes:])
        texts = LongTexts(head)
        codec = self._pictures if asks_pictures(texts.document) else self
        request, asked = codec.decode_document(texts.document, blobs, version, request_id, now, timeout_s)
        if codec is not self:
            ((name, given),) = request.inputs.items()
            pictures = [texts.take(each) if type(each) is str else each for each in given.reshape(-1)]
            request.inputs[name], request.nbytes = pictures_of(pictures), max(1, sum(map(len, pictures)))
            asked = Asked(asked.id, asked.outputs, True)
        if texts.left:
            raise Refused("body: a long text that is no picture; send an input of datatype BYTES", code="unknown_field")
        return request, asked

    def decode_picture(
        self, picture: Any, *, version: str, request_id: str, now: float, timeout_s: float | None
    ) -> tuple[InferRequest, Asked]:
        """Return the request of a body that is a picture and nothing else; its answers are binary."""
        return self._pictures.of_one(picture, version, request_id, now, timeout_s)

    def _encode(self, response: Any, asked: Asked | None) -> tuple[bytes, int | None]:
        if asked is not None and asked.pictures:
            return self._pictures.encode(response, asked)
        return self._encode_tensors(response, asked)


class _Encoded(OpenInferenceJson):
    """Bodies with encoded pictures."""

    def __init__(self, model: str, pictures: Signature, labels: tuple[str, ...]) -> None:
        super().__init__(model, pictures, labels)
        self._spec = pictures.inputs[0]

    def of_one(
        self, picture: Any, version: str, request_id: str, now: float, timeout_s: float | None
    ) -> tuple[InferRequest, Asked]:
        """Return the request of a picture."""
        inputs = {self._spec.name: pictures_of([picture])}
        deadline = None if timeout_s is None else now + timeout_s
        request = InferRequest(self._model, version, request_id, inputs, 1, None, deadline)
        request.nbytes = max(1, len(picture))
        return request, Asked("", self._all_binary, True)

    def _from_raw(self, raw: memoryview, shape: list[int], count: int, spec: TensorSpec) -> NDArray[Any]:
        return pictures_of(split_elements(raw, count, spec.name)).reshape(shape)

    def _spec_of(self, tensor: Any, found: dict[str, NDArray[Any]], columns: Columns | None) -> TensorSpec:
        return flat_spec(super()._spec_of(tensor, found, columns), tensor.get("shape"))


def asks_pictures(document: Any) -> bool:
    """Whether the only input of a request is of texts."""
    inputs = document.get("inputs") if type(document) is dict else None
    return (
        type(inputs) is list and len(inputs) == 1 and type(inputs[0]) is dict and inputs[0].get("datatype") == "BYTES"
    )


def flat_spec(spec: TensorSpec, shape: Any) -> TensorSpec:
    """Return the spec of a column, of shape (rows, 1), where that is what came: other servers ask for it."""
    return TensorSpec(spec.name, spec.datatype, (-1, 1)) if type(shape) is list and len(shape) == 2 else spec


def pictures_of(contents: list[Any]) -> NDArray[np.object_]:
    """Return encoded pictures as a tensor of shape (rows,)."""
    pictures = np.empty(len(contents), object)
    pictures[:] = contents
    return pictures
