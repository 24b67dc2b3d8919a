"""Read a pickle without running it: what each opcode does to a stack of inert nodes.

What a pickle would import becomes a `GlobalRef`, what it would call a `Call`. Opcodes as in CPython's
`pickletools.py`. What is found is for people to read, never a reason to trust a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from foretell.model.containers import COMPRESSIONS, Damaged, Inflated
from foretell.model.pickles.inert import GlobalRef, Plain, Stream, Table, UnreadablePickle
from foretell.model.pickles.machine import MARK, Action, Machine, Stopped

__all__ = ["Pickle", "pickle_protocol", "read_pickle", "read_pickle_at"]

_MAX_OPCODES = 2_000_000
_NAME = re.compile(r"[\w.<>]+")


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
    machine = Machine(Plain(content[:65536]), _ACTIONS, max_opcodes=100)
    try:
        machine.run()
        makes_sense = machine.opcodes > 1
    except UnreadablePickle as error:
        makes_sense = bool(machine.imports) and (isinstance(error, Stopped) or machine.opcodes > 4)
    return 0 if makes_sense and all(_NAME.fullmatch(name) for name in machine.imports) else None


def read_pickle(content: bytes) -> Pickle:
    """Read a whole pickle, plain or compressed, as inert nodes.

    Raises:
        UnreadablePickle: It is none, it is damaged, or it is larger than is looked into.
    """
    compression = next((n for n, heads in COMPRESSIONS.items() if content.startswith(heads)), "")
    imports: dict[str, None] = {}
    try:
        source = Stream(Inflated(content, compression)) if compression else Plain(content)
        machine = Machine(source, _ACTIONS, max_opcodes=_MAX_OPCODES)
        machine.imports = imports
        root = machine.run()
    except (Damaged, UnreadablePickle) as error:
        raise UnreadablePickle(str(error), list(imports)) from error
    return Pickle(root, machine.protocol, compression, list(machine.imports))


def read_pickle_at(content: bytes, at: int) -> tuple[Any, int]:
    """Read the pickle that begins at a byte, as inert nodes; return its root and where it ends.

    Raises:
        UnreadablePickle: It is none, it is damaged, or it is larger than is looked into.
    """
    source = Plain(content)
    source.at = at
    return Machine(source, _ACTIONS, max_opcodes=_MAX_OPCODES).run(), source.at


def _constant(value: Any) -> Action:
    return lambda m: m.push(value)


# fmt: off
_ACTIONS: dict[int, Action] = {
    ord("("): lambda m: m.push(MARK),
    ord("0"): lambda m: m.stack.pop(),
    ord("1"): lambda m: m.pop_mark(),
    ord("2"): lambda m: m.push(m.top()),
    ord("F"): lambda m: m.push(float(m.line())),
    ord("I"): lambda m: m.push_integer_line(),
    ord("J"): lambda m: m.push_fixed("<i"),
    ord("K"): lambda m: m.push_fixed("<B"),
    ord("L"): lambda m: m.push_integer_line(),
    ord("M"): lambda m: m.push_fixed("<H"),
    ord("N"): _constant(None),
    ord("P"): lambda m: m.call((m.line(),), GlobalRef("<persistent>", "load")),
    ord("Q"): lambda m: m.call((m.pop(),), GlobalRef("<persistent>", "load")),
    ord("R"): lambda m: m.call(m.pop(), m.pop()),
    ord("S"): lambda m: m.push_quoted_line(),
    ord("T"): lambda m: m.push_text(4, "latin-1"),
    ord("U"): lambda m: m.push_text(1, "latin-1"),
    ord("V"): lambda m: m.push(m.line().encode("utf-8", "surrogateescape").decode("raw-unicode-escape")),
    ord("X"): lambda m: m.push_text(4),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("b"): lambda m: m.build(),
    ord("c"): lambda m: m.import_(m.line(), m.line()),
    ord("d"): lambda m: _new_table(m, m.pop_mark()),
    ord("}"): lambda m: m.push(Table()),
    ord("e"): lambda m: m.append(m.pop_mark()),
    ord("g"): lambda m: m.get(int(m.line()[:20])),
    ord("h"): lambda m: m.get(m.small(1)),
    ord("i"): lambda m: _instance(m),
    ord("j"): lambda m: m.get(m.small(4)),
    ord("l"): lambda m: m.push(m.pop_mark()),
    ord("]"): lambda m: m.push([]),
    ord("o"): lambda m: m.call_old(m.pop_mark()),
    ord("p"): lambda m: m.put(int(m.line()[:20])),
    ord("q"): lambda m: m.put(m.small(1)),
    ord("r"): lambda m: m.put(m.small(4)),
    ord("s"): lambda m: _set_one(m),
    ord("t"): lambda m: m.push(tuple(m.pop_mark())),
    ord(")"): _constant(()),
    ord("u"): lambda m: m.set_items(m.pop_mark()),
    ord("G"): lambda m: m.push_fixed(">d"),
    ord("B"): lambda m: m.push_bytes(4),
    ord("C"): lambda m: m.push_bytes(1),
    0x80: lambda m: _protocol(m),
    0x81: lambda m: m.call(m.pop(), m.pop()),
    0x82: lambda m: m.import_("copyreg.extension", str(m.small(1))),
    0x83: lambda m: m.import_("copyreg.extension", str(m.small(2))),
    0x84: lambda m: m.import_("copyreg.extension", str(m.small(4))),
    0x85: lambda m: m.push((m.pop(),)),
    0x86: lambda m: m.push((m.pop(), m.pop())[::-1]),
    0x87: lambda m: m.push((m.pop(), m.pop(), m.pop())[::-1]),
    0x88: _constant(True),
    0x89: _constant(False),
    0x8A: lambda m: m.push_number(1),
    0x8B: lambda m: m.push_number(4),
    0x8C: lambda m: m.push_text(1),
    0x8D: lambda m: m.push_text(8),
    0x8E: lambda m: m.push_bytes(8),
    0x8F: lambda m: m.push([]),
    0x90: lambda m: m.append(m.pop_mark()),
    0x91: lambda m: m.push(m.pop_mark()),
    0x92: lambda m: _call_named(m),
    0x93: lambda m: _stack_global(m),
    0x94: lambda m: m.put(len(m.memo)),
    0x95: lambda m: m.source.skip(8),
    0x96: lambda m: m.push_bytes(8),
    0x97: lambda m: m.no_buffer(),
    0x98: lambda m: None,
}
# fmt: on
"""What each opcode does, as in pickletools.opcodes; sets are kept as lists."""


def _new_table(machine: Machine, items: list[Any]) -> None:
    machine.push(Table())
    machine.set_items(items)


def _set_one(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _instance(machine: Machine) -> None:
    machine.import_(machine.line(), machine.line())
    cls = machine.pop()
    machine.call(tuple(machine.pop_mark()), cls)


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.import_(module, name)


def _call_named(machine: Machine) -> None:
    named, arguments, cls = machine.pop(), machine.pop(), machine.pop()
    machine.call(arguments, cls)
    machine.top().extend([named])


def _protocol(machine: Machine) -> None:
    machine.protocol = machine.small(1)
