"""Amounts as a person reads them."""

from __future__ import annotations

__all__ = ["amount_of_bytes", "amount_of_time"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def amount_of_bytes(count: float) -> str:
    """Return bytes with a unit, such as `1.2 GB`."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.{int(unit > 0)}f} {_UNITS[unit]}"


def amount_of_time(seconds: float) -> str:
    """Return seconds in at most two units, such as `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
