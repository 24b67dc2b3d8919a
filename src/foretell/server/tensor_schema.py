"""JSON Schema of bare tensors: what the values of a datatype may be, and the rows of a model that has no fields."""

from __future__ import annotations

from typing import Any

from foretell.dtypes import dtype_of
from foretell.signature import Signature, TensorSpec

__all__ = ["bare_row_schema", "value_schema"]

_MOST = {"FP16": float.fromhex("0x1.ffcp15"), "FP32": float.fromhex("0x1.fffffep127")}
"""Greatest finite number; of FP64 it is JSON's own."""


def bare_row_schema(signature: Signature) -> dict[str, Any]:
    """Return what a row of `:predict` is: nested lists for the only input, or an object with a key for each input."""
    if len(signature.inputs) == 1:
        return _nested(signature.inputs[0])
    return {
        "type": "object",
        "required": [spec.name for spec in signature.inputs],
        "properties": {spec.name: _nested(spec) for spec in signature.inputs},
        "additionalProperties": False,
    }


def value_schema(datatype: str) -> dict[str, Any]:
    """Return what one element is in JSON; numbers with the range of the datatype, where it is less than JSON's."""
    dtype = dtype_of(datatype)
    bits = 8 * dtype.itemsize
    if dtype.kind == "u":
        return {"type": "integer", "minimum": 0, "maximum": 2**bits - 1}
    if dtype.kind == "i":
        return {"type": "integer", "minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}
    if dtype.kind == "f":
        most = _MOST.get(datatype)
        return {"type": "number"} if most is None else {"type": "number", "minimum": -most, "maximum": most}
    return {"type": "boolean" if dtype.kind == "b" else "string"}


def _nested(spec: TensorSpec) -> dict[str, Any]:
    schema = value_schema(spec.datatype)
    for size in reversed(spec.shape[1:]):
        schema = {"type": "array", "items": schema} | ({} if size < 0 else {"minItems": size, "maxItems": size})
    return schema
