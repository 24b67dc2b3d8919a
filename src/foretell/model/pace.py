"""Which way of running a model is the faster, for how many rows. Pure but for the clock in `time_s`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["CHUNKS", "ROWS", "choose", "fastest", "time_s"]

ROWS = (1, 8, 64, 256, 1024, 16384)
"""Rows of a call at which the ways are measured."""
CHUNKS = (512, 2048, 4096, 16384)
"""Rows of a piece of a longer call that are tried."""
_GAIN = 0.9
"""A later way must take less than this share of the time, or the switch is not worth its memory."""


def choose(seconds: Sequence[Mapping[int, float]]) -> list[tuple[int, int]]:
    """Choose a way for each number of rows.

    Args:
        seconds: For each way, the seconds of a call by its number of rows; the same numbers in each.

    Returns:
        Pairs (index of the way, rows from which on it is used), the first from row 1, ascending.
        A way takes over where it is clearly faster, and stays so for every larger number measured.
    """
    counts = sorted(seconds[0])
    current = min(range(len(seconds)), key=lambda way: seconds[way][counts[0]])
    chosen = [(current, 1)]
    for at, count in enumerate(counts[1:], start=1):
        better = [way for way in range(len(seconds)) if _wins(seconds[way], seconds[current], counts[at:])]
        if better:
            current = min(better, key=lambda way: seconds[way][count])
            chosen.append((current, count))
    return _without_repeats(chosen)


def fastest(seconds: Mapping[str, Mapping[int, float]]) -> str:
    """Return which of several ways is the fastest over all numbers of rows measured; the first, unless clearly.

    Args:
        seconds: By the name of a way: seconds of a call by its number of rows; the same numbers in each.
    """
    first = next(iter(seconds))
    shares = {
        name: statistics.geometric_mean(taken[n] / seconds[first][n] for n in taken) for name, taken in seconds.items()
    }
    best = min(shares, key=lambda name: shares[name])
    return best if shares[best] < _GAIN else first


def time_s(call: Callable[[], object], *, budget_s: float = 0.2, at_least: int = 3, at_most: int = 200) -> float:
    """Return the median seconds of a call, after one warm-up, within about `budget_s` seconds."""
    call()
    taken: list[float] = []
    while len(taken) < at_least or (sum(taken) < budget_s and len(taken) < at_most):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _wins(challenger: Mapping[int, float], holder: Mapping[int, float], counts: Sequence[int]) -> bool:
    return challenger is not holder and all(challenger[n] < holder[n] * _GAIN for n in counts)


def _without_repeats(chosen: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop a way that comes back: it is used from where it last took over, and before that the first one is."""
    last = {way: rows for way, rows in chosen[1:]}
    kept = [chosen[0]]
    kept += [(way, rows) for way, rows in chosen[1:] if last[way] == rows and way != chosen[0][0]]
    return kept
