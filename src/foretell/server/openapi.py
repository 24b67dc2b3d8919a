"""The description of this server in OpenAPI 3.1: every route, and for each model the types of its own fields.

Its examples run: they are rows drawn from the signature, in the ranges seen in training.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from foretell.engine.instance import Hello
from foretell.model.draw import plain_row
from foretell.protocol.columns import described_inputs
from foretell.server.picture_schema import picture_bodies, picture_example, picture_infer, seen_schema
from foretell.server.routes import ROUTES, Route
from foretell.server.tensor_schema import bare_row_schema
from foretell.signature import Field, Signature, TensorSpec

__all__ = ["Described", "example_instances", "openapi", "quoted"]

Described = tuple[str, Hello]
"""Name of a model, and what it says of itself."""

_MOST_CATEGORIES = 100
_JSON_TYPES = {"number": "number", "integer": "integer", "boolean": "boolean", "text": "string", "date": "string"}
_DATATYPES = {"BOOL": "boolean", "BYTES": "string", "FP16": "number", "FP32": "number", "FP64": "number"}
_ERRORS = ("400", "401", "403", "404", "413", "415", "421", "422", "429", "500", "503", "504")


def openapi(models: list[Described], *, needs_key: bool = False) -> dict[str, Any]:
    """Return the document."""
    from foretell import __version__

    paths: dict[str, Any] = {}
    for route in ROUTES:
        if "{model}" not in route.path and route.label != "invocations":
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    for name, hello in models:
        for route in ROUTES:
            if "{model}" in route.path and route.label not in ("load", "unload", "stream", "camera"):
                path = route.path.replace("{model}", quoted(name))
                paths.setdefault(path, {})[route.method.lower()] = _model_operation(route, name, hello)
    if len(models) == 1:
        route = next(r for r in ROUTES if r.label == "invocations")
        paths[route.path] = {"post": _model_operation(route, *models[0])}
    keyed: dict[str, Any] = {"security": [{"key": []}]} if needs_key else {}
    schemes = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if needs_key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Foretell", "version": __version__, "description": "Predictions of the models served here."},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}, **schemes},
        **keyed,
    }


def example_instances(signature: Signature) -> list[Any]:
    """Return one row for `:predict`, as a user would type it."""
    if signature.fields:
        row = plain_row(signature)
        return [{f.name: _typed(f, row[f.name]) for f in signature.fields}]
    if len(signature.inputs) == 1:
        return [_nested(_row_shape(signature.inputs[0]), signature.inputs[0].datatype)]
    return [{spec.name: _nested(_row_shape(spec), spec.datatype) for spec in signature.inputs}]


_ERROR = {
    "type": "object",
    "required": ["error", "code", "id"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong, in one line"},
        "code": {"type": "string", "description": "The same for programs"},
        "id": {"type": "string", "description": "Of the request, as in the log"},
    },
}


def _operation(route: Route) -> dict[str, Any]:
    kinds = {"metrics": "text/plain", "docs": "text/html", "page": "text/html"}
    content: dict[str, Any] = {kinds.get(route.label, "application/json"): {"schema": {}}}
    told: dict[str, Any] = {"summary": route.about, "operationId": route.label}
    if route.label == "index":
        schema = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "additionalProperties": False}
        told["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return told | {"responses": _responses({"description": "Done", "content": content})}


def _model_operation(route: Route, name: str, hello: Hello) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": route.about, "operationId": f"{route.label} {name}", "tags": [name]}
    answer: dict[str, Any] = {}
    pictures = hello.pictures
    if pictures is not None and route.label in ("predict", "invocations"):
        told["requestBody"] = {"required": True, "content": picture_bodies(pictures.inputs[0].name)}
        answer = _predictions_schema(hello)
    elif pictures is not None and route.label == "infer":
        schema, example = picture_infer(_infer_schema(pictures)), picture_example(pictures.inputs[0].name)
        told["requestBody"] = _body(schema, example)
        answer = _answer_schema(pictures)
    elif route.label in ("predict", "invocations"):
        told["requestBody"] = _body(_rows_schema(hello.signature), {"instances": example_instances(hello.signature)})
        answer = _predictions_schema(hello)
    elif route.label == "infer":
        told["requestBody"] = _body(_infer_schema(hello.signature), _infer_example(hello.signature))
        answer = _answer_schema(hello.signature)
    content = {"application/json": {"schema": answer}}
    return told | {"responses": _responses({"description": "Done", "content": content})}


def _responses(done: dict[str, Any]) -> dict[str, Any]:
    error = {
        "description": "Refused or failed",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    return {"200": done, **dict.fromkeys(_ERRORS, error)}


def _body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _rows_schema(signature: Signature) -> dict[str, Any]:
    row = bare_row_schema(signature)
    if signature.fields:
        row = {
            "type": "object",
            "required": [f.name for f in signature.fields],
            "properties": {f.name: _field_schema(f) for f in signature.fields},
        }
    return {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": {"type": "array", "items": row}},
        "additionalProperties": False,
    }


def _field_schema(field: Field) -> dict[str, Any]:
    if field.kind == "category":
        kinds = {"string" if isinstance(c, str) else "number" for c in field.categories} or {"string"}
        schema: dict[str, Any] = {"type": sorted(kinds)}
        if field.closed and len(field.categories) <= _MOST_CATEGORIES:
            schema = {"enum": list(field.categories)}
        elif field.categories:
            schema["examples"] = list(field.categories[:5])
    else:
        schema = {"type": [_JSON_TYPES[field.kind]]}
        if field.kind == "date":
            schema["format"] = "date-time"
        if field.low is not None and field.high is not None and field.kind in ("number", "integer"):
            schema["description"] = f"{field.low:g} to {field.high:g} in training"
    if field.nullable:
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        else:
            schema["type"] = [*schema["type"], "null"]
    return schema


def _predictions_schema(hello: Hello) -> dict[str, Any]:
    item: dict[str, Any] = {}
    seen = seen_schema(hello) if hello.pictures is not None else None
    if seen is not None:
        item = seen
    elif hello.task.name == "regression":
        item = {"type": ["number", "null", "array"]}
    elif hello.task.classes:
        number = {"type": ["number", "null"]}
        item = {
            "type": "object",
            "required": ["label"],
            "properties": {
                "label": {"enum": list(hello.task.classes)} if len(hello.task.classes) <= _MOST_CATEGORIES else {},
                "probability": number,
                "probabilities": {"type": "object", "additionalProperties": number},
            },
        }
    return {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": item}},
    }


def _infer_schema(signature: Signature) -> dict[str, Any]:
    free = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    described = described_inputs(signature)
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"enum": [spec.name for spec in described]},
            "datatype": {"enum": sorted({spec.datatype for spec in described})},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 16},
            "parameters": free,
            "data": {"type": "array"},
        },
        "additionalProperties": False,
    }
    wanted = {"name": {"enum": [spec.name for spec in signature.outputs]}, "parameters": free}
    output = {"type": "object", "required": ["name"], "properties": wanted, "additionalProperties": False}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "maxLength": 256},
            "parameters": free,
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": max(64, len(described))},
            "outputs": {"type": "array", "items": output, "maxItems": 64, "uniqueItems": True},
        },
        "additionalProperties": False,
    }


def _answer_schema(signature: Signature) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"enum": [spec.name for spec in signature.outputs]},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array"},
        },
    }
    return {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": tensor},
        },
    }


def _infer_example(signature: Signature) -> dict[str, Any]:
    inputs = []
    row = example_instances(signature)[0] if signature.fields else {}
    for spec in described_inputs(signature):
        shape = [1, *_row_shape(spec)]
        if spec.name in row and not any(spec.name == s.name for s in signature.inputs):
            value = str(row[spec.name]) if spec.datatype == "BYTES" else row[spec.name]
            inputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [value]})
            continue
        count = 1
        for size in shape:
            count *= size
        inputs.append({
            "name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [_plain(spec.datatype)] * count,
        })  # fmt: skip
    return {"inputs": inputs}


def _row_shape(spec: TensorSpec) -> list[int]:
    return [1 if size < 0 else size for size in spec.shape[1:]]


def _nested(shape: list[int], datatype: str) -> Any:
    if not shape:
        return _plain(datatype)
    return [_nested(shape[1:], datatype)] * shape[0]


def _plain(datatype: str) -> Any:
    return {"boolean": False, "string": "", "number": 0.0}.get(_DATATYPES.get(datatype, "integer"), 0)


def _typed(field: Field, value: Any) -> Any:
    if field.kind == "date":
        return datetime.fromtimestamp(value / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if field.kind in ("number", "integer") and field.low is not None and field.high is not None:
        # Rows that are drawn go beyond the range, to test with; an example for people stays in it.
        value = type(value)(min(max(value, field.low), field.high))
    return round(value, 4) if isinstance(value, float) else value


def quoted(name: str) -> str:
    """Return a name as a path has it."""
    return re.sub(r"[^\w.~-]", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), name, flags=re.ASCII)
