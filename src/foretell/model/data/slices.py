"""Slices of a long table, so that each can be prepared on a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["many_rows", "slices"]

_MANY = 2_048
"""Rows from which on a table is worth slicing."""


def many_rows(data: Any) -> int:
    """Return how many rows a table has that is long enough to slice and has cheap slices; 0 for all other data."""
    if isinstance(data, np.ndarray):
        return len(data) if data.ndim == 2 and len(data) >= _MANY and type(data) is np.ndarray else 0
    if isinstance(data, (dict, list, tuple)):
        return 0
    rows = getattr(data, "num_rows", None)  # pyarrow
    if rows is None and hasattr(data, "iloc") and getattr(data, "ndim", 0) == 2:
        rows = len(data)  # pandas
    return rows if isinstance(rows, int) and rows >= _MANY else 0


def slices(data: Any, rows: int, share: int) -> Iterator[Any]:
    """Yield the rows of such a table in order, `share` at a time; views where the table has them."""
    for at in range(0, rows, share):
        if hasattr(data, "iloc"):
            yield data.iloc[at : at + share]
        elif hasattr(data, "num_rows"):
            yield data.slice(at, share)
        else:
            yield data[at : at + share]
