"""A machine that runs the opcodes of a pickle on a stack of inert nodes: it imports nothing and calls nothing.

Which opcode does what is in `opcodes.py`. Arrays that joblib writes between the opcodes (its `numpy_pickle.py`)
are stepped over, and kept where they are small. Opcodes and what is kept are capped.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

from foretell.model.pickles.inert import (
    Array,
    Call,
    GlobalRef,
    Large,
    Plain,
    Stream,
    Table,
    UnreadablePickle,
    printable,
)

__all__ = ["MARK", "Action", "Machine", "Stopped"]

Action = Callable[["Machine"], Any]

_MAX_KEPT_BYTES = 64 << 20
_MAX_ITEM_BYTES = 1 << 20
_HEAD_BYTES = 64 << 10
_MAX_NUMBER_BYTES = 1024
MARK = object()
"""What MARK pushes."""

_WRAPPERS = {"NumpyArrayWrapper"}
_TYPE = re.compile(r"[<>|=]?([?bBhHiIlLqQefdSUVmMOcu])(\d*)\Z")
_LETTER_BYTES = {
    "?": 1,
    "b": 1,
    "B": 1,
    "h": 2,
    "H": 2,
    "e": 2,
    "f": 4,
    "d": 8,
    "i": 4,
    "I": 4,
    "l": 8,
    "L": 8,
    "q": 8,
    "Q": 8,
}


class Stopped(UnreadablePickle):
    """The cap on opcodes was reached."""


class Machine:
    """Runs opcodes on a stack of inert nodes."""

    def __init__(
        self, source: Plain | Stream, actions: Mapping[int, Action], *, max_opcodes: int, nested: bool = False
    ) -> None:
        self.source = source
        self._actions = actions
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.imports: dict[str, None] = {}
        self.protocol = 0
        self.opcodes = 0
        self._max_opcodes = max_opcodes
        self._kept = 0
        self._nested = nested

    def run(self) -> Any:
        """Run to STOP and return what is on top."""
        read = self.source.read
        while True:
            code = read(1)[0]
            if code == 0x2E:
                return self.pop()
            self.opcodes += 1
            if self.opcodes > self._max_opcodes:
                raise Stopped(f"more than {self._max_opcodes:,} opcodes: not looked into")
            action = self._actions.get(code)
            if action is None:
                raise UnreadablePickle(f"byte {code:#04x} at {self.source.at - 1} is no opcode")
            try:
                action(self)
            except (ValueError, IndexError, struct.error, UnicodeDecodeError, OverflowError) as error:
                raise UnreadablePickle(f"opcode {code:#04x} at byte {self.source.at}: {error}") from error

    # Values

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the top of the stack."""
        if not self.stack or self.stack[-1] is MARK:
            raise UnreadablePickle(f"nothing on the stack at byte {self.source.at}")
        return self.stack.pop()

    def top(self) -> Any:
        """Return the top of the stack."""
        if not self.stack or self.stack[-1] is MARK:
            raise UnreadablePickle(f"nothing on the stack at byte {self.source.at}")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        found: list[Any] = []
        while True:
            if not self.stack:
                raise UnreadablePickle(f"no mark on the stack at byte {self.source.at}")
            item = self.stack.pop()
            if item is MARK:
                return found[::-1]
            found.append(item)

    def _keep(self, count: int) -> None:
        self._kept += count
        if self._kept > _MAX_KEPT_BYTES:
            raise UnreadablePickle(f"more than {_MAX_KEPT_BYTES >> 20} MiB of strings: not looked into")

    def sized(self, width: int) -> bytes | Large:
        """Read a string whose length is in the next `width` bytes; a large one is stepped over."""
        count = int.from_bytes(self.source.read(width), "little")
        if count <= _MAX_ITEM_BYTES:
            self._keep(count)
            return self.source.read(count)
        self._keep(_HEAD_BYTES)
        head = self.source.read(_HEAD_BYTES)
        self.source.skip(count - _HEAD_BYTES)
        return Large(count, head)

    def push_bytes(self, width: int) -> None:
        """Push a sized string as bytes."""
        self.push(self.sized(width))

    def push_text(self, width: int, encoding: str = "utf-8") -> None:
        """Push a sized string as text."""
        found = self.sized(width)
        self.push(found if isinstance(found, Large) else found.decode(encoding, "surrogateescape"))

    def push_number(self, width: int) -> None:
        """Push a sized number, little-endian and signed."""
        count = int.from_bytes(self.source.read(width), "little")
        if count > _MAX_NUMBER_BYTES:
            raise UnreadablePickle(f"a number of {count} bytes: more than is looked into")
        self.push(int.from_bytes(self.source.read(count), "little", signed=True))

    def push_fixed(self, form: str) -> None:
        """Push a number of a fixed form of `struct`."""
        self.push(struct.unpack(form, self.source.read(struct.calcsize(form)))[0])

    def line(self) -> str:
        """Read a line."""
        found = self.source.line()
        self._keep(len(found))
        return found.decode("utf-8", "surrogateescape")

    def push_integer_line(self) -> None:
        """Push the number on the next line."""
        line = self.line()
        if len(line) > _MAX_NUMBER_BYTES:
            raise UnreadablePickle(f"a number of {len(line)} digits: more than is looked into")
        self.push({"00": False, "01": True}[line] if line in ("00", "01") else int(line.rstrip("L")))

    def push_quoted_line(self) -> None:
        """Push the quoted string on the next line."""
        line = self.line()
        if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
            raise UnreadablePickle(f"a string without quotes at byte {self.source.at}")
        self.push(line[1:-1].encode("utf-8", "surrogateescape").decode("unicode_escape"))

    # The memo: nodes are shared, never copied, so nothing grows by being named again.

    def put(self, at: int) -> None:
        """Remember the top of the stack."""
        if at < 0 or at > 1 << 32:
            raise UnreadablePickle(f"memo {at} is out of range")
        self.memo[at] = self.top()

    def get(self, at: int) -> None:
        """Push what was remembered."""
        if at not in self.memo:
            raise UnreadablePickle(f"memo {at} was never set")
        self.push(self.memo[at])

    def small(self, width: int) -> int:
        """Read a number of `width` bytes."""
        return int.from_bytes(self.source.read(width), "little")

    # Containers

    def append(self, items: list[Any]) -> None:
        """Append to the list, or the object, on top."""
        target = self.top()
        if isinstance(target, (list, Call)):
            target.extend(items)
        else:
            raise UnreadablePickle(f"append to no list at byte {self.source.at}")

    def set_items(self, items: list[Any]) -> None:
        """Set keys and values, in turn, in the dict or the object on top."""
        target = self.top()
        if len(items) % 2:
            raise UnreadablePickle(f"a key without a value at byte {self.source.at}")
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if isinstance(target, Table):
            target.pairs.extend(pairs)
        elif isinstance(target, Call):
            target.extend(pairs)
        else:
            raise UnreadablePickle(f"set an item of no dict at byte {self.source.at}")

    # What would import, call and build

    def import_(self, module: Any, name: Any) -> None:
        """Push a name instead of what it would import."""
        known = isinstance(module, str) and isinstance(name, str)
        found = GlobalRef(printable(module), printable(name)) if known else GlobalRef("<computed>", "<computed>")
        self.imports[str(found)] = None
        self.push(found)

    def call(self, arguments: Any, function: Any, named: Any = None) -> None:
        """Push a call instead of what it would return."""
        self.push(Call(function, arguments, None if named is None else named))

    def call_old(self, items: list[Any]) -> None:
        """Push a call of the first of these with the others."""
        if not items:
            raise UnreadablePickle(f"a call of nothing at byte {self.source.at}")
        self.call(tuple(items[1:]), items[0])

    def build(self) -> None:
        """Give the object below its state; step over the elements of an array of joblib."""
        state = self.pop()
        target = self.top()
        if isinstance(target, Call):
            target.state = state
            if isinstance(target.function, GlobalRef) and target.function.name in _WRAPPERS and not self._nested:
                self.stack[-1] = self._joblib_array(state)

    def _joblib_array(self, state: Any) -> Any:
        """Step over the array that joblib wrote here: a byte that says how much padding, padding, the elements."""
        if not isinstance(state, Table):
            raise UnreadablePickle("an array of joblib without a description")
        shape, dtype = state.get("shape", ()), state.get("dtype")
        if not isinstance(shape, tuple) or not all(isinstance(d, int) and 0 <= d < 1 << 48 for d in shape):
            raise UnreadablePickle("an array of joblib without a shape")
        name, itemsize, holds_objects = _dtype(dtype)
        if holds_objects:
            left = self._max_opcodes - self.opcodes
            inner = Machine(self.source, self._actions, max_opcodes=left, nested=True)
            inner.imports, inner._kept = self.imports, self._kept
            found = inner.run()
            self.opcodes += inner.opcodes
            self._kept = inner._kept
            return found
        if state.get("numpy_array_alignment_bytes") is not None:
            self.source.skip(self.source.read(1)[0])
        count = math.prod(shape) * itemsize
        if count > _MAX_ITEM_BYTES or self._kept + count > _MAX_KEPT_BYTES:
            self.source.skip(count)
            return Array(name, shape)
        self._kept += count
        return Array(name, shape, "F" if state.get("order") == "F" else "C", self.source.read(count))

    def no_buffer(self) -> None:
        """Refuse: the buffer is not in the file."""
        raise UnreadablePickle("its buffers are outside the file")


def _dtype(node: Any) -> tuple[str, int, bool]:
    """Return the type string of a numpy dtype node, its bytes per element, and whether it holds objects."""
    arguments = node.arguments if isinstance(node, Call) else ()
    text = arguments[0] if isinstance(arguments, tuple) and arguments else None
    matched = _TYPE.match(text) if isinstance(text, str) else None
    if matched is None or not isinstance(text, str):
        raise UnreadablePickle("an array of unknown type")
    letter, digits = matched.groups()
    if not digits and letter not in _LETTER_BYTES and letter != "O":
        raise UnreadablePickle(f"an array of unknown type ({text[:40]})")
    count = int(digits) if digits and len(digits) < 10 else _LETTER_BYTES.get(letter, 8)
    state = node.state if isinstance(node.state, tuple) else ()
    order = state[1] if len(state) > 1 and state[1] in ("<", ">", "=") else "<"
    parts = state[4] if len(state) > 4 and isinstance(state[4], Table) else Table()
    inner = [v[0] for _, v in parts.pairs if isinstance(v, tuple) and v and isinstance(v[0], Call)]
    holds_objects = letter == "O" or any(i is not node and _holds_objects(i) for i in inner)
    return order + text.lstrip("<>|="), count * (4 if letter == "U" else 1), holds_objects


def _holds_objects(dtype: Call) -> bool:
    first = dtype.arguments[0] if isinstance(dtype.arguments, tuple) and dtype.arguments else None
    return isinstance(first, str) and first.startswith("O")
