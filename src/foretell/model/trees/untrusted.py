"""Typed access to a decoded document that nobody has checked.

Every accessor says what it found and what it expected, and raises ArtifactInvalid: a file that was cut short
or made up ends here and not in a KeyError. Knows no format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid

__all__ = ["MAX_FEATURES", "floats", "get", "integers", "load_json", "number", "singles", "whole"]

MAX_FEATURES = 100_000
"""Most features of a model: each becomes a field of its signature."""
_Value = TypeVar("_Value")
_INT32 = np.iinfo(np.int32)


def load_json(text: bytes | str) -> dict[str, Any]:
    """Parse a JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactInvalid(f"not whole JSON: {_one_line(error)}") from error
    if not isinstance(found, dict):
        raise ArtifactInvalid(f"got a JSON {type(found).__name__}, expected an object")
    return found


def get(mapping: Mapping[str, Any], key: str, kind: type[_Value], default: _Value | None = None) -> _Value:
    """Return `mapping[key]` if it is of this kind; the default, unless it is None, where the key is missing."""
    if default is not None and key not in mapping:
        return default
    found = mapping.get(key)
    if not isinstance(found, kind):
        got = "nothing" if found is None else type(found).__name__
        raise ArtifactInvalid(f'"{key}": got {got}, expected {kind.__name__}')
    return found


def whole(mapping: Mapping[str, Any], key: str, default: int | None = None, most: int = _INT32.max) -> int:
    """Return an integer of 0..most, written as a number or as a string."""
    if default is not None and key not in mapping:
        return default
    found = mapping.get(key)
    try:
        value = int(found) if isinstance(found, (int, str)) else -1
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise ArtifactInvalid(f'"{key}": got {str(found)[:40]!r}, expected an integer of 0 to {most}')
    return value


def number(found: Any, key: str) -> float:
    """Return a finite float, written as a number or as a string."""
    try:
        value = float(found) if isinstance(found, (int, float, str)) else float("nan")
    except (ValueError, OverflowError):
        value = float("nan")
    if not np.isfinite(value):
        raise ArtifactInvalid(f'"{key}": got {str(found)[:40]!r}, expected a finite number')
    return value


def floats(mapping: Mapping[str, Any], key: str, count: int | None = None) -> NDArray[np.float64]:
    """Return a flat list of numbers; of this length, if a count is given."""
    return _array(mapping, key, count).astype(np.float64)


def singles(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32; what is too large becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def integers(
    mapping: Mapping[str, Any], key: str, count: int | None = None, default: int | None = None
) -> NDArray[np.int64]:
    """Return a flat list of 32-bit integers; `count` times the default, unless it is None, where the key is missing."""
    if default is not None and key not in mapping:
        return np.full(count or 0, default, np.int64)
    found = _array(mapping, key, count)
    if found.dtype.kind == "f" and np.array_equal(found, np.rint(found)) and np.isfinite(found).all():
        found = np.clip(found, -(2.0**62), 2.0**62).astype(np.int64)
    bad = found.dtype.kind not in "biu" or (found.size > 0 and (found.min() < _INT32.min or found.max() > _INT32.max))
    if bad and found.size:
        raise ArtifactInvalid(f'"{key}": expected 32-bit integers')
    return found.astype(np.int64)


def _array(mapping: Mapping[str, Any], key: str, count: int | None) -> NDArray[Any]:
    found = mapping.get(key)
    if not isinstance(found, (list, np.ndarray)):
        got = "nothing" if found is None else type(found).__name__
        raise ArtifactInvalid(f'"{key}": got {got}, expected a list')
    try:
        array = np.asarray(found) if len(found) else np.zeros(0)
    except (ValueError, TypeError, OverflowError) as error:
        raise ArtifactInvalid(f'"{key}": expected numbers: {_one_line(error)}') from error
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise ArtifactInvalid(f'"{key}": expected a flat list of numbers')
    if count is not None and len(array) != count:
        raise ArtifactInvalid(f'"{key}": got {len(array)} numbers, expected {count}')
    return array


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
