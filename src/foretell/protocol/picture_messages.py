"""The Open Inference Protocol over gRPC for a model of pictures; see `picture_bodies` for its two tensors.

A message with large pictures is not given to the protobuf library whole: its raw contents are cut out first, as
views. Knows no gRPC library.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import AskedMessage, OpenInferenceProto, Raws, parse
from foretell.protocol.picture_bodies import flat_spec, pictures_of
from foretell.protocol.tensors import split_elements
from foretell.request import InferRequest, InferResponse
from foretell.signature import Signature, TensorSpec

__all__ = ["PictureMessages", "parse_cut"]

_RAW, _LENGTH_DELIMITED = 0x3A, 2
_LARGE_BYTES = 1 << 15
_MOST_FIELDS = 1024


class PictureMessages(OpenInferenceProto):
    """Messages of one version of a model of pictures."""

    def __init__(
        self, model: str, signature: Signature, pictures: Signature, labels: tuple[str, ...] = (), version: str = ""
    ) -> None:
        """Prepare for both tensors; see `PictureBodies`."""
        super().__init__(model, signature, labels, None, version)
        self._pictures = _Encoded(model, pictures, labels, None, version)

    def decode(
        self, message: Any, *, request_id: str, now: float, timeout_s: float | None, raws: Raws | None = None
    ) -> tuple[InferRequest, AskedMessage]:
        """Return the request, and what the caller wants back; see `OpenInferenceProto.decode`."""
        if len(message.inputs) != 1 or message.inputs[0].datatype != "BYTES":
            own = None if raws is None else [bytes(raw) for raw in raws]
            return super().decode(message, request_id=request_id, now=now, timeout_s=timeout_s, raws=own)
        codec = self._pictures
        request, asked = codec.decode(message, request_id=request_id, now=now, timeout_s=timeout_s, raws=raws)
        ((name, given),) = request.inputs.items()
        request.inputs[name] = pictures = given.reshape(-1)
        request.nbytes = max(1, sum(map(len, pictures)))
        return request, asked._replace(pictures=True)

    def encode(self, response: InferResponse, asked: AskedMessage) -> Any:
        """Return a ModelInferResponse."""
        return self._pictures.encode(response, asked) if asked.pictures else super().encode(response, asked)


class _Encoded(OpenInferenceProto):
    """Messages with encoded pictures."""

    def _from_contents(self, contents: Any, shape: list[int], count: int, spec: TensorSpec) -> NDArray[Any]:
        found = contents.bytes_contents
        if len(found) != count:
            return super()._from_contents(contents, shape, count, spec)  # which knows what is wrong
        return pictures_of(list(found)).reshape(shape)

    def _from_raw(self, raw: bytes | memoryview, shape: list[int], count: int, spec: TensorSpec) -> NDArray[np.object_]:
        return pictures_of(split_elements(memoryview(raw), count, spec.name)).reshape(shape)

    def _spec_of(self, tensor: Any, found: Any, columns: Any, shape: list[int]) -> TensorSpec:
        return flat_spec(super()._spec_of(tensor, found, columns, shape), shape)


def parse_cut(data: bytes | memoryview) -> tuple[Any, Raws | None]:
    """Return a ModelInferRequest without its raw contents, and those; None where they are in it.

    Raises:
        Refused: The bytes are no message.
    """
    if len(data) > _LARGE_BYTES:
        cut = _cut(memoryview(data))
        if cut is not None:
            return parse(pb.ModelInferRequest, cut[0]), cut[1]
    return parse(pb.ModelInferRequest, bytes(data)), None


def _cut(view: memoryview) -> tuple[bytes, list[memoryview]] | None:
    """Return the bytes of a message around its raw contents, and those; None where it takes a closer look."""
    rest: list[memoryview] = []
    raws: list[memoryview] = []
    at = 0
    for _ in range(_MOST_FIELDS):
        if at == len(view):
            return b"".join(rest), raws
        begin, tag = at, view[at]
        if tag & 7 != _LENGTH_DELIMITED or tag >= 0x80:
            return None
        length = shift = 0
        while True:
            at += 1
            if at == len(view) or shift > 28:
                return None
            length |= (view[at] & 127) << shift
            shift += 7
            if view[at] < 0x80:
                break
        start, at = at + 1, at + 1 + length
        if at > len(view):
            return None
        if tag == _RAW:
            raws.append(view[start:at])
        else:
            rest.append(view[begin:at])
    return None
