"""Open Inference Protocol v2 over HTTP: bodies to requests, responses to bodies, with binary tensors.

The commonest request has a short way of its own, `plain_json`. Knows no HTTP and no clock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.protocol.answers_json import AnswersJson, Asked, AskedOutput
from foretell.protocol.columns import Columns
from foretell.protocol.parameters import (
    classes_of,
    index_of,
    names_of,
    priority_of,
    same_rows,
    sooner,
    unknown_input,
)
from foretell.protocol.status import Refused
from foretell.protocol.strict_json import read_json
from foretell.protocol.tensors import check_datatype, check_shape, from_raw, from_values
from foretell.request import InferRequest
from foretell.signature import Signature, TensorSpec

__all__ = ["OpenInferenceJson", "keys_of"]

_KEYS = frozenset(("id", "parameters", "inputs", "outputs", "model_name"))
"""KServe's client names the model in the body too, as gRPC does."""
_TENSOR_KEYS = frozenset(("name", "datatype", "shape", "parameters", "data"))
_OUTPUT_KEYS = frozenset(("name", "parameters"))
_LIST_LIMIT = 64
_SHARED = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


class OpenInferenceJson:
    """Bodies of one version of a model."""

    def __init__(
        self, model: str, signature: Signature, labels: tuple[str, ...] = (), columns: Columns | None = None
    ) -> None:
        """Prepare for the signature.

        Args:
            model: Name that requests go by.
            signature: Of the version.
            labels: Names of the classes, for the classification extension.
            columns: Its fields as tensors, where it has fields.
        """
        self._columns = columns
        self._most_inputs = max(_LIST_LIMIT, len(signature.fields))
        self._model = model
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._positions = {spec.name: at for at, spec in enumerate(signature.outputs)}
        self.encode = AnswersJson(signature, labels).encode
        self._all_json = tuple(AskedOutput(at, False) for at in range(len(signature.outputs)))
        self._all_binary = tuple(AskedOutput(at, True) for at in range(len(signature.outputs)))

    def decode(
        self, body: bytes, json_bytes: int | None, *, version: str, request_id: str, now: float, timeout_s: float | None
    ) -> tuple[InferRequest, Asked]:
        """Return the request, and what the caller wants back.

        Args:
            body: Of the HTTP request.
            json_bytes: `Inference-Header-Content-Length`, or None where the whole body is JSON.
            version: From the path; empty for the default.
            request_id: For the log, unless the body has an id.
            now: Instant of the engine's clock.
            timeout_s: From the header; the sooner of it and the parameter `timeout` holds.

        Raises:
            Refused: The bytes are not the protocol.
            InvalidInput: A tensor does not fit the signature.
        """
        if json_bytes is None:
            document, blobs = read_json(body, keys_of), memoryview(b"")
        elif json_bytes == 0:
            return self._decode_raw(body, version, request_id, now, timeout_s)
        elif json_bytes < 0 or json_bytes > len(body):
            raise Refused(
                f"Inference-Header-Content-Length: {json_bytes}, the body has {len(body)} bytes",
                code="bad_binary_section",
            )
        else:
            document, blobs = read_json(body[:json_bytes], keys_of), memoryview(body)[json_bytes:]
        return self.decode_document(document, blobs, version, request_id, now, timeout_s)

    def decode_document(
        self,
        document: Any,
        blobs: memoryview,
        version: str,
        request_id: str,
        now: float,
        timeout_s: float | None,
    ) -> tuple[InferRequest, Asked]:
        """Return the request of a document that was read, with the binary tensors that followed it; see `decode`."""
        _only(document, _KEYS, "body")
        given_id = document.get("id", "")
        if type(given_id) is not str or len(given_id) > 256:
            raise Refused('"id": expected a text of at most 256 characters', code="bad_id")
        if document.get("model_name", self._model) != self._model:
            raise Refused('"model_name": it is not the one in the path')
        parameters = _parameters(document, "body")
        inputs, rows = self._read_inputs(document.get("inputs"), blobs)
        binary = _flag(parameters, "binary_data_output", False)
        asked = Asked(given_id, self._read_outputs(document.get("outputs"), binary))
        timeout_s = sooner(timeout_s, parameters)
        return (
            InferRequest(
                model=self._model,
                version=version,
                id=given_id or request_id,
                inputs=inputs,
                rows=rows,
                deadline=None if timeout_s is None else now + timeout_s,
                priority=priority_of(parameters),
                parameters=parameters,
            ),
            asked,
        )

    def _decode_raw(
        self, body: bytes, version: str, request_id: str, now: float, timeout_s: float | None
    ) -> tuple[InferRequest, Asked]:
        """Return the request of a body that is the bytes of one row of the only input."""
        specs = list(self._inputs.values())
        free = [at for at, size in enumerate(specs[0].shape[1:], 1) if size < 0] if len(specs) == 1 else [0, 0]
        if len(free) > 1:
            raise Refused("raw body: the model needs one input with at most one free dimension; send JSON")
        (spec,) = specs
        shape = [1, *spec.shape[1:]]
        if free:
            row_bytes = abs(int(np.prod(shape, dtype=object))) * (dtype_of(spec.datatype).itemsize)
            shape[free[0]] = len(body) // row_bytes if row_bytes and spec.datatype != "BYTES" else 1
        count = check_shape(shape, spec)
        inputs = {spec.name: from_raw(body, shape, count, spec)}
        deadline = None if timeout_s is None else now + timeout_s
        return InferRequest(self._model, version, request_id, inputs, 1, None, deadline), Asked("", self._all_binary)

    def _read_inputs(self, given: Any, blobs: memoryview) -> tuple[dict[str, NDArray[Any]], int]:
        found: dict[str, NDArray[Any]] = {}
        at = 0
        columns = self._columns
        tensors = _list(given, "inputs", self._most_inputs)
        if columns is not None and not columns.are_meant([t.get("name") for t in tensors if type(t) is dict]):
            columns = None
        for tensor in tensors:
            spec = self._spec_of(tensor, found, columns)
            check_datatype(tensor.get("datatype"), spec)
            shape = tensor.get("shape")
            count = check_shape(shape, spec)
            size = _parameters(tensor, f'input "{spec.name}"').get("binary_data_size")
            if size is None:
                found[spec.name] = self._from_values(tensor.get("data"), shape, count, spec, columns is not None)
                continue
            if type(size) is not int or not 0 <= size <= len(blobs) - at or "data" in tensor:
                raise Refused(
                    f'input "{spec.name}": binary_data_size {str(size)[:40]}, {len(blobs) - at} bytes are left and '
                    "there must be no data",
                    code="bad_binary_section",
                )
            found[spec.name] = self._from_raw(blobs[at : at + size], shape, count, spec)
            at += size
        if at != len(blobs):
            raise Refused(f"body: {len(blobs) - at} bytes follow the last tensor", code="bad_binary_section")
        return columns.tensors(found) if columns is not None else (found, same_rows(found, self._inputs))

    def _from_values(self, data: Any, shape: list[int], count: int, spec: TensorSpec, nullable: bool) -> NDArray[Any]:
        return from_values(data, shape, count, spec, nullable=nullable)

    def _from_raw(self, raw: memoryview, shape: list[int], count: int, spec: TensorSpec) -> NDArray[Any]:
        return from_raw(raw, shape, count, spec)

    def _spec_of(self, tensor: Any, found: dict[str, NDArray[Any]], columns: Columns | None) -> TensorSpec:
        _only(tensor, _TENSOR_KEYS, "input")
        name = tensor.get("name")
        spec = self._inputs.get(name) if type(name) is str else None
        if columns is not None:
            spec = columns.spec_of(name, tensor.get("datatype"), tensor.get("shape"))
        if spec is None:
            raise unknown_input(name, self._inputs)
        if name in found:
            raise Refused(f'input "{name}": it is there twice')
        parameters = _parameters(tensor, f'input "{name}"')
        for key in _SHARED:
            if key in parameters:
                raise Refused(f'input "{name}": shared memory is not supported; send the data', status=501)
        return spec

    def _read_outputs(self, given: Any, binary: bool) -> tuple[AskedOutput, ...]:
        if not given and given in (None, []):
            return self._all_binary if binary else self._all_json
        asked: dict[int, AskedOutput] = {}
        for output in _list(given, "outputs"):
            _only(output, _OUTPUT_KEYS, "output")
            index = index_of(output.get("name"), self._positions)
            parameters = _parameters(output, "output")
            if any(key in parameters for key in _SHARED):
                raise Refused("output: shared memory is not supported", status=501)
            if index in asked:
                raise Refused(f'output "{output["name"]}": it is there twice')
            classes = classes_of(parameters)
            asked[index] = AskedOutput(index, _flag(parameters, "binary_data", binary), classes)
        return tuple(asked.values())


def keys_of(document: Any) -> int:
    """Count the keys of a request with one input."""
    try:
        return len(document) + len(document["inputs"][0])
    except (TypeError, KeyError, IndexError):
        return -1


def _only(table: Any, known: frozenset[str], what: str) -> None:
    if type(table) is not dict:
        raise Refused(f"{what}: expected a JSON object")
    if not table.keys() <= known:
        strange = next(key for key in table if key not in known)
        raise Refused(
            f'{what}: unknown field "{strange[:80]}", expected {names_of(sorted(known))}', code="unknown_field"
        )


def _parameters(table: dict[str, Any], what: str) -> dict[str, Any]:
    found = table.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict or any(isinstance(v, (dict, list)) for v in found.values()):
        raise Refused(f'{what}: "parameters" must be an object of texts, numbers and booleans', code="bad_parameter")
    return found


def _flag(parameters: dict[str, Any], key: str, default: bool) -> bool:
    found = parameters.get(key, default)
    if type(found) is not bool:
        raise Refused(f'"{key}": expected true or false', code="bad_parameter")
    return found


def _list(given: Any, key: str, most: int = _LIST_LIMIT) -> list[Any]:
    if type(given) is not list or not 1 <= len(given) <= most:
        raise Refused(f'"{key}": expected a list of 1 to {most} objects')
    return given
