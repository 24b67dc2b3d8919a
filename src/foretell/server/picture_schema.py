"""What OpenAPI says of a model of pictures: bodies that are a picture, pictures in JSON, and what is seen in them."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

from foretell.engine.instance import Hello
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.detection import Detection

__all__ = ["MEDIA_TYPES", "example_picture", "picture_bodies", "picture_example", "picture_infer", "seen_schema"]

MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/tiff", "image/bmp")
_MOST_LABELS = 100
_TEXT: dict[str, Any] = {"type": "string", "contentEncoding": "base64"}
_B64: dict[str, Any] = {
    "type": "object", "required": ["b64"], "properties": {"b64": _TEXT}, "additionalProperties": False,
}  # fmt: skip


def example_picture() -> str:
    """Return a picture of 8 x 8 pixels in base64, as an example that runs."""
    rows = b"".join(b"\0" + bytes(range(at, at + 8 * 28, 28)) for at in range(0, 8 * 4, 4))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def picture_bodies(field: str) -> dict[str, Any]:
    """Return the content of the body of `:predict`, by media type."""
    named = {
        "type": "object", "required": [field], "properties": {field: {"anyOf": [_B64, _TEXT]}},
        "additionalProperties": False,
    }  # fmt: skip
    rows = {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": {"type": "array", "items": {"anyOf": [_B64, named, _TEXT]}}},
        "additionalProperties": False,
    }
    example = {"instances": [{"b64": example_picture()}]}
    plain = {"schema": {"type": "string", "format": "binary"}}
    return {"application/json": {"schema": rows, "example": example}, **dict.fromkeys(MEDIA_TYPES, plain)}


def picture_infer(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of `infer` for encoded pictures, from that of their tensor: its values are base64."""
    tensor = schema["properties"]["inputs"]["items"]
    data = {"type": "array", "items": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}}
    tensor["properties"]["data"] = data
    return schema


def picture_example(field: str) -> dict[str, Any]:
    """Return an example of `infer`."""
    return {"inputs": [{"name": field, "datatype": "BYTES", "shape": [1], "data": [example_picture()]}]}


def seen_schema(hello: Hello) -> dict[str, Any] | None:
    """Return what a prediction for one picture is; None: as for rows of any other model."""
    task = hello.task
    label: dict[str, Any] = {"type": ["string", "number", "boolean"]}
    if task.classes and len(task.classes) <= _MOST_LABELS:
        label = {"enum": list(task.classes)}
    if isinstance(task, Detection):
        number = {"type": "number"}
        box: dict[str, Any] = {"type": "array", "items": number, "minItems": 4, "maxItems": 4,
               "description": "x_min, y_min, x_max, y_max in pixels of the picture"}  # fmt: skip
        found = {
            "type": "object",
            "required": ["label", "score", "box"],
            "properties": {"label": label if task.classes else {"type": "string"}, "score": number, "box": box},
        }
        return {"type": "array", "items": found, "maxItems": task.max_objects}
    if isinstance(task, Classification) and task.top:
        chance: dict[str, Any] = {"type": ["number", "null"]}
        best: dict[str, Any] = {"type": "object", "additionalProperties": chance, "maxProperties": task.top,
                "description": f"Of the {task.top} most probable labels"}  # fmt: skip
        return {
            "type": "object",
            "required": ["label", "probability", "probabilities"],
            "properties": {"label": label, "probability": chance, "probabilities": best},
        }
    return None
