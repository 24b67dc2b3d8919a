"""What one value means: missing, a number, a truth, a text.

Every door ends here: the fast paths of `columns` and `row` may skip these functions only where they
would give the same. Knows no field, no table and no tensor.
"""

from __future__ import annotations

import math
import re
import reprlib
from decimal import Decimal
from typing import Any

import numpy as np

__all__ = [
    "BOOLEAN_TEXTS",
    "MISSING_TEXTS",
    "Unfit",
    "as_number",
    "as_text",
    "is_missing",
    "parse_number",
    "quote",
    "shown",
    "spellings",
]

MISSING_TEXTS = frozenset(
    {
        *("", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "NaT", "None", "n/a", "nan", "null", "Null", "NAN", "<na>"),
    }
)
"""Texts that mean "no value", in every door: those of pandas, and a few more. A known category goes first."""

BOOLEAN_TEXTS = {
    **dict.fromkeys(("true", "True", "TRUE", "1", "1.0"), True),
    **dict.fromkeys(("false", "False", "FALSE", "0", "0.0"), False),
}
"""Texts that mean a truth, where one is expected."""

_NUMBER = re.compile(r"[ \t]*([+-]?)(?:(\d+)|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)[ \t]*", re.ASCII)
_MISSING_TYPES = frozenset({"NAType", "NaTType", "MaskedConstant"})
_DIGITS = 310
"""More digits than any float64 has before its point."""

_REPR = reprlib.Repr()
_REPR.maxother = _REPR.maxlong = _REPR.maxstring = 40


class Unfit(Exception):
    """A value that cannot be taken: what was expected instead, and what to do. Never leaves this package."""


def is_missing(value: Any) -> bool:
    """Whether a value that is not a text says that there is none: None, NaN, NaT, pandas' NA, a masked value."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    if isinstance(value, Decimal):
        return value.is_nan()
    return type(value).__name__ in _MISSING_TYPES


def as_number(value: Any) -> int | float | None:
    """Return a value as a Python number, exactly; None if it is not a number. A decimal may round, as float64."""
    if isinstance(value, np.timedelta64):  # numpy counts it among the integers
        return None
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, Decimal):
        near = float(value)
        return int(value) if math.isfinite(near) and value == value.to_integral_value() else near
    return None


def as_text(value: Any) -> str | None:
    """Return a text, or bytes that are UTF-8, as `str`; None if it is neither.

    Raises:
        Unfit: Bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Unfit("expected text in UTF-8") from None
    return None


def parse_number(text: str) -> int | float | None:
    """Return the number that a text spells in plain decimal notation; None if it does not."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    if found[2] and len(found[2]) < _DIGITS:
        return int(found[1] + found[2])
    return float(text)


def spellings(number: int | float | bool) -> tuple[str, ...]:
    """Return the texts that a number may have as a category, the usual one first.

    Raises:
        Unfit: An integer beyond float64. Python itself refuses to spell very long ones.
    """
    if isinstance(number, bool):
        return ("True", "true", "TRUE") if number else ("False", "false", "FALSE")
    try:
        near = float(number)
    except OverflowError:
        raise Unfit("expected a number that fits float64") from None
    if near.is_integer():
        return (str(int(number)), repr(near))
    return (repr(near),)


def quote(text: str) -> str:
    """Return a text in double quotes, on one line and at most 40 characters of it."""
    return f'"{repr(text[:40])[1:-1]}{"..." if len(text) > 40 else ""}"'


def shown(value: Any) -> str:
    """Return a value for a message: what it is, on one line, at most 40 characters of it."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, np.generic):
        value = value.item() if value.dtype.kind in "biufc" else str(value)
    if isinstance(value, bytes):
        value = value[:40]
    try:
        text = _REPR.repr(value)
    except ValueError:  # Python spells no integer of more than 4,300 digits
        text = f"a very large {type(value).__name__}"
    return f"{text[:40]}..." if len(text) > 43 else text
