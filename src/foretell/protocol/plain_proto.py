"""The short way of a ModelInferRequest with raw tensors, and of its answer: bytes read and written by hand.

Clients send the same message again and again with another id and other tensors in it. So what stands around the
tensors is read once, by the protobuf library and with all checks, and recognised byte for byte from then on.
Whatever is not recognised takes the long way, which knows why. Knows no gRPC.
"""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.proto_cuts import Cuts
from foretell.request import InferRequest, InferResponse
from foretell.signature import Signature

__all__ = ["Address", "Frame", "PlainMessages", "address_of"]

_NAME, _VERSION, _ID, _RAW = 0x0A, 0x12, 0x1A, 0x3A
"""Tags of the fields of a request: all of them texts and bytes."""
_INNER = frozenset((0x22, 0x2A, 0x32))
"""Parameters, inputs, outputs."""
_FRAMES = 256
_MOST_FRAME_BYTES = 4096
_IS_NATIVE = sys.byteorder == "little"


class Address(NamedTuple):
    """What a message begins with."""

    model: bytes
    version: bytes
    id: bytes
    end: int
    """Where in the bytes the rest of the message is."""


class Frame(NamedTuple):
    """What stands around the tensors of a message."""

    spans: tuple[tuple[int, int], ...]
    """Where each tensor begins and ends, from the end of the address on."""
    tensors: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
    rows: int
    nbytes: int
    priority: int
    timeout_s: float | None
    outputs: tuple[int, ...]
    """Indices of the outputs that are asked for."""


def address_of(data: bytes) -> Address | None:
    """Return what a message begins with; None where it takes a closer look."""
    model = version = id = b""
    at = 0
    try:
        if data[at] == _NAME:
            end = at + 2 + data[at + 1]
            model, at = data[at + 2 : end], end
        if data[at] == _VERSION:
            end = at + 2 + data[at + 1]
            version, at = data[at + 2 : end], end
        if data[at] == _ID:
            end = at + 2 + data[at + 1]
            id, at = data[at + 2 : end], end
    except IndexError:
        return None
    # A length of 128 or more has more bytes than one.
    return Address(model, version, id, at) if max(len(model), len(version), len(id)) < 128 else None


class PlainMessages:
    """Messages of one version of a model.

    Attributes:
        head: What every response begins with.
    """

    def __init__(self, model: str, version: str, signature: Signature) -> None:
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = signature.outputs
        self.head = pb.ModelInferResponse(model_name=model, model_version=version).SerializeToString()
        self._spans: dict[int, tuple[tuple[int, int], ...]] = {}
        self._frames: dict[bytes, Frame] = {}
        self._last = b""
        self._tensors: dict[Any, bytes] = {}
        fixed = (spec.datatype not in ("BYTES", "BOOL") for spec in signature.inputs)
        # Messages that are known may be merged with any other: in their inputs only the rows differ.
        rows = (spec.shape[:1] == (-1,) for spec in (*signature.inputs, *signature.outputs))
        uniform = not any(-1 in spec.shape[1:] for spec in signature.inputs) and all(rows)
        texts = any(spec.datatype == "BYTES" for spec in signature.outputs)
        self._is_plain = _IS_NATIVE and all(fixed) and uniform and not texts

    def read(self, data: bytes, address: Address) -> tuple[Frame, dict[str, NDArray[Any]]] | None:
        """Return the frame and the tensors of a message; None: it is not known.

        The tensors are copies, so that they are aligned and the message is not held.
        """
        at = address.end
        spans = self._spans.get(len(data) - at)
        if spans is None:
            return None
        frame = self._frames.get(_around(data, at, spans))
        if frame is None or frame.spans is not spans or not address.id.isascii():
            return None
        return frame, {
            name: np.ndarray(shape, dtype, data[at + start : at + end])
            for (name, shape, dtype), (start, end) in zip(frame.tensors, spans, strict=True)
        }

    def learn(
        self,
        data: bytes,
        address: Address,
        request: InferRequest,
        timeout_s: float | None,
        outputs: tuple[int, ...],
    ) -> None:
        """Remember what stands around the tensors of a message that was read with all checks, when it comes again.

        Args:
            data: The message.
            address: What it begins with.
            request: What was read: its tensors as they came, raw.
            timeout_s: Of the message alone.
            outputs: Indices of the outputs it asks for.
        """
        if not self._is_plain or request.rows < 1 or not request.inputs.keys() <= self._inputs.keys():
            return
        at = address.end
        spans = _spans_of(data, at)
        if spans is None or len(spans) != len(request.inputs):
            return
        around = _around(data, at, spans)
        if len(around) > _MOST_FRAME_BYTES or around != self._last:
            self._last = around
            return
        if len(self._frames) >= _FRAMES:
            self._frames.clear()
            self._spans.clear()
        tensors = tuple((name, a.shape, dtype_of(self._inputs[name].datatype)) for name, a in request.inputs.items())
        sizes = [math.prod(shape) * dtype.itemsize for _, shape, dtype in tensors]
        if sizes != [end - start for start, end in spans]:
            return
        self._spans[len(data) - at] = spans
        self._frames[around] = Frame(spans, tensors, request.rows, sum(sizes), request.priority, timeout_s, outputs)

    def write(self, response: InferResponse, outputs: tuple[int, ...], id: bytes) -> bytes | None:
        """Return a ModelInferResponse with raw tensors; None where it takes the long way."""
        cuts = self.cuts(response.outputs)
        return None if cuts is None else cuts.message(None, outputs, id)

    def cuts(self, found: list[NDArray[Any]]) -> Cuts | None:
        """Return the outputs of a batch, or of an answer, ready to be cut; None where they take the long way."""
        if not self._is_plain or any(output.dtype.kind == "O" for output in found):
            return None
        return Cuts(self.head, self.describe, found)

    def describe(self, outputs: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]) -> bytes:
        """Return the fields of a response that tell the names, datatypes and shapes of its tensors."""
        key = outputs, shapes
        described = self._tensors.get(key)
        if described is None:
            message = pb.ModelInferResponse()
            for at, shape in zip(outputs, shapes, strict=True):
                spec = self._outputs[at]
                message.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
            if len(self._tensors) >= _FRAMES:
                self._tensors.clear()
            described = self._tensors[key] = message.SerializeToString()
        return described


def _around(data: bytes, at: int, spans: tuple[tuple[int, int], ...]) -> bytes:
    """Return the bytes around the tensors."""
    if len(spans) == 1:
        return data[at : at + spans[0][0]]
    parts, begin = [], 0
    for start, end in spans:
        parts.append(data[at + begin : at + start])
        begin = end
    return b"".join(parts)


def _spans_of(data: bytes, at: int) -> tuple[tuple[int, int], ...] | None:
    """Return where the tensors of a message are; None: its fields are not those expected, in order."""
    begin, size = at, len(data)
    spans: list[tuple[int, int]] = []
    while at < size:
        tag = data[at]
        if tag != _RAW and (tag not in _INNER or spans):
            return None
        length = shift = 0
        for place in range(at + 1, min(at + 6, size)):
            byte = data[place]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        else:
            return None
        start, at = place + 1, place + 1 + length
        if at > size:
            return None
        if tag == _RAW:
            spans.append((start - begin, at - begin))
    return tuple(spans) or None
