"""Universal Binary JSON, as XGBoost writes it: bytes to dict, list, array, str, int, float, bool, None.

Typed arrays become numpy arrays without a copy per element. A count is believed only if that many bytes
are left, so nothing larger than the file is ever built. See https://ubjson.org, draft 12.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from foretell.errors import ArtifactInvalid

__all__ = ["decode"]

MAX_DEPTH = 64
_NUMBERS = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q", "d": "f", "D": "d"}
_ARRAYS = {mark: np.dtype(f">{code}") for mark, code in _NUMBERS.items()}
_CONSTANTS = {"Z": None, "T": True, "F": False}


def decode(content: bytes) -> Any:
    """Decode one value that fills the content.

    Raises:
        ArtifactInvalid: It is cut short, too deep, or not UBJSON.
    """
    reader = _Reader(content)
    value = reader.value(reader.mark(), 0)
    if reader.at != len(content):
        raise ArtifactInvalid(f"UBJSON: {len(content) - reader.at} bytes after its end")
    return value


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            raise ArtifactInvalid(f"UBJSON: {count} bytes expected at byte {self.at}, the file ends before")
        self.at += count
        return self.content[self.at - count : self.at]

    def mark(self) -> str:
        """Return the next type mark; N stands for nothing and is passed over."""
        found = "N"
        while found == "N":
            found = self.take(1).decode("latin-1")
        return found

    def peek(self, mark: bytes) -> bool:
        found = self.content[self.at : self.at + 1] == mark
        self.at += found
        return found

    def value(self, mark: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ArtifactInvalid(f"UBJSON: deeper than {MAX_DEPTH}")
        if mark in _NUMBERS:
            return self.number(mark)
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        match mark:
            case "S" | "H":
                return self.text()
            case "C":
                return self.take(1).decode("latin-1")
            case "[":
                return self.array(depth)
            case "{":
                return self.object(depth)
        raise ArtifactInvalid(f"UBJSON: mark {mark!r} at byte {self.at - 1} is not a type")

    def number(self, mark: str) -> int | float:
        code = _NUMBERS[mark]
        found: int | float = struct.unpack(f">{code}", self.take(struct.calcsize(f">{code}")))[0]
        return found

    def count(self) -> int:
        mark = self.mark()
        if mark not in "iUIlL":
            raise ArtifactInvalid(f"UBJSON: mark {mark!r} at byte {self.at - 1}, expected a count")
        found = int(self.number(mark))
        if not 0 <= found <= len(self.content) - self.at:
            raise ArtifactInvalid(
                f"UBJSON: a count of {found} at byte {self.at}, {len(self.content) - self.at} are left"
            )
        return found

    def text(self) -> str:
        try:
            return self.take(self.count()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ArtifactInvalid(f"UBJSON: a string before byte {self.at} is not UTF-8") from error

    def header(self) -> tuple[str | None, int | None]:
        """Return the type and the count that open an optimised container, None where it has none."""
        mark = self.take(1).decode("latin-1") if self.peek(b"$") else None
        if self.peek(b"#"):
            return mark, self.count()
        if mark is not None:
            raise ArtifactInvalid(f"UBJSON: a type without a count at byte {self.at}")
        return None, None

    def array(self, depth: int) -> Any:
        mark, count = self.header()
        if mark in _ARRAYS and count is not None:
            dtype = _ARRAYS[mark]
            return np.frombuffer(self.take(count * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))
        found: list[Any] = []
        while len(found) != count and not (count is None and self.peek(b"]")):
            found.append(self.value(mark or self.mark(), depth + 1))
        return found

    def object(self, depth: int) -> dict[str, Any]:
        mark, count = self.header()
        found: dict[str, Any] = {}
        read = 0
        while read != count and not (count is None and self.peek(b"}")):
            key = self.text()
            found[key] = self.value(mark or self.mark(), depth + 1)
            read += 1
        return found
