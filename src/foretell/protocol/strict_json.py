"""JSON without silent damage: no duplicate keys, no NaN, no bytes after the end, a bounded depth.

orjson is already strict on tokens, UTF-8 and what follows the document, but it keeps the last of two equal
keys. A body with no more colons than keys has no duplicates and no colons in texts, which is nearly every body,
so counting them costs a tenth of parsing; only the others are looked at closely.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from foretell.protocol.status import Refused

__all__ = ["DEPTH", "read_json"]

DEPTH = 64
"""Deepest nesting of lists and objects."""

_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SAME = bytes.maketrans(b"{}", b"[]")


def read_json(body: bytes, keys_of: Callable[[Any], int] | None = None) -> Any:
    """Return the document.

    Args:
        body: UTF-8 JSON.
        keys_of: Counts the keys of a document of the expected form, faster than a walk does; it may count too few.

    Raises:
        Refused: Not JSON, nested deeper than DEPTH, or an object has the same key twice.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(body, error) from None
    if body.count(b"[") + body.count(b"{") > DEPTH and _is_deep(body):
        raise _too_deep()
    colons = body.count(b":")
    if colons != (keys_of or _keys)(document) and _bare(body).count(b":") != _keys(document):
        raise Refused("body: an object has the same key twice; send each key once", code="duplicate_key")
    return document


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> Refused:
    if not body:
        return Refused("body: it is empty; send a JSON object")
    if "depth limit" in error.msg:
        return _too_deep()
    where = f"line {error.lineno}, column {error.colno}"
    return Refused(f"body: it is not JSON: {error.msg} at {where}; NaN and Infinity are not JSON either")


def _too_deep() -> Refused:
    return Refused(f"body: JSON nested deeper than {DEPTH}; send it flat", code="json_too_deep")


def _bare(body: bytes) -> bytes:
    """Return a JSON document with every text emptied."""
    return _TEXTS.sub(b'""', body)


def _is_deep(body: bytes) -> bool:
    """Whether a document nests deeper than DEPTH: each round removes the innermost brackets."""
    brackets = _bare(body).translate(_SAME, _NOT_BRACKETS)
    for _ in range(DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _keys(document: Any) -> int:
    """Count the keys of every object in a document."""
    count, left = 0, [document]
    while left:
        at = left.pop()
        if type(at) is dict:
            count += len(at)
            left += at.values()
        elif type(at) is list and at and not _SCALARS.issuperset(map(type, at)):
            left += at
    return count


_SCALARS = frozenset((str, int, float, bool, type(None)))
