"""JSON with long texts in it, such as pictures in base64: read without a copy of them and without looking into them.

A parser holds the whole process up while it goes over megabytes of text. Here the long texts are found by their
quotes alone, at the speed of memory, and cut out; the little that is left is read with all checks. Pure.
"""

from __future__ import annotations

import os
from typing import Any

from foretell.protocol.status import Refused
from foretell.protocol.strict_json import read_json
from foretell.request import Base64

__all__ = ["LongTexts"]

_LARGE_BYTES = 1 << 15
"""A smaller document is read as it is."""
_LONG_BYTES = 1 << 10
"""Shorter texts stay where they are."""
_MOST_QUOTES = 1 << 14
_MOST_BACKSLASHES = 64
_MARK = os.urandom(12).hex()
"""Stands for a text that was cut out. Nobody can guess it, so nobody can refer to a text."""


class LongTexts:
    """A JSON document, and the long texts that were in it.

    Attributes:
        document: As `read_json` gives it, with a mark in the place of each long text.
        left: Long texts that nobody has taken yet.
    """

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        """Read a document.

        Raises:
            Refused: It is not JSON, or has so many texts that looking for the long ones would take long.
        """
        self._texts: dict[str, memoryview] = {}
        self.document: Any = read_json(self._cut(body) if len(body) > _LARGE_BYTES else bytes(body))
        self.left = len(self._texts)

    def take(self, text: str) -> Base64:
        """Return a text of the document as it came, or the long one it stands for."""
        found = self._texts.get(text)
        if found is None:
            return Base64(text.encode("utf-8", "replace"))
        self.left -= 1
        return Base64(found)

    def _cut(self, body: bytes | bytearray | memoryview) -> bytes:
        whole = bytes(body) if isinstance(body, memoryview) else body
        view, parts = memoryview(whole), []
        at = kept = 0
        # Outside of texts there are no quotes, and in them only escaped ones: each second one ends a text.
        for _ in range(_MOST_QUOTES):
            start = whole.find(b'"', at) + 1
            end = _end(whole, start) if start else -1
            if end < 0:
                parts.append(whole[kept:])
                return b"".join(parts)
            if end - start > _LONG_BYTES:
                mark = f"{_MARK}-{len(self._texts)}"
                self._texts[mark] = view[start:end]
                parts += [whole[kept:start], mark.encode()]
                kept = end
            at = end + 1
        raise Refused(f"body: more than {_MOST_QUOTES} texts; send fewer pictures at once")


def _end(body: bytes | bytearray, start: int) -> int:
    """Return where the text ends that begins at `start`; -1: it does not."""
    at = start
    for _ in range(_MOST_QUOTES):
        end = body.find(b'"', at)
        if end < 0:
            return -1
        before = end
        while before > start and body[before - 1] == 0x5C:
            before -= 1
            if end - before > _MOST_BACKSLASHES:
                raise Refused(f"body: more than {_MOST_BACKSLASHES} backslashes in a row; send the text without them")
        if (end - before) % 2 == 0:
            return end
        at = end + 1
    raise Refused(f"body: a text with more than {_MOST_QUOTES} quotes; send pictures as base64")
