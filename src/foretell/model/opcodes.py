"""Read a pickle without running it: our own machine over its opcodes, which imports nothing and calls nothing.

What a pickle would import becomes a `GlobalRef`, what it would call a `Call`: inert nodes. Arrays that joblib
writes between the opcodes are stepped over, and kept where they are small. Every length is checked before
it is read and everything is capped: opcodes, nodes, bytes. Opcodes as in CPython's `pickletools.py`, joblib's
arrays as in its `numpy_pickle.py`.

Knows no estimator (`pickles.py` does). What it finds is for people to read, never a reason to trust a file.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foretell.model.containers import COMPRESSIONS, Damaged, Inflated
from foretell.model.inert import Array, Call, GlobalRef, Large, Plain, Stream, Table, UnreadablePickle

__all__ = ["Pickle", "pickle_protocol", "read_pickle"]

_MAX_OPCODES = 2_000_000
_MAX_KEPT_BYTES = 64 << 20
_MAX_ITEM_BYTES = 1 << 20
_HEAD_BYTES = 64 << 10
_MAX_NUMBER_BYTES = 1024
_MARK = object()
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


@dataclass(slots=True)
class Pickle:
    """What a pickle holds."""

    root: Any
    protocol: int
    compression: str
    """Name of the compression, or empty."""
    globals: list[str]
    """Every name it would import, in order of first use."""


def pickle_protocol(content: bytes) -> int | None:
    """Return the pickle protocol that bytes begin with, or None if they do not begin like a pickle.

    From protocol 2 on there is a mark. Without one, the opcodes must make sense up to the end, or for
    a hundred of them; then it is protocol 0 or 1, and 0 is returned.
    """
    if len(content) > 2 and content[0] == 0x80 and content[1] <= 9:
        return content[1]
    machine = _Machine(Plain(content[:65536]), max_opcodes=100)
    try:
        machine.run()
    except _Stopped:
        return 0 if machine.imports else None
    except UnreadablePickle:
        return 0 if machine.imports and machine.opcodes > 4 else None
    return 0 if machine.opcodes > 1 else None


def read_pickle(content: bytes) -> Pickle:
    """Read a whole pickle, plain or compressed, as inert nodes.

    Raises:
        UnreadablePickle: It is none, it is damaged, or it is larger than is looked into.
    """
    compression = next((n for n, heads in COMPRESSIONS.items() if content.startswith(heads)), "")
    imports: dict[str, None] = {}
    try:
        machine = _Machine(Stream(Inflated(content, compression)) if compression else Plain(content))
        machine.imports = imports
        root = machine.run()
    except (Damaged, UnreadablePickle) as error:
        raise UnreadablePickle(str(error), list(imports)) from error
    return Pickle(root, machine.protocol, compression, list(machine.imports))


class _Stopped(Exception):
    """The cap on opcodes was reached."""


class _Machine:
    """Runs opcodes on a stack of inert nodes."""

    def __init__(self, source: Plain | Stream, *, max_opcodes: int = _MAX_OPCODES, nested: bool = False) -> None:
        self.source = source
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
                return self._pop()
            self.opcodes += 1
            if self.opcodes > self._max_opcodes:
                if self._max_opcodes < _MAX_OPCODES:
                    raise _Stopped
                raise UnreadablePickle(f"more than {_MAX_OPCODES:,} opcodes: not looked into")
            action = _ACTIONS.get(code)
            if action is None:
                raise UnreadablePickle(f"byte {code:#04x} at {self.source.at - 1} is no opcode")
            try:
                action(self)
            except (ValueError, IndexError, struct.error, UnicodeDecodeError, OverflowError) as error:
                raise UnreadablePickle(f"opcode {code:#04x} at byte {self.source.at}: {error}") from error

    # Values

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise UnreadablePickle(f"nothing on the stack at byte {self.source.at}")
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise UnreadablePickle(f"nothing on the stack at byte {self.source.at}")
        return self.stack[-1]

    def _pop_mark(self) -> list[Any]:
        found: list[Any] = []
        while True:
            if not self.stack:
                raise UnreadablePickle(f"no mark on the stack at byte {self.source.at}")
            item = self.stack.pop()
            if item is _MARK:
                return found[::-1]
            found.append(item)

    def _keep(self, count: int) -> None:
        self._kept += count
        if self._kept > _MAX_KEPT_BYTES:
            raise UnreadablePickle(f"more than {_MAX_KEPT_BYTES >> 20} MiB of strings: not looked into")

    def _sized(self, width: int) -> bytes | Large:
        count = int.from_bytes(self.source.read(width), "little")
        if count <= _MAX_ITEM_BYTES:
            self._keep(count)
            return self.source.read(count)
        self._keep(_HEAD_BYTES)
        head = self.source.read(_HEAD_BYTES)
        self.source.skip(count - _HEAD_BYTES)
        return Large(count, head)

    def _bytes(self, width: int) -> None:
        self._push(self._sized(width))

    def _text(self, width: int, encoding: str = "utf-8") -> None:
        found = self._sized(width)
        self._push(found if isinstance(found, Large) else found.decode(encoding, "surrogateescape"))

    def _number(self, width: int) -> None:
        count = int.from_bytes(self.source.read(width), "little")
        if count > _MAX_NUMBER_BYTES:
            raise UnreadablePickle(f"a number of {count} bytes: more than is looked into")
        self._push(int.from_bytes(self.source.read(count), "little", signed=True))

    def _fixed(self, form: str) -> None:
        self._push(struct.unpack(form, self.source.read(struct.calcsize(form)))[0])

    def _line(self) -> str:
        found = self.source.line()
        self._keep(len(found))
        return found.decode("utf-8", "surrogateescape")

    def _integer_line(self) -> None:
        line = self._line()
        if len(line) > _MAX_NUMBER_BYTES:
            raise UnreadablePickle(f"a number of {len(line)} digits: more than is looked into")
        self._push({"00": False, "01": True}[line] if line in ("00", "01") else int(line.rstrip("L")))

    def _quoted_line(self) -> None:
        line = self._line()
        if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
            raise UnreadablePickle(f"a string without quotes at byte {self.source.at}")
        self._push(line[1:-1].encode("utf-8", "surrogateescape").decode("unicode_escape"))

    # The memo: nodes are shared, never copied, so nothing grows by being named again.

    def _put(self, at: int) -> None:
        if at < 0 or at > 1 << 32:
            raise UnreadablePickle(f"memo {at} is out of range")
        self.memo[at] = self._top()

    def _get(self, at: int) -> None:
        if at not in self.memo:
            raise UnreadablePickle(f"memo {at} was never set")
        self._push(self.memo[at])

    def _small(self, width: int) -> int:
        return int.from_bytes(self.source.read(width), "little")

    # Containers

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, (list, Call)):
            target.extend(items)
        else:
            raise UnreadablePickle(f"append to no list at byte {self.source.at}")

    def _set(self, items: list[Any]) -> None:
        target = self._top()
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

    def _import(self, module: Any, name: Any) -> None:
        known = isinstance(module, str) and isinstance(name, str)
        found = GlobalRef(module[:200], name[:200]) if known else GlobalRef("<computed>", "<computed>")
        self.imports[str(found)] = None
        self._push(found)

    def _call(self, arguments: Any, function: Any, named: Any = None) -> None:
        self._push(Call(function, arguments, None if named is None else named))

    def _call_old(self, items: list[Any]) -> None:
        if not items:
            raise UnreadablePickle(f"a call of nothing at byte {self.source.at}")
        self._call(tuple(items[1:]), items[0])

    def _build(self) -> None:
        state = self._pop()
        target = self._top()
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
            inner = _Machine(self.source, max_opcodes=self._max_opcodes - self.opcodes, nested=True)
            inner.imports = self.imports
            found = inner.run()
            self.opcodes += inner.opcodes
            return found
        if state.get("numpy_array_alignment_bytes") is not None:
            self.source.skip(self.source.read(1)[0])
        count = math.prod(shape) * itemsize
        if count > _MAX_ITEM_BYTES or self._kept + count > _MAX_KEPT_BYTES:
            self.source.skip(count)
            return Array(name, shape)
        self._kept += count
        return Array(name, shape, "F" if state.get("order") == "F" else "C", self.source.read(count))

    def _no_buffer(self) -> None:
        raise UnreadablePickle("its buffers are outside the file")


def _dtype(node: Any) -> tuple[str, int, bool]:
    """Return the type string of a numpy dtype node, its bytes per element, and whether it holds objects."""
    arguments = node.arguments if isinstance(node, Call) else ()
    text = arguments[0] if isinstance(arguments, tuple) and arguments else None
    matched = _TYPE.match(text) if isinstance(text, str) else None
    if matched is None or not isinstance(text, str):
        raise UnreadablePickle(f"an array of unknown type ({str(text)[:40]})")
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
    return isinstance(dtype.arguments, tuple) and bool(dtype.arguments) and str(dtype.arguments[0]).startswith("O")


def _constant(value: Any) -> Callable[[_Machine], Any]:
    return lambda m: m._push(value)


# fmt: off
_ACTIONS: dict[int, Callable[[_Machine], Any]] = {
    ord("("): lambda m: m._push(_MARK),
    ord("0"): lambda m: m.stack.pop(),
    ord("1"): lambda m: m._pop_mark(),
    ord("2"): lambda m: m._push(m._top()),
    ord("F"): lambda m: m._push(float(m._line())),
    ord("I"): lambda m: m._integer_line(),
    ord("J"): lambda m: m._fixed("<i"),
    ord("K"): lambda m: m._fixed("<B"),
    ord("L"): lambda m: m._integer_line(),
    ord("M"): lambda m: m._fixed("<H"),
    ord("N"): _constant(None),
    ord("P"): lambda m: m._call((m._line(),), GlobalRef("<persistent>", "load")),
    ord("Q"): lambda m: m._call((m._pop(),), GlobalRef("<persistent>", "load")),
    ord("R"): lambda m: m._call(m._pop(), m._pop()),
    ord("S"): lambda m: m._quoted_line(),
    ord("T"): lambda m: m._text(4, "latin-1"),
    ord("U"): lambda m: m._text(1, "latin-1"),
    ord("V"): lambda m: m._push(m._line().encode("utf-8", "surrogateescape").decode("raw-unicode-escape")),
    ord("X"): lambda m: m._text(4),
    ord("a"): lambda m: m._append([m._pop()]),
    ord("b"): lambda m: m._build(),
    ord("c"): lambda m: m._import(m._line(), m._line()),
    ord("d"): lambda m: _new_table(m, m._pop_mark()),
    ord("}"): lambda m: m._push(Table()),
    ord("e"): lambda m: m._append(m._pop_mark()),
    ord("g"): lambda m: m._get(int(m._line()[:20])),
    ord("h"): lambda m: m._get(m._small(1)),
    ord("i"): lambda m: _instance(m),
    ord("j"): lambda m: m._get(m._small(4)),
    ord("l"): lambda m: m._push(m._pop_mark()),
    ord("]"): lambda m: m._push([]),
    ord("o"): lambda m: m._call_old(m._pop_mark()),
    ord("p"): lambda m: m._put(int(m._line()[:20])),
    ord("q"): lambda m: m._put(m._small(1)),
    ord("r"): lambda m: m._put(m._small(4)),
    ord("s"): lambda m: _set_one(m),
    ord("t"): lambda m: m._push(tuple(m._pop_mark())),
    ord(")"): _constant(()),
    ord("u"): lambda m: m._set(m._pop_mark()),
    ord("G"): lambda m: m._fixed(">d"),
    ord("B"): lambda m: m._bytes(4),
    ord("C"): lambda m: m._bytes(1),
    0x80: lambda m: _protocol(m),
    0x81: lambda m: m._call(m._pop(), m._pop()),
    0x82: lambda m: m._import("copyreg.extension", str(m._small(1))),
    0x83: lambda m: m._import("copyreg.extension", str(m._small(2))),
    0x84: lambda m: m._import("copyreg.extension", str(m._small(4))),
    0x85: lambda m: m._push((m._pop(),)),
    0x86: lambda m: m._push((m._pop(), m._pop())[::-1]),
    0x87: lambda m: m._push((m._pop(), m._pop(), m._pop())[::-1]),
    0x88: _constant(True),
    0x89: _constant(False),
    0x8A: lambda m: m._number(1),
    0x8B: lambda m: m._number(4),
    0x8C: lambda m: m._text(1),
    0x8D: lambda m: m._text(8),
    0x8E: lambda m: m._bytes(8),
    0x8F: lambda m: m._push([]),
    0x90: lambda m: m._append(m._pop_mark()),
    0x91: lambda m: m._push(m._pop_mark()),
    0x92: lambda m: _call_named(m),
    0x93: lambda m: _stack_global(m),
    0x94: lambda m: m._put(len(m.memo)),
    0x95: lambda m: m.source.skip(8),
    0x96: lambda m: m._bytes(8),
    0x97: lambda m: m._no_buffer(),
    0x98: lambda m: None,
}
# fmt: on
"""What each opcode does, as in pickletools.opcodes; sets are kept as lists."""


def _new_table(machine: _Machine, items: list[Any]) -> None:
    machine._push(Table())
    machine._set(items)


def _set_one(machine: _Machine) -> None:
    value, key = machine._pop(), machine._pop()
    machine._set([key, value])


def _instance(machine: _Machine) -> None:
    machine._import(machine._line(), machine._line())
    cls = machine._pop()
    machine._call(tuple(machine._pop_mark()), cls)


def _stack_global(machine: _Machine) -> None:
    name, module = machine._pop(), machine._pop()
    machine._import(module, name)


def _call_named(machine: _Machine) -> None:
    named, arguments, cls = machine._pop(), machine._pop(), machine._pop()
    machine._call(arguments, cls)
    machine._top().extend([named])


def _protocol(machine: _Machine) -> None:
    machine.protocol = machine._small(1)
