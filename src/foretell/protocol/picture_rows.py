"""Rows that are pictures, in JSON: `{"instances": [{"b64": "/9j/4AAQ..."}, ...]}`.

A row is `{"b64": text}`, the same under the name of the field, or the text alone; the forms of MLflow mean the same.
A text is base64. Nobody decodes it here.
"""

from __future__ import annotations

from typing import Any

from foretell.errors import InvalidInput
from foretell.model.data.image_headers import HEADERS
from foretell.protocol.long_texts import LongTexts
from foretell.protocol.predict_rows import rows_of
from foretell.protocol.status import Refused
from foretell.request import Base64

__all__ = ["decode_pictures", "is_picture"]

_B64 = "b64"
_MAGIC_BYTES = 16


def decode_pictures(body: bytes | bytearray, field: str) -> list[Base64]:
    """Return the pictures of a JSON body.

    Args:
        body: UTF-8 JSON.
        field: Name of the field that is a picture.

    Raises:
        Refused: The body is not of a known form.
        InvalidInput: A row is no picture; it is named.
    """
    texts = LongTexts(body)
    pictures = [texts.take(_text_of(row, at, field)) for at, row in enumerate(rows_of(texts.document))]
    if texts.left:
        raise Refused("body: a long text that belongs to no picture; send each key once", code="unknown_field")
    return pictures


def is_picture(body: bytes | bytearray | memoryview) -> bool:
    """Whether a body begins like a picture."""
    start = bytes(body[:_MAGIC_BYTES])
    return any(begins(start) for _, begins, _ in HEADERS)


def _text_of(row: Any, at: int, field: str) -> str:
    found = row
    if type(found) is list and len(found) == 1:
        (found,) = found
    if type(found) is dict and found.keys() == {field}:
        found = found[field]
    if type(found) is dict and found.keys() == {_B64}:
        found = found[_B64]
    if type(found) is str:
        return found
    raise InvalidInput(
        f'{field}, row {at}: got {_told(found)}, expected {{"b64": "..."}} with a picture in base64',
        column=field,
        row=at,
    )


def _told(found: Any) -> str:
    if type(found) is dict:
        names = ", ".join(f'"{key[:40]}"' for key in list(found)[:4])
        return f"an object with {names or 'nothing'}"
    return {list: "a list", bool: "a boolean", type(None): "null"}.get(type(found), "a number")
