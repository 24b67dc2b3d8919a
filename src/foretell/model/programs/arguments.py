"""Arguments of operations, as plain values: numbers, lists, names of values, dtypes, devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Device", "Dtype", "Layout", "MemoryFormat", "Ref", "argument"]


@dataclass(frozen=True, slots=True)
class Ref:
    """A value that was defined before: an input, or a result."""

    name: str


@dataclass(frozen=True, slots=True)
class Dtype:
    """A dtype, by its number in the file."""

    number: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device: whichever the program was exported on, it means the one it runs on."""


@dataclass(frozen=True, slots=True)
class MemoryFormat:
    """1 contiguous, 2 channels last, 3 the same with depth, 4 as it is."""

    number: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Always dense (7): others are refused."""

    number: int


def argument(entry: Any, defined: set[str]) -> Any:
    """Return an argument as a plain value; lists as lists.

    Raises:
        ValueError: Its form is not known, or it names a value that is not there.
    """
    ((form, value),) = entry.items()
    if form in _PLAIN:
        return _PLAIN[form](value)
    if form in _LISTS:
        return [_one(_LISTS[form], item, defined) for item in value]
    if form == "as_nested_tensors":
        return [[_ref(item["name"], defined) for item in inner] for inner in value]
    return _one(form, value, defined)


def _one(form: str, value: Any, defined: set[str]) -> Any:
    if form == "as_tensor":
        return _ref(value["name"], defined)
    if form in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        ((kind, found),) = value.items()
        return _ref(found, defined) if kind == "as_name" else _PLAIN[kind](found)
    if form == "as_optional_tensor":
        ((kind, found),) = value.items()
        return None if kind == "as_none" else _ref(found["name"], defined)
    raise ValueError(f"an argument of the form {form[:40]!r}")


def _ref(name: Any, defined: set[str]) -> Ref:
    if name not in defined:
        raise ValueError(f"value {str(name)[:60]!r} is used before it is there")
    return Ref(name)


def _exactly(kind: type, *also: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind and type(value) not in also:
            raise ValueError(f"got {str(value)[:40]!r}, expected {kind.__name__}")
        return kind(value)

    return check


def _float(value: Any) -> float:
    # What JSON has no number for is written as a text.
    return float(value) if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN") else _number(value)


def _number(value: Any) -> float:
    checked: float = _exactly(float, int)(value)
    return checked


def _each(check: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda values: [check(v) for v in values]


def _dense(value: Any) -> Layout:
    if value != 7:
        raise ValueError(f"layout {str(value)[:20]}: sparse tensors are not run here")
    return Layout(7)


_int, _bool, _str = _exactly(int), _exactly(bool), _exactly(str)
_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "as_none": lambda _: None,
    "as_int": _int,
    "as_float": _float,
    "as_bool": _bool,
    "as_string": _str,
    "as_ints": _each(_int),
    "as_floats": _each(_float),
    "as_bools": _each(_bool),
    "as_strings": _each(_str),
    "as_int_lists": _each(_each(_int)),
    "as_float_lists": _each(_each(_float)),
    "as_scalar_type": lambda v: Dtype(_int(v)),
    "as_memory_format": lambda v: MemoryFormat(_int(v)),
    "as_layout": _dense,
    "as_device": lambda _: Device(),
    "as_complex": lambda v: complex(_float(v["real"]), _float(v["imag"])),
}
_LISTS = {
    "as_tensors": "as_tensor",
    "as_optional_tensors": "as_optional_tensor",
    "as_sym_ints": "as_sym_int",
    "as_sym_floats": "as_sym_float",
    "as_sym_bools": "as_sym_bool",
}
