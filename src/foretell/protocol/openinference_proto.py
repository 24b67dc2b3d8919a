"""Open Inference Protocol v2 over gRPC: messages to requests, responses to messages.

Tensors come as raw bytes, or as typed contents; the answer goes out as the request came in. FP16 has no typed
contents and is always raw. Knows no gRPC library and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import InvalidInput
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.classification import classify
from foretell.protocol.columns import Columns
from foretell.protocol.parameters import classes_of, index_of, priority_of, same_rows, sooner, unknown_input
from foretell.protocol.plain_proto import PlainMessages
from foretell.protocol.status import Refused
from foretell.protocol.tensors import check_datatype, check_shape, from_raw, join_bytes, to_raw
from foretell.request import InferRequest, InferResponse
from foretell.signature import Signature, TensorSpec

__all__ = ["AskedMessage", "OpenInferenceProto", "Raws", "parse"]

_MOST = 64
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


Raws = Sequence[bytes | memoryview]


class AskedMessage(NamedTuple):
    """What the caller wants back, and how."""

    id: str
    outputs: tuple[tuple[int, int], ...]
    """For each output its index in the signature, and of how many best classes it is asked as texts; 0: as it is."""
    raw: bool
    say_final: bool
    """Whether the caller of a stream wants to be told which answer is the last one of a request."""
    pictures: bool = False
    """They are answers to encoded pictures."""


def parse(kind: Any, data: bytes) -> Any:
    """Return a message of bytes.

    Raises:
        Refused: They are none.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Refused("message: it is not what the protocol says") from None


class OpenInferenceProto:
    """Messages of one version of a model.

    Attributes:
        plain: The short way of the commonest ones.
    """

    def __init__(
        self,
        model: str,
        signature: Signature,
        labels: tuple[str, ...] = (),
        columns: Columns | None = None,
        version: str = "",
    ) -> None:
        self.plain = PlainMessages(model, version, signature)
        self._columns = columns
        self._most_inputs = max(_MOST, len(signature.fields))
        self._model = model
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = signature.outputs
        self._positions = {spec.name: at for at, spec in enumerate(signature.outputs)}
        self._labels = labels
        self._all = tuple((at, 0) for at in range(len(signature.outputs)))

    def decode(
        self, message: Any, *, request_id: str, now: float, timeout_s: float | None, raws: Raws | None = None
    ) -> tuple[InferRequest, AskedMessage]:
        """Return the request, and what the caller wants back.

        Args:
            message: A ModelInferRequest.
            request_id: For the log, unless the message has an id.
            now: Instant of the engine's clock.
            timeout_s: Of the call; the sooner of it and the parameter `timeout` holds.
            raws: Its `raw_input_contents`, where they were cut out of it.

        Raises:
            Refused: The message is not what the protocol says.
            InvalidInput: A tensor does not fit the signature.
        """
        if len(message.id) > 256:
            raise Refused('"id": expected a text of at most 256 characters', code="bad_id")
        parameters = _parameters(message.parameters)
        raw = message.raw_input_contents if raws is None else raws
        inputs, rows = self._read_inputs(message, raw)
        timeout_s = sooner(timeout_s, parameters)
        request = InferRequest(
            model=self._model,
            version=message.model_version,
            id=message.id or request_id,
            inputs=inputs,
            rows=rows,
            deadline=None if timeout_s is None else now + timeout_s,
            priority=priority_of(parameters),
            parameters=parameters,
        )
        final = parameters.get("triton_enable_empty_final_response") is True
        outputs = self._read_outputs(message.outputs)
        return request, AskedMessage(message.id, outputs, bool(raw), final)

    def encode(self, response: InferResponse, asked: AskedMessage) -> Any:
        """Return a ModelInferResponse."""
        message = pb.ModelInferResponse(model_name=response.model, model_version=response.version, id=asked.id)
        raw = asked.raw or any(self._outputs[at].datatype == "FP16" for at, _ in asked.outputs)
        for at, classes in asked.outputs:
            spec, found = self._outputs[at], response.outputs[at]
            datatype = spec.datatype
            if classes:
                found, datatype = classify(found, classes, self._labels), "BYTES"
            tensor = message.outputs.add(name=spec.name, datatype=datatype, shape=found.shape)
            if raw:
                message.raw_output_contents.append(to_raw(found))
            else:
                _set_contents(tensor.contents, datatype, found)
        if asked.say_final:
            message.parameters["triton_final_response"].bool_param = True
        return message

    def _read_inputs(self, message: Any, raw: Raws) -> tuple[dict[str, NDArray[Any]], int]:
        given = message.inputs
        if not 1 <= len(given) <= self._most_inputs or len(message.outputs) > _MOST:
            raise Refused(f"message: expected 1 to {self._most_inputs} inputs and at most {_MOST} outputs")
        if raw and len(raw) != len(given):
            raise Refused(
                f"raw_input_contents: {len(raw)} of them for {len(given)} inputs; send one for each, or none",
                code="bad_binary_section",
            )
        found: dict[str, NDArray[Any]] = {}
        columns = self._columns
        if columns is not None and not columns.are_meant([tensor.name for tensor in given]):
            columns = None
        for at, tensor in enumerate(given):
            shape = list(tensor.shape)
            spec = self._spec_of(tensor, found, columns, shape)
            check_datatype(tensor.datatype, spec)
            count = check_shape(shape, spec)
            if not raw:
                found[spec.name] = self._from_contents(tensor.contents, shape, count, spec)
            elif tensor.HasField("contents"):
                raise Refused(f'input "{spec.name}": both contents and raw_input_contents; send one of them')
            else:
                found[spec.name] = self._from_raw(raw[at], shape, count, spec)
        return columns.tensors(found) if columns is not None else (found, same_rows(found, self._inputs))

    def _from_contents(self, contents: Any, shape: list[int], count: int, spec: TensorSpec) -> NDArray[Any]:
        return _from_contents(contents, shape, count, spec)

    def _from_raw(self, raw: bytes | memoryview, shape: list[int], count: int, spec: TensorSpec) -> NDArray[Any]:
        return from_raw(raw, shape, count, spec)

    def _spec_of(
        self, tensor: Any, found: dict[str, NDArray[Any]], columns: Columns | None, shape: list[int]
    ) -> TensorSpec:
        spec = self._inputs.get(tensor.name)
        if columns is not None:
            spec = columns.spec_of(tensor.name, tensor.datatype, shape)
        if spec is None:
            raise unknown_input(tensor.name, self._inputs)
        if tensor.name in found:
            raise Refused(f'input "{tensor.name}": it is there twice')
        if tensor.parameters and "shared_memory_region" in tensor.parameters:
            raise Refused(f'input "{tensor.name}": shared memory is not supported; send the data', status=501)
        return spec

    def _read_outputs(self, given: Any) -> tuple[tuple[int, int], ...]:
        if not given:
            return self._all
        asked: dict[int, int] = {}
        for output in given:
            index = index_of(output.name, self._positions)
            if index in asked:
                raise Refused(f'output "{output.name}": it is there twice')
            parameters = _parameters(output.parameters)
            if "shared_memory_region" in parameters:
                raise Refused("output: shared memory is not supported", status=501)
            asked[index] = classes_of(parameters)
        return tuple(asked.items())


def _parameters(given: Any) -> dict[str, Any]:
    if not given:
        return {}
    found = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        found[name] = None if kind is None else getattr(parameter, kind)
    return {name: value for name, value in found.items() if value is not None}


def _from_contents(contents: Any, shape: list[int], count: int, spec: TensorSpec) -> NDArray[Any]:
    field = _CONTENTS.get(spec.datatype)
    if field is None:
        raise Refused(f'input "{spec.name}": {spec.datatype} has no typed contents; send raw_input_contents')
    for other, _ in contents.ListFields():
        if other.name != field:
            raise Refused(f'input "{spec.name}": {other.name}, {spec.datatype} comes in {field}')
    values = list(getattr(contents, field))
    if len(values) != count:
        raise InvalidInput(
            f'input "{spec.name}": {len(values)} values, its shape ({", ".join(map(str, shape))}) takes {count}',
            column=spec.name,
        )
    if spec.datatype == "BYTES":
        return from_raw(join_bytes(values), shape, count, spec)
    try:
        return np.array(values, dtype_of(spec.datatype)).reshape(shape)
    except OverflowError:
        raise InvalidInput(
            f'input "{spec.name}": an integer is out of the range of {spec.datatype}', column=spec.name
        ) from None


def _set_contents(contents: Any, datatype: str, found: NDArray[Any]) -> None:
    values = found.reshape(-1).tolist()
    if datatype == "BYTES":
        values = [v if isinstance(v, bytes) else str(v).encode() for v in values]
    getattr(contents, _CONTENTS[datatype]).extend(values)
