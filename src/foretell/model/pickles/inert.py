"""Inert nodes: what a pickle says, with nothing of it imported, called or copied; and the reading of its bytes.

Every read is checked against what is there before it is made, and what would be kept is capped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from foretell.model.containers import Inflated

__all__ = ["Array", "Call", "GlobalRef", "Large", "Plain", "Stream", "Table", "UnreadablePickle", "printable", "walk"]

_MAX_READ_BYTES = 2 << 30
_MAX_LINE_BYTES = 1 << 20


class UnreadablePickle(Exception):
    """The stream breaks the rules of pickles, or is larger than is looked into; says where."""

    imports: list[str]
    """Names it would import, up to where reading stopped."""

    def __init__(self, message: str, imports: list[str] | None = None) -> None:
        super().__init__(message)
        self.imports = imports or []


@dataclass(slots=True, eq=False)
class GlobalRef:
    """A name that the pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Table:
    """A dict, as pairs: keys are never hashed, so none can collide or be a node."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    _texts: dict[str, Any] = field(default_factory=dict)
    _indexed: int = 0

    def get(self, name: str, default: Any = None) -> Any:
        """Return the last value under a key that is this string."""
        if self._indexed != len(self.pairs):
            self._texts = {k: v for k, v in self.pairs if isinstance(k, str)}
            self._indexed = len(self.pairs)
        return self._texts.get(name, default)


@dataclass(slots=True, eq=False)
class Call:
    """An object: what would be called to make it, with what, and the state it would be given."""

    function: Any
    arguments: Any = ()
    state: Any = None
    items: list[Any] | None = None
    """What would be appended to it, or the pairs that would be set in it."""

    def extend(self, items: list[Any]) -> None:
        """Add to `items`."""
        if self.items is None:
            self.items = []
        self.items += items


@dataclass(slots=True, eq=False)
class Array:
    """An array that joblib wrote raw: its numpy type string, shape, and bytes where they are few."""

    dtype: str
    shape: tuple[int, ...]
    order: str = "C"
    raw: bytes | None = None


@dataclass(slots=True, eq=False)
class Large:
    """A string or bytes too large to keep: how many bytes it has, and the first of them."""

    size: int
    head: bytes


def printable(text: str) -> str:
    """Return text that a terminal can show: no control characters, no broken ones, not endless."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:200])


def walk(root: Any, limit: int = 500_000) -> Iterator[Any]:
    """Yield every node that can be reached, each once, the outer before the inner."""
    seen: set[int] = set()
    waiting = [root]
    while waiting and len(seen) < limit:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting += reversed(_inside(node))


def _inside(node: Any) -> list[Any]:
    if isinstance(node, Call):
        return [node.function, node.arguments, node.state, *(node.items or ())]
    if isinstance(node, Table):
        return [part for pair in node.pairs for part in pair]
    return list(node) if isinstance(node, (list, tuple)) else []


class Plain:
    """Reads forward through bytes that are all here."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start = self.at
        self.skip(count)
        return self._content[start : self.at]

    def skip(self, count: int) -> None:
        """Step over `count` bytes."""
        if not 0 <= count <= len(self._content) - self.at:
            raise UnreadablePickle(f"cut off: {count} bytes expected at byte {self.at} of {len(self._content)}")
        self.at += count

    def line(self) -> bytes:
        """Return the bytes up to the next newline, without it."""
        end = self._content.find(b"\n", self.at, self.at + _MAX_LINE_BYTES)
        if end < 0:
            raise UnreadablePickle(f"a line that begins at byte {self.at} does not end")
        found = self._content[self.at : end]
        self.at = end + 1
        return found


class Stream:
    """Reads forward through a compressed stream, holding one piece of it."""

    def __init__(self, inflated: Inflated) -> None:
        self._inflated = inflated
        self._piece = b""
        self._in_piece = 0
        self.at = 0

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self._in_piece + count
        if end <= len(self._piece):
            part = self._piece[self._in_piece : end]
            self._in_piece = end
            self.at += count
            return part
        return b"".join(self._parts(count))

    def skip(self, count: int) -> None:
        """Step over `count` bytes."""
        for _ in self._parts(count):
            pass

    def line(self) -> bytes:
        """Return the bytes up to the next newline, without it."""
        found: list[bytes] = []
        length = 0
        while length <= _MAX_LINE_BYTES:
            end = self._piece.find(b"\n", self._in_piece)
            if end >= 0:
                found.append(self.read(end - self._in_piece))
                self.skip(1)
                return b"".join(found)
            found.append(self.read(max(len(self._piece) - self._in_piece, 1)))
            if found[-1] == b"\n":
                return b"".join(found[:-1])
            length += len(found[-1])
        raise UnreadablePickle(f"a line that begins at byte {self.at - length} does not end")

    def _parts(self, count: int) -> Iterator[bytes]:
        if count < 0 or self.at + count > _MAX_READ_BYTES:
            raise UnreadablePickle(f"more than {_MAX_READ_BYTES >> 30} GiB when unpacked: not looked into")
        while count:
            if self._in_piece == len(self._piece):
                self._piece, self._in_piece = self._inflated.piece(), 0
                if not self._piece:
                    raise UnreadablePickle(f"cut off: {count} more bytes expected after {self.at} unpacked ones")
            part = self._piece[self._in_piece : self._in_piece + count]
            self._in_piece += len(part)
            self.at += len(part)
            count -= len(part)
            yield part
