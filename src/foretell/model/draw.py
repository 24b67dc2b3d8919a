"""Draw rows from what a signature says: for a proof without a sample, for golden examples, for examples in docs.

Pure but for the random generator it is given. Rows keep to ranges and categories, and go beyond them: a tenth
outside the range, missing values where they may be, values no category knows where the model takes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.signature import Field, Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["draw_rows", "plain_row"]

_MISSING_SHARE = 0.05
_UNKNOWN_SHARE = 0.03
_DAY_NS = 86_400_000_000_000


def draw_rows(signature: Signature, rows: int, seed: int = 0) -> pa.Table:
    """Return `rows` rows with a column per field: numbers as float64, texts as strings, nulls for missing."""
    import pyarrow as pa

    random = np.random.default_rng(seed)
    return pa.table({f.name: pa.array(_draw(f, rows, random), _arrow_type(f)) for f in signature.fields})


def plain_row(signature: Signature, seed: int = 0) -> dict[str, Any]:
    """Return one row without missing or unknown values, as a user would type it."""
    random = np.random.default_rng(seed)
    return {f.name: _known(f, 1, random)[0] for f in signature.fields}


def _draw(field: Field, rows: int, random: np.random.Generator) -> list[Any]:
    values = _known(field, rows, random)
    if field.kind == "category" and not field.closed:
        stranger = _stranger(field)
        values = [stranger if r < _UNKNOWN_SHARE else v for v, r in zip(values, random.random(rows), strict=True)]
    if field.nullable:
        values = [None if r < _MISSING_SHARE else v for v, r in zip(values, random.random(rows), strict=True)]
    return values


def _known(field: Field, rows: int, random: np.random.Generator) -> list[Any]:
    if field.kind == "category":
        known = field.categories or ("",)
        return [known[i] for i in random.integers(0, len(known), rows)]
    if field.kind == "boolean":
        return [bool(b) for b in random.random(rows) < 0.5]
    if field.kind == "text":
        words = ("north", "quiet", "paid", "late", "42", "élan", "two words")
        return [words[i] for i in random.integers(0, len(words), rows)]
    low, high = _range(field)
    if field.kind == "date":
        return [int(v) // _DAY_NS * _DAY_NS for v in random.uniform(low, high, rows)]
    margin = (high - low) / 10
    drawn = random.uniform(low - margin, high + margin, rows)
    if field.kind == "integer" or (float(low).is_integer() and float(high).is_integer() and high - low > 2):
        drawn = np.round(drawn)
    return [int(v) for v in drawn] if field.kind == "integer" else [float(v) for v in drawn]


def _range(field: Field) -> tuple[float, float]:
    if field.kind == "date":
        return field.low or 1.5e18, field.high or 1.7e18
    low = -2.0 if field.low is None else field.low
    high = 2.0 if field.high is None else field.high
    return (low, high) if low < high else (low - 1.0, low + 1.0)


def _stranger(field: Field) -> Any:
    """Return a value that is none of the categories, of their type."""
    if field.categories and isinstance(field.categories[0], str):
        return "never seen in training"
    return max((float(c) for c in field.categories), default=0.0) + 1.0


def _arrow_type(field: Field) -> Any:
    import pyarrow as pa

    if field.kind == "category":
        kinds = {type(c) for c in field.categories} or {str}
        return pa.string() if str in kinds else pa.float64()
    types = {"integer": pa.int64(), "boolean": pa.bool_(), "text": pa.string(), "date": pa.timestamp("ns")}
    return types.get(field.kind, pa.float64())
