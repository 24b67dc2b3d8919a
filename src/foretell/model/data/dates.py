"""Dates as nanoseconds since 1970-01-01 UTC: of one value, or of a datetime64 array.

A date without a time zone is taken as UTC. Knows no field and no table.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.data.cells import Unfit

__all__ = ["MISSING_DATE", "nanoseconds", "nanoseconds_of"]

MISSING_DATE = -(1 << 63)
"""What a missing date is in an INT64 tensor: the least INT64, as numpy's NaT."""

_EPOCH = dt.datetime(1970, 1, 1)
_RANGE = "expected a date between 1677-09-22 and 2262-04-11, the range of INT64 nanoseconds"
_KIND = "expected a date: a datetime, or ISO 8601 text such as 2026-01-31T12:00:00"
_FRACTION = re.compile(r"(.*:\d\d)[.,](\d+)(\D.*)?", re.ASCII)
_LONGEST = 64
"""Characters; any ISO 8601 instant has fewer."""
_UNIT_NS = {"W": 604_800_000_000_000, "D": 86_400_000_000_000, "h": 3_600_000_000_000, "m": 60_000_000_000} | {
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}


def nanoseconds(value: Any) -> int:
    """Return one date, datetime, datetime64 or ISO 8601 text as nanoseconds.

    Raises:
        Unfit: It is none of these, or out of the range of INT64.
    """
    if isinstance(value, np.datetime64):
        ns, good = nanoseconds_of(np.array([value]))
        found = int(ns[0]) if good[0] else MISSING_DATE
    elif isinstance(value, str):
        found = _parse(value)
    elif isinstance(value, dt.datetime):
        found = _of_datetime(value) + getattr(value, "nanosecond", 0)
    elif isinstance(value, dt.date):
        found = _of_datetime(dt.datetime(value.year, value.month, value.day))
    else:
        raise Unfit(_KIND)
    if not MISSING_DATE < found <= -MISSING_DATE - 1:
        raise Unfit(_RANGE)
    return found


def nanoseconds_of(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return a datetime64 array as nanoseconds, and where they are right; NaT gives `MISSING_DATE`, and is right."""
    unit, count = np.datetime_data(values.dtype)
    if unit not in _UNIT_NS:
        values, unit, count = values.astype("datetime64[D]" if unit in "YM" else "datetime64[ns]"), "ns", 1
        unit = np.datetime_data(values.dtype)[0]
    ticks = values.astype(values.dtype.newbyteorder("=")).view(np.int64)
    factor = _UNIT_NS[unit] * count
    missing = ticks == MISSING_DATE
    most = -(MISSING_DATE + 1) // factor
    good = missing | ((ticks >= -most) & (ticks <= most))
    return np.where(missing | ~good, MISSING_DATE, np.where(good & ~missing, ticks, 0) * factor), good


def _of_datetime(value: dt.datetime) -> int:
    try:
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC).replace(tzinfo=None)
        since = dt.datetime(*value.timetuple()[:6], value.microsecond) - _EPOCH
    except (OverflowError, ValueError):
        raise Unfit(_RANGE) from None
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def _parse(text: str) -> int:
    # `fromisoformat` stops at microseconds; the digits after them are added here.
    if len(text) > _LONGEST:
        raise Unfit(_KIND)
    found = _FRACTION.fullmatch(text)
    if found and len(found[2]) > 9:
        raise Unfit("expected a date to the nanosecond, with at most 9 digits after the second")
    try:
        whole = dt.datetime.fromisoformat(f"{found[1]}{found[3] or ''}" if found else text)
    except ValueError:
        raise Unfit(_KIND) from None
    return _of_datetime(whole) + (int(found[2].ljust(9, "0")) if found else 0)
